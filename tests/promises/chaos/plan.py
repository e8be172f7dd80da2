"""What happens in which round: enums, the table of what goes with what, and the seeded plan.

The plan is an endless sequence of sessions that depends on the seed alone, so that SEED:ROUND names
a round for ever. A session is one conversation, and one or several rounds (runs) of it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from enum import StrEnum
from typing import TypeVar

import msgspec

_T = TypeVar("_T")


class Tool(StrEnum):
    """What a call does. Each is a function of `tools`, save SHELL, which is the built-in one."""

    POLLING = "polling"
    WAITING = "waiting"
    SLEEPING = "sleeping"
    BUSY_PYTHON = "busy_python"
    BUSY_C = "busy_c"
    TREE = "tree"
    DAEMONISER = "daemoniser"
    TERM_IGNORER = "term_ignorer"
    SELF_STOPPER = "self_stopper"
    FORK_LOOP = "fork_loop"
    FLOOD = "flood"
    SLOW_IMPORT = "slow_import"
    ATTACKER = "attacker"
    SHELL = "shell"


class Phase(StrEnum):
    """Where a run is when it is struck."""

    OPENING = "opening"
    """The sandbox is being made."""
    GAP = "gap"
    """Between two turns' calls, while the model thinks."""
    STARTING = "starting"
    """A call has been dispatched and none has been acknowledged."""
    IN_FLIGHT = "in_flight"
    """A call's tool runs."""
    VERIFY = "verify"
    """A verify command runs."""
    SHUTDOWN = "shutdown"
    """The model has said that it is done; the run ends and the sandbox is closed."""
    MODEL = "model"
    """A provider is being asked, through the model process."""


class Cause(StrEnum):
    """What strikes."""

    INTERRUPT = "interrupt"
    INTERRUPT_TWICE = "interrupt_twice"
    CANCEL_CALL = "cancel_call"
    TIMEOUT = "timeout"
    BUDGET = "budget"
    TASK_CANCEL = "task_cancel"
    CANCEL_STORM = "cancel_storm"
    """The same in each turn of the loop, until the task has ended, as anyio does it."""
    CLOSE = "close"
    CTRL_C = "ctrl_c"
    """SIGINT to a program that blocks in `run()`."""
    SIGINT = "sigint"
    """This and the next two: to the command."""
    SIGTERM = "sigterm"
    SIGHUP = "sighup"
    CTRL_Z = "ctrl_z"
    """SIGTSTP to the command, SIGCONT once it has stopped, SIGINT."""
    FREEZE_DISK = "freeze_disk"
    """The file system of the command's run folder stands still, then SIGINT. It goes on once the
    tools must have stopped. Root alone can freeze one: FIFREEZE, ioctl_fsfreeze(2)."""
    SLOW_READER = "slow_reader"
    """What the command prints is not read any more, then SIGINT."""
    READER_GONE = "reader_gone"
    """The reader of what the command prints has ended, then SIGINT."""
    NO_PROCESSES = "no_processes"
    """Neither the agent nor what is below it may start another process or thread (RLIMIT_NPROC),
    then an interrupt."""
    OUT_OF_MEMORY = "out_of_memory"
    """Memory runs out in the sandbox's control group, and the kernel ends what is largest there.
    Then an interrupt. Root alone can make a group."""
    STOP_AGENT = "stop_agent"
    """SIGSTOP and SIGCONT, after an interrupt or before one."""
    KILL_WORKER = "kill_worker"
    KILL_CALL_INIT = "kill_call_init"
    KILL_INIT = "kill_init"
    KILL_SPAWNER = "kill_spawner"
    KILL_SPARE = "kill_spare"
    """The newest worker: as a rule one that waits for a call, or that a call has just taken."""
    KILL_AGENT = "kill_agent"
    STOP_WORKER = "stop_worker"
    """SIGSTOP, then an interrupt, then SIGCONT. As the next two."""
    STOP_INIT = "stop_init"
    STOP_SPAWNER = "stop_spawner"
    FREEZE_AND_KILL_AGENT = "freeze_and_kill_agent"
    """SIGSTOP of everything below the agent, then SIGKILL of the agent."""
    PAUSE = "pause"
    """Nothing is stopped: the run ends when what is going on has ended."""
    CANCEL_RUN = "cancel_run"
    """As `sandbox-agent cancel` does it, from another process."""
    KILL_MODEL = "kill_model"
    """The process that asks the provider; what it was asked must be asked again. As the next three,
    which keep it."""
    KILL_MODEL_CALL_INIT = "kill_model_call_init"
    KILL_MODEL_INIT = "kill_model_init"
    KILL_MODEL_SPAWNER = "kill_model_spawner"
    STOP_MODEL = "stop_model"
    """SIGSTOP, then an interrupt, then SIGCONT. As the next three."""
    STOP_MODEL_CALL_INIT = "stop_model_call_init"
    STOP_MODEL_INIT = "stop_model_init"
    STOP_MODEL_SPAWNER = "stop_model_spawner"


