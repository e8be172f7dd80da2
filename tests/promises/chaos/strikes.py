"""How each cause strikes, from outside or by asking the agent."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import observer
from sandbox_agent.embedding.control import request_interrupt

from chaos import disk, keepers, memory
from chaos.keepers import send
from chaos.plan import KILLS_CALL, KILLS_KEPT, KILLS_MODEL, READER, STOPS_MODEL, Cause, Phase, Round

VERIFY_COMMAND = "sh .chaos/verify.sh"
"""Of every conversation here. What the script does is the round's."""

SIGNALS = {
    Cause.CTRL_C: signal.SIGINT,
    Cause.SIGINT: signal.SIGINT,
    Cause.SIGTERM: signal.SIGTERM,
    Cause.SIGHUP: signal.SIGHUP,
    Cause.SLOW_READER: signal.SIGINT,
    Cause.READER_GONE: signal.SIGINT,
}

PROMPTLY = 1.0
"""Seconds beyond grace and term in which the tools have gone, on a machine with much to do."""

STOPS = 2.0
"""Seconds in which a command that was told to must have stopped."""

DEPTH = {
    Cause.KILL_SPAWNER: 1,
    Cause.STOP_SPAWNER: 1,
    Cause.KILL_INIT: 2,
    Cause.STOP_INIT: 2,
    Cause.KILL_CALL_INIT: 3,
    Cause.KILL_WORKER: 4,
    Cause.KILL_SPARE: 4,
    Cause.OUT_OF_MEMORY: 4,
    Cause.STOP_WORKER: 4,
    Cause.KILL_MODEL_SPAWNER: 1,
    Cause.STOP_MODEL_SPAWNER: 1,
    Cause.KILL_MODEL_INIT: 2,
    Cause.STOP_MODEL_INIT: 2,
    Cause.KILL_MODEL_CALL_INIT: 3,
    Cause.STOP_MODEL_CALL_INIT: 3,
    Cause.KILL_MODEL: 4,
    Cause.STOP_MODEL: 4,
}
"""How far below the agent the victim lives: agent, spawner, init, call's init, worker."""

if keepers.WITHOUT_NAMESPACES:
    # There it is: agent, spawner, supervisor, starter, worker. The spawner is what init is in the
    # other plans, and a supervisor is what the call's init is.
    for cause, depth in DEPTH.items():
        if depth in (2, 3):
            DEPTH[cause] = depth - 1

OR_STARTER = frozenset({Cause.KILL_CALL_INIT, Cause.STOP_INIT, Cause.STOP_MODEL_INIT})
"""Causes that strike, without namespaces, every other time a starter: it has no cause of its own.
Spawners have another one."""

TOGETHER = 3
"""Without namespaces, one in so many kills of an agent is a kill of all that keep its calls, too.
Promise 7 has one exception, and this is it: DESIGN.md and sandbox/README.md name it."""


@dataclass
class Strike:
    """What was done. at: when the first blow fell. flagged: when the run was told to stop, by
    somebody whose word counts from then on. victims: who was killed or stopped. thawed: when the
    disk went on. limited: the soft limits to give back, by pid. ended_for_memory: whether the
    kernel has ended a process of a call because memory ran out. together: the names of those
    who kept the agent's calls and were killed in the same moment."""

    at: float | None = None
    flagged: float | None = None
    frozen: list[observer.Process] = field(default_factory=list)
    victims: list[observer.Process] = field(default_factory=list)
    cancelled: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hurried: float | None = None
    thawed: float | None = None
    limited: dict[int, tuple[int, int]] = field(default_factory=dict)
    ended_for_memory: bool = False
    together: list[str] = field(default_factory=list)


def by_depth(root: int) -> dict[int, list[observer.Process]]:
    """Everything below a process, by its distance from it. Quick: while a call starts, reading all
    of /proc would take longer than what is to be struck."""
    found: dict[int, list[observer.Process]] = {}
    top = observer.look(root)
    level = [root]
    for depth in itertools.count(1):
        pids = itertools.chain.from_iterable(map(_children, level))
        below = [process for process in map(observer.look, pids) if process is not None]
        if depth == 1 and top is not None:
            # Until its exec a vfork child is the agent: it runs in the agent's memory, and the
            # agent's thread is suspended until then. Who stops it has stopped the agent. vfork(2)
            below = [process for process in below if process.command != top.command]
        if not below:
            return found
        found[depth] = below
        level = [process.pid for process in below]
    raise AssertionError


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(word) for word in file.read().split()]
    return found


def find_victim(agent: int, plan: Round, patience: float = 0.1) -> observer.Process | None:
    """One of those that the cause is about, or of the deepest that there are above them."""
    deadline = time.monotonic() + patience
    while True:
        levels = by_depth(agent)
        candidates = _candidates(levels, plan)
        if not candidates and time.monotonic() > deadline and levels:
            candidates = levels[max(level for level in levels)]
        if candidates and plan.cause is Cause.KILL_SPARE:
            return max(candidates, key=lambda one: (_waits(one), one.start, one.pid))
        if candidates:
            return candidates[plan.choice % len(candidates)]
        if time.monotonic() > deadline:
            return None


