"""The three plans beside each other, in turns.

To open a sandbox, a call, the last rung for one to a thousand processes, a storm of them, and the
end of all after SIGKILL of the agent.

The plan `shared_proc` is measured where nobody can mount a fresh /proc. Everything runs in a pid
namespace of its own (`bench/command.py`): a sandbox without namespaces kills everybody that it can
reach, and a storm must not take the pids of others.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence

import identity
import leaks
import observer
import struck
from identity import BIN, Person

from bench.asked import PROGRAMS
from bench.errors import CannotMeasure
from bench.results import Target, at_most, ratio_at_most
from bench.rounds import Figures
from bench.setting import Setting

KINDS = {"full": "", "shared_proc": " in masked-proc", "no_namespaces": ""}
"""Each kind of plan, and where it is measured."""
WEAKEST = "no_namespaces"

PROGRAM = str(PROGRAMS / "plan.py")
QUICK = ("open", "call", "kill 10")
LIMIT = 400.0
"""Seconds for all figures of one plan in one round."""

FIGURES = {
    "open": "open a sandbox",
    "call": "a call of /bin/true",
    "kill 1": "KILL rung to proven dead: 1 process",
    "kill 10": "KILL rung to proven dead: 10",
    "kill 100": "KILL rung to proven dead: 100, half stopped",
    "kill 1000": "KILL rung to proven dead: 1,000, half stopped",
    "storm": "the same: 200 that fork, setsid and exit for ever",
    "agent": "agent killed to nothing left",
}
RATIOS = {"kill 100": 2.0, "kill 1000": 2.0}
"""Bounds of the weakest plan, as a ratio to the strongest."""
BOUNDS = {"storm": 0.250, "agent": 0.250}
"""Bounds of the weakest plan in seconds. That for the end of all holds for every plan."""


@contextlib.contextmanager
def somebody(person: str, kind: str) -> Iterator[Person]:
    with contextlib.contextmanager(identity.someone)(person + KINDS[kind]) as found:
        yield found


def in_process(person: str, kind: str, some: Sequence[str]) -> dict[str, list[float]]:
    """The figures of one host process. some: which; without any, all."""
    with somebody(person, kind) as one:
        argv = [str(BIN / "python"), PROGRAM, kind, str(one.folder), *some]
        done = one.run(argv, timeout=LIMIT)
    if done.returncode:
        raise CannotMeasure(f"{kind}, as {person}: {done.stderr[-3000:]}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def agent_killed(person: str, kind: str) -> float:
    """Seconds from SIGKILL of `sandbox-agent run` until nothing is left."""
    with somebody(person, kind) as one:
        marks = [observer.new_mark()]
        turns = [struck.turn_of(struck.HOSTILE, marks), {"final": "This must never be reached."}]
        task = struck.write_task(one, turns, sandbox={"plan": kind})
        with struck.at_work(one, [str(BIN / "sandbox-agent"), "run", str(task)], marks) as run:
            after = run.kill()
    if after.left or after.lasting:
        raise CannotMeasure(f"{kind}, as {person}: left: {after.left + after.lasting}")
    return after.seconds


def measure(setting: Setting) -> None:
    """As root and as an ordinary user."""
    leaks.have_own_mounts()
    for person in ["root", "user"] if os.geteuid() == 0 else ["user"]:
        _of(person, setting)


def _of(person: str, setting: Setting) -> None:
    some = setting.size((), QUICK)

    def one(kind: str) -> Callable[[], Figures]:
        def measured() -> Figures:
            return {**in_process(person, kind, some), "agent": [agent_killed(person, kind)]}

        return measured

    contestants = {kind: one(kind) for kind in KINDS}
    # Minutes each: no round is lost to warm up.
    taken = setting.interleaved(f"plans ({person})", contestants, setting.times(5), warm=False)
    for figure, name in FIGURES.items():
        if figure not in taken["full"]:
            continue
        full = taken["full"][figure].p50 * 1e3
        for kind in taken:
            setting.sheet.add(
                f"{name} ({person}), {kind}",
                taken[kind][figure].p50 * 1e3,
                "ms",
                baseline=None if kind == "full" else full,
                target=_target(figure, kind),
            )


def _target(figure: str, kind: str) -> Target | None:
    """Of the weakest plan; the bound for the end of all holds for every plan."""
    if figure in BOUNDS and (kind == WEAKEST or figure == "agent"):
        return at_most(BOUNDS[figure] * 1e3)
    if figure in RATIOS and kind == WEAKEST:
        return ratio_at_most(RATIOS[figure])
    return None