class Waits(StrEnum):
    """How a provider that is asked keeps one waiting."""

    COLD = "cold"
    """The model process may not be there yet."""
    SLOW = "slow"
    """Its first byte comes late."""
    NEVER = "never"
    """Nothing ever comes."""
    STREAMING = "streaming"
    """It answers piece by piece."""
    STALLED = "stalled"
    """It has begun to answer, and nothing more comes."""


READER = frozenset({Cause.SLOW_READER, Cause.READER_GONE})
"""Causes about the command's standard output."""

COMMAND = READER | {Cause.SIGINT, Cause.SIGTERM, Cause.SIGHUP, Cause.CTRL_Z, Cause.FREEZE_DISK}
"""Causes that strike the real command line."""

NEEDS_ROOT = frozenset({Cause.FREEZE_DISK, Cause.OUT_OF_MEMORY})

AGENT_DIES = frozenset({Cause.KILL_AGENT, Cause.FREEZE_AND_KILL_AGENT})

SOUGHT = frozenset(c for c in Cause if c.startswith(("kill_", "stop_", "freeze_"))) - {
    Cause.STOP_AGENT
}
"""Causes whose victims are looked for in /proc."""

ALL_PHASES = frozenset(Phase)
SCRIPTED_PHASES = ALL_PHASES - {Phase.MODEL}
"""Of conversations whose model is a script, which answers at once."""

UNDER_WAY = frozenset({Phase.IN_FLIGHT, Phase.VERIFY, Phase.MODEL})
"""A call's tool or a request to a provider is struck."""

_CALL = frozenset({Phase.STARTING, Phase.IN_FLIGHT, Phase.VERIFY})
_KEEPERS = SCRIPTED_PHASES
"""What keeps the tools' sandbox has nothing to do with providers."""
_MODEL = frozenset({Phase.MODEL})

KILLS_MODEL = frozenset(c for c in Cause if c.startswith("kill_model"))
KILLS_CALL = frozenset({Cause.KILL_WORKER, Cause.KILL_CALL_INIT, Cause.KILL_SPARE})
"""Causes that end one call at most, which does not end the run: an interrupt follows."""
KILLS_KEPT = KILLS_CALL | {Cause.KILL_INIT, Cause.KILL_SPAWNER}
STOPS_MODEL = frozenset(c for c in Cause if c.startswith("stop_model"))