def _candidates(levels: dict[int, list[observer.Process]], plan: Round) -> list[observer.Process]:
    if _strikes_starter(plan):
        every = itertools.chain.from_iterable(levels.values())
        return [one for one in every if one.name == keepers.STARTER]
    return [one for one in levels.get(DEPTH[plan.cause], ()) if not keepers.is_reaper(one)]


def _waits(process: observer.Process) -> bool:
    """Whether a worker waits for its call, in recvmsg(2): a spare. Not known to every user, and not
    of every machine. proc_pid_syscall(5)"""
    with contextlib.suppress(OSError), open(f"/proc/{process.pid}/syscall") as file:
        number = {"x86_64": "47", "aarch64": "212"}.get(os.uname().machine)
        return file.read().partition(" ")[0] == number
    return False


def _of_verify(agent: int) -> list[observer.Process]:
    """Who runs the verify command. Spares were begun before its worker."""
    return [one for one in observer.descendants(agent) if VERIFY_COMMAND in one.command]


def _of_calls(agent: int, number: int) -> list[observer.Process]:
    """The workers of so many calls. A spare that does not wait yet is newer than any of them."""
    found = [
        one
        for one in by_depth(agent).get(DEPTH[Cause.OUT_OF_MEMORY], ())
        if one.name == keepers.WORKER and not _waits(one)
    ]
    return sorted(found, key=lambda one: (one.start, one.pid))[:number]


def _of_tools(plan: Round) -> list[observer.Process]:
    """Who has the mark of a tool of this round."""
    return [one for use in plan.uses for one in observer.marked(use.mark)]


def _strikes_starter(plan: Round) -> bool:
    return keepers.WITHOUT_NAMESPACES and plan.cause in OR_STARTER and bool(plan.choice % 2)


def models_own(agent: int) -> list[observer.Process]:
    """The model process and what keeps it, from the spawner down; as many as there are. While no
    call is going on, nobody else is as far below the agent."""
    levels = by_depth(agent)
    found: list[observer.Process] = []
    for depth in (4, 3):
        if len(levels.get(depth, ())) == 1:
            found = levels[depth]
            break
    while found and found[0].parent != agent:
        above = observer.look(found[0].parent)
        if above is None:
            return []
        found = [above, *found]
    return found


def find_model(agent: int, plan: Round, patience: float = 0.1) -> observer.Process | None:
    """The one of those that the cause is about."""
    deadline = time.monotonic() + patience
    while len(found := models_own(agent)) < 4:
        if time.monotonic() > deadline:
            return None
    return found[2 if _strikes_starter(plan) else DEPTH[plan.cause] - 1]


Ask = Callable[..., None]
"""Asks the agent to strike itself, and waits until it says that it has."""