LEGAL_PHASES: dict[Cause, frozenset[Phase]] = {
    Cause.INTERRUPT: ALL_PHASES,
    Cause.INTERRUPT_TWICE: ALL_PHASES,
    Cause.CANCEL_CALL: _CALL,
    Cause.TIMEOUT: _CALL,
    # It has no say once the run's end is decided.
    Cause.BUDGET: ALL_PHASES - {Phase.SHUTDOWN},
    Cause.TASK_CANCEL: ALL_PHASES,
    Cause.CANCEL_STORM: UNDER_WAY | {Phase.OPENING},
    Cause.CLOSE: ALL_PHASES,
    # After `run()` Ctrl-C is the embedding program's own affair.
    Cause.CTRL_C: ALL_PHASES - {Phase.SHUTDOWN},
    # The command's scripted model answers at once: there is no gap to aim at.
    Cause.SIGINT: SCRIPTED_PHASES - {Phase.GAP},
    Cause.SIGTERM: SCRIPTED_PHASES - {Phase.GAP},
    Cause.SIGHUP: SCRIPTED_PHASES - {Phase.GAP},
    Cause.CTRL_Z: _CALL,
    Cause.FREEZE_DISK: _CALL,
    Cause.SLOW_READER: _CALL,
    Cause.READER_GONE: _CALL,
    Cause.NO_PROCESSES: _CALL,
    Cause.OUT_OF_MEMORY: _CALL,
    Cause.STOP_AGENT: UNDER_WAY | {Phase.STARTING},
    Cause.KILL_WORKER: _CALL,
    Cause.KILL_CALL_INIT: _CALL,
    Cause.KILL_INIT: _KEEPERS,
    Cause.KILL_SPAWNER: _KEEPERS,
    Cause.KILL_SPARE: _CALL | {Phase.GAP},
    Cause.KILL_AGENT: ALL_PHASES,
    Cause.STOP_WORKER: _CALL,
    Cause.STOP_INIT: _KEEPERS,
    Cause.STOP_SPAWNER: _KEEPERS,
    Cause.FREEZE_AND_KILL_AGENT: ALL_PHASES,
    # What is verified is over when it is over; and then nothing is left to pause before.
    Cause.PAUSE: ALL_PHASES - {Phase.VERIFY, Phase.SHUTDOWN},
    # The pipe is there while a run is going. While a call starts it is an interrupt like any other.
    Cause.CANCEL_RUN: frozenset({Phase.GAP, Phase.IN_FLIGHT, Phase.VERIFY, Phase.MODEL}),
    **dict.fromkeys(sorted(KILLS_MODEL | STOPS_MODEL), _MODEL),
}

TOOL_PHASES = ALL_PHASES - {Phase.OPENING, Phase.MODEL}
"""While the sandbox is being made there are no tools yet, and while a provider is asked none runs.
Else every tool goes with every phase and with every cause."""

TOOL_CAUSES = tuple(cause for cause, phases in LEGAL_PHASES.items() if phases != _MODEL)

LEGAL: dict[str, tuple[tuple[str, str], ...]] = {
    "phase x cause": tuple(
        (p, c) for c, phases in LEGAL_PHASES.items() for p in Phase if p in phases
    ),
    "tool x cause": tuple(itertools.product(Tool, TOOL_CAUSES)),
    "waits x cause": (
        *((w, c) for w in Waits for c in (Cause.INTERRUPT, Cause.INTERRUPT_TWICE)),
        *((w, Cause.TASK_CANCEL) for w in (Waits.STREAMING, Waits.NEVER)),
    ),
    "tool x phase": tuple((t, p) for t in Tool for p in Phase if p in TOOL_PHASES),
}

LONE = frozenset(
    {Cause.SIGINT, Cause.SIGTERM, Cause.SIGHUP, Cause.CTRL_Z, Cause.FREEZE_DISK, *AGENT_DIES}
)
"""Causes of which some strike `exec`, where they strike a command."""
LONE_PHASES = frozenset({Phase.OPENING, Phase.STARTING, Phase.IN_FLIGHT, Phase.SHUTDOWN})
"""What it goes through."""
_LONE_IN = 4
"""One in so many of them."""

DEFAULT_TIMES = (2.0, 1.0)
QUICK_TIMES = (0.1, 0.1)
ONE_IN = 50
"""So many rounds run with the default grace and term."""

_SOLO = COMMAND | {Cause.TIMEOUT, Cause.BUDGET, Cause.OUT_OF_MEMORY}
_LAST = AGENT_DIES | {Cause.CLOSE}
_SESSION = 8

_MODEL_SESSION = 20
"""More, because each session's model process takes seconds to import litellm."""
_MODEL_ROUNDS = 66
"""In each deck, of which the legal pairs are some. So many that one in eight ends the process."""


class Use(msgspec.Struct, frozen=True):
    """One call of a round. brief: it does its worst and returns, instead of staying until it is
    stopped. mark: random digits in the arguments of whatever it starts."""

    tool: Tool
    brief: bool
    mark: str


class Round(msgspec.Struct, frozen=True):
    """number: from 0. uses: the calls, in parallel up to `parallel`. ready: strike only when every
    running tool has finished its preparations. jitter: seconds from the phase to the strike.
    pause: seconds between the two strikes of causes that have two. long: the time that a timeout or
    budget leaves, in seconds. choice: picks a victim. by_arun: run by `arun()`. waits, turn: where
    a provider is asked, how it keeps the run waiting, and before which of its turns, from 0.
    command: by the command line. lone: by `exec`, which makes one call and asks no model."""

    number: int
    cause: Cause
    phase: Phase
    uses: tuple[Use, ...]
    parallel: int
    ready: bool
    jitter: float
    pause: float
    long: float
    choice: int
    by_arun: bool
    command: bool
    times: tuple[float, float]
    waits: Waits | None = None
    turn: int = 0
    lone: bool = False


class Session(msgspec.Struct, frozen=True):
    """Rounds that share one conversation, as far as what strikes it leaves one. user: an ordinary
    user makes them, where both kinds are asked for. asks: a provider, through the model process."""

    seed: int
    number: int
    user: bool
    rounds: tuple[Round, ...]
    asks: bool = False


def sessions(seed: int) -> Iterator[Session]:
    """The plan of this seed."""
    dice = random.Random(seed)
    number = itertools.count()
    index = itertools.count()
    tools = _endless(dice, list(Tool))
    for n, drawn in enumerate(_drawn(dice)):
        place = next(index)
        made: list[Round] = []
        for cause, phase, default_times in drawn:
            made.append(_round(dice, next(number), cause, phase, default_times, tools))
        asks = made[0].phase is Phase.MODEL
        user = bool(n % 2) and made[0].cause not in NEEDS_ROOT
        if len(made) > 1 and made[-1].command:  # which shares no conversation
            yield Session(seed, place, user, tuple(made[:-1]), asks)
            place, made = next(index), made[-1:]
        yield Session(seed, place, user, tuple(made), asks)


_Draw = tuple[Cause, Phase, bool]