def strike(
    plan: Round, agent: int, ask: Ask, open_calls: Callable[[], list[str]], run_dir: Path
) -> Strike:
    """Strike as planned, now. open_calls: ids of the calls that have not ended.

    The pause between two blows is drawn by the plan and waits for nothing: it is what is tried.
    """
    done = Strike()
    match plan.cause:
        case Cause.CTRL_C | Cause.SIGINT | Cause.SIGTERM | Cause.SIGHUP:
            done.at = time.monotonic()
            _kill(agent, SIGNALS[plan.cause])
            done.flagged = time.monotonic()
        case cause if cause in READER:
            done.at = time.monotonic()
            time.sleep(plan.pause)
            done.flagged = time.monotonic()
            _kill(agent, SIGNALS[plan.cause])
        case Cause.FREEZE_DISK:
            with disk.frozen(run_dir):
                done.at = time.monotonic()
                time.sleep(plan.pause)
                done.flagged = time.monotonic()
                _kill(agent, signal.SIGINT)
                _await_stopped_tools(plan, done)
            done.thawed = time.monotonic()
        case Cause.NO_PROCESSES:
            done.at = time.monotonic()
            below = itertools.chain.from_iterable(by_depth(agent).values())
            for pid in (agent, *(process.pid for process in below)):
                _limit(pid, done)
            time.sleep(plan.pause)
            ask(done, "interrupt")
        case Cause.CTRL_Z:
            done.at = time.monotonic()
            _kill(agent, signal.SIGTSTP)
            if not _await_stop(agent):
                done.notes.append("the command did not stop")
            _kill(agent, signal.SIGCONT)
            time.sleep(plan.pause)
            done.flagged = time.monotonic()
            _kill(agent, signal.SIGINT)
        case Cause.STOP_AGENT:
            done.at = time.monotonic()
            if plan.choice % 2:
                ask(done, "interrupt")
            _kill(agent, signal.SIGSTOP)
            time.sleep(plan.pause)
            _kill(agent, signal.SIGCONT)
            if not plan.choice % 2:
                ask(done, "interrupt")
        case Cause.KILL_AGENT:
            done.at = done.flagged = time.monotonic()
            if keepers.WITHOUT_NAMESPACES and not plan.choice % TOGETHER:
                done.together = keepers.kill_together(agent)
                done.at = done.flagged = time.monotonic()
            _kill(agent, signal.SIGKILL)
        case Cause.FREEZE_AND_KILL_AGENT:
            done.frozen = list(itertools.chain.from_iterable(by_depth(agent).values()))
            for process in done.frozen:
                send(process, signal.SIGSTOP)
            done.at = done.flagged = time.monotonic()
            _kill(agent, signal.SIGKILL)
        case cause if cause in KILLS_KEPT:
            victim = find_victim(agent, plan)
            done.at = time.monotonic()
            if victim is not None and send(victim, signal.SIGKILL):
                done.victims = [victim]
            if plan.cause in KILLS_CALL:
                time.sleep(plan.pause)
                ask(done, "interrupt")
        case Cause.OUT_OF_MEMORY:
            if plan.phase is Phase.VERIFY:
                members = _of_verify(agent)
            else:
                members = [*_of_calls(agent, len(open_calls())), *_of_tools(plan)]
            groups = {group for one in members if (group := memory.group_of(one.pid))}
            done.at = time.monotonic()
            done.ended_for_memory = bool(groups) and memory.run_out(groups)
            time.sleep(plan.pause)
            ask(done, "interrupt")
        case Cause.STOP_WORKER | Cause.STOP_INIT | Cause.STOP_SPAWNER:
            victim = find_victim(agent, plan)
            done.at = time.monotonic()
            if victim is not None and send(victim, signal.SIGSTOP):
                done.frozen = done.victims = [victim]
            time.sleep(plan.pause)
            ask(done, "interrupt")
        case Cause.CANCEL_CALL:
            done.at = time.monotonic()
            for call in open_calls():
                before = time.monotonic()
                ask(done, "cancel_call", call=call)
                done.cancelled[call] = before
            done.flagged = None
        case Cause.INTERRUPT_TWICE:
            ask(done, "interrupt")
            time.sleep(plan.pause)
            done.hurried = time.monotonic()
            ask(done, "interrupt")
        case Cause.INTERRUPT | Cause.TASK_CANCEL | Cause.CANCEL_STORM | Cause.CLOSE:
            ask(done, plan.cause.value)
        case Cause.PAUSE:
            ask(done, "pause")
            done.flagged = None  # nobody is told to stop
        case Cause.CANCEL_RUN:
            before = time.monotonic()
            door = request_interrupt(run_dir)
            if door is not None:
                os.close(door)
                done.at = done.flagged = before
        case cause if cause in KILLS_MODEL:
            victim = find_model(agent, plan)
            done.at = time.monotonic()
            if victim is not None and send(victim, signal.SIGKILL):
                done.victims = [victim]
        case cause if cause in STOPS_MODEL:
            victim = find_model(agent, plan)
            done.at = time.monotonic()
            if victim is not None and send(victim, signal.SIGSTOP):
                done.frozen = done.victims = [victim]
            time.sleep(plan.pause)
            ask(done, "interrupt")
        case Cause.TIMEOUT | Cause.BUDGET:
            pass  # they strike by themselves
    return done


def thaw(done: Strike) -> None:
    """Let go on what was stopped, and give back what was taken, where it is still there."""
    for pid, limits in done.limited.items():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(pid, resource.RLIMIT_NPROC, limits)
    for process in done.frozen:
        send(process, signal.SIGCONT)


def _await_stopped_tools(plan: Round, done: Strike) -> None:
    """Until no process of the round's tools is left, or it should have gone long ago."""
    limit = sum(plan.times) + PROMPTLY
    deadline = time.monotonic() + limit
    marks = [use.mark for use in plan.uses]
    while left := [p for p in observer.everything() if any(mark in p.command for mark in marks)]:
        if time.monotonic() > deadline:
            names = [process.command[:60] for process in left]
            done.notes.append(f"{limit:.2f} s after SIGINT, the disk still frozen: {names}")
            return
        time.sleep(0.01)


def _limit(pid: int, done: Strike) -> None:
    """Lower RLIMIT_NPROC for a process: fork(2) and clone(2) give EAGAIN from here on. The hard
    limit stays, so that the soft one can be given back. prlimit(2)"""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
        resource.prlimit(pid, resource.RLIMIT_NPROC, (1, hard))
        done.limited[pid] = (soft, hard)


def _await_stop(agent: int) -> bool:
    """False when it goes on. (WNOWAIT: its end, if that comes first, is somebody else's to see.) It
    may take a second until its tools have stopped, and then it."""
    deadline = time.monotonic() + STOPS
    flags = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            if os.waitid(os.P_PID, agent, flags) is not None:
                return True
        time.sleep(0.001)  # between looks: waitid(2) knows no time limit
    return False


def _kill(pid: int, number: int) -> None:
    # Our own child, not yet waited for: the pid is still its own.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