def _drawn(dice: random.Random) -> Iterator[list[_Draw]]:
    """Deck after deck, cut into sessions."""
    number = itertools.count(1)
    due = 0
    while True:
        deck = _deck(dice)
        asking = [draw for draw in deck if draw[1] is Phase.MODEL]
        scripted = [draw for draw in deck if draw[1] is not Phase.MODEL]
        cut = _cut_asking(asking)
        spread = max(1, len(scripted) // (len(cut) + 1))
        sharing: list[_Draw] = []
        for place, (cause, phase) in enumerate(scripted):
            if place % spread == spread - 1 and cut:
                session = cut.pop(0)
                yield [(c, p, False) for c, p in session]
                # Theirs are too costly to be slow on purpose.
                due += sum(next(number) % ONE_IN == 0 for _ in session)
            due += next(number) % ONE_IN == 0
            default_times, due = due > 0, max(0, due - 1)
            draw = (cause, phase, default_times)
            if default_times or cause in _SOLO:
                yield [draw]
                continue
            if phase is Phase.OPENING and sharing:
                yield sharing
                sharing = []
            sharing.append(draw)
            if cause in _LAST or phase is Phase.SHUTDOWN or len(sharing) == _SESSION:
                yield sharing
                sharing = []
        if sharing:
            yield sharing


def _cut_asking(draws: list[tuple[Cause, Phase]]) -> list[list[tuple[Cause, Phase]]]:
    """Sessions of those that ask a provider, which do as often as can be without a new agent."""
    sharing = [draw for draw in draws if draw[0] not in _SOLO | _LAST]
    last = [draw for draw in draws if draw[0] in _LAST]
    cut = [sharing[at : at + _MODEL_SESSION] for at in range(0, len(sharing), _MODEL_SESSION)]
    for place, draw in enumerate(last):
        if place < len(cut):
            cut[place].append(draw)
        else:
            cut.append([draw])
    return cut + [[draw] for draw in draws if draw[0] in _SOLO]


def _deck(dice: random.Random) -> list[tuple[Cause, Phase]]:
    """Every legal pair once, and so many more that strike something under way that four in five
    do, with something over for strikes that come too late. What is hard to hit is in it twice."""
    deck = [(c, p) for c, phases in LEGAL_PHASES.items() for p in sorted(phases)]
    asking = [c for c, p in deck if p is Phase.MODEL]
    kind = [c for c in asking if c not in _SOLO | _LAST | KILLS_MODEL | STOPS_MODEL]
    kinds = _endless(dice, kind)
    deck += [(next(kinds), Phase.MODEL) for _ in range(_MODEL_ROUNDS - len(asking))]
    running = sum(p in UNDER_WAY for _, p in deck)
    wanted = round(4.7 * (len(deck) - running)) - running
    fewer = [c for c in Cause if c in COMMAND or c in AGENT_DIES]
    calls = [c for c in Cause if Phase.IN_FLIGHT in LEGAL_PHASES[c]]
    causes = _endless(dice, [*calls, *(c for c in calls if c not in fewer)])
    deck += [(next(causes), Phase.IN_FLIGHT) for _ in range(wanted)]
    dice.shuffle(deck)
    return deck


def _endless(dice: random.Random, items: list[_T]) -> Iterator[_T]:
    """Shuffled again and again, so that none comes up much less often than another."""
    while True:
        dice.shuffle(items)
        yield from tuple(items)


def _round(
    dice: random.Random,
    number: int,
    cause: Cause,
    phase: Phase,
    default_times: bool,
    tools: Iterator[Tool],
) -> Round:
    command = cause in COMMAND or (
        cause in AGENT_DIES and dice.random() < 0.15 and phase not in (Phase.GAP, Phase.MODEL)
    )
    brief = phase in (Phase.GAP, Phase.VERIFY, Phase.SHUTDOWN, Phase.MODEL) or cause is Cause.PAUSE
    uses = tuple(
        Use(next(tools), brief, str(dice.randrange(10**15, 10**16)))
        for _ in range(dice.choice((2, 3, 3, 4)))
    )
    spread = {
        Phase.OPENING: 0.20 if command else 0.12,
        Phase.GAP: 0.05,
        Phase.STARTING: 0.012,
        Phase.IN_FLIGHT: 0.06,
        Phase.VERIFY: 0.04,
        Phase.SHUTDOWN: 0.02,
        Phase.MODEL: 0.15,
    }[phase]
    hurried = (phase is Phase.STARTING and cause in SOUGHT) or (
        phase in (Phase.STARTING, Phase.IN_FLIGHT) and cause is Cause.PAUSE
    )
    made = Round(
        number=number,
        cause=cause,
        phase=phase,
        uses=uses,
        # Sometimes too few places: what waits in the queue must never start after the flag.
        parallel=dice.choice((1, 2, 8, 8, 8)),
        # What is brief is struck soon, or it is over.
        ready=dice.random() < 0.7 and cause is not Cause.PAUSE,
        # Victims have to be looked for, which is jitter enough in the shortest of phases.
        jitter=dice.random() * (0.003 if hurried else spread),
        pause=dice.random() * 0.04,
        long=dice.uniform(0.12, 0.30),
        choice=dice.randrange(1 << 30),
        by_arun=dice.random() < 0.5,
        command=command,
        times=DEFAULT_TIMES if default_times else QUICK_TIMES,
        waits=_waits(dice, cause) if phase is Phase.MODEL else None,
        turn=dice.randrange(2),
    )
    is_lone = command and cause in LONE and phase in LONE_PHASES and made.choice % _LONE_IN == 0
    return _lone(made) if is_lone else made


def _lone(plan: Round) -> Round:
    """The same by `exec`. Of the two times it can be told the grace period."""
    uses = (msgspec.structs.replace(plan.uses[0], tool=Tool.SHELL),)
    times = (plan.times[0], DEFAULT_TIMES[1])
    return msgspec.structs.replace(plan, uses=uses, parallel=1, times=times, lone=True)


def _waits(dice: random.Random, cause: Cause) -> Waits:
    if cause is Cause.PAUSE:  # which lets it go on, so it must come to an end
        return dice.choice((Waits.SLOW, Waits.STREAMING))
    if cause in SOUGHT and cause not in AGENT_DIES:  # who is not there yet cannot be struck
        return dice.choice((Waits.SLOW, Waits.NEVER, Waits.STREAMING, Waits.STALLED))
    return dice.choice(list(Waits))
