"""The three plans beside each other, in turns: `scripts/bench plans`.

To open a sandbox, a call, the last rung for one to a thousand processes, a storm of them, and the
end of all after SIGKILL of the agent.

The plan `shared_proc` is measured where nobody can mount a fresh /proc. Everything runs in a pid
namespace of its own: a sandbox without namespaces kills everybody that it can reach, and a storm
must not take the pids of others.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import identity
import leaks
import observer
import struck
from identity import BIN, Person

KINDS = {"full": "", "shared_proc": " in masked-proc", "no_namespaces": ""}
"""Each kind of plan, and where it is measured."""
WEAKEST = "no_namespaces"

PROGRAM = str(Path(__file__).resolve().parent / "measured_plan.py")
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


@dataclass(frozen=True)
class Row:
    """One figure of one person, in seconds, by kind of plan."""

    person: str
    figure: str
    seconds: dict[str, list[float]]

    def median(self, kind: str) -> float:
        return statistics.median(self.seconds[kind])

    @property
    def ratio(self) -> float:
        return self.median(WEAKEST) / self.median("full")

    @property
    def bound(self) -> float | None:
        """Of the weakest plan, in seconds."""
        if self.figure in RATIOS:
            return RATIOS[self.figure] * self.median("full")
        return BOUNDS.get(self.figure)

    @property
    def within(self) -> bool:
        if self.bound is None:
            return True
        kinds = KINDS if self.figure == "agent" else [WEAKEST]
        return all(self.median(kind) <= self.bound for kind in kinds)

    def line(self) -> str:
        cells = "".join(
            f"{self.median(kind) * 1e3:9.1f} {max(self.seconds[kind]) * 1e3:7.1f}" for kind in KINDS
        )
        bound = "" if self.bound is None else f"{self.bound * 1e3:.0f}"
        what = f"{FIGURES[self.figure]} ({self.person})"
        return f"{what:59}{cells}{self.ratio:7.1f} x{bound:>7}{'' if self.within else '  OVER'}"

    def data(self) -> list[dict[str, Any]]:
        return [
            {
                "what": FIGURES[self.figure],
                "person": self.person,
                "plan": kind,
                "unit": "ms",
                "median": self.median(kind) * 1e3,
                "worst": max(self.seconds[kind]) * 1e3,
                "ratio": self.median(kind) / self.median("full"),
                "bound": None if self.bound is None or kind != WEAKEST else self.bound * 1e3,
                "within": self.within,
                "rounds": len(self.seconds[kind]),
            }
            for kind in KINDS
        ]


@contextlib.contextmanager
def somebody(person: str, kind: str) -> Iterator[Person]:
    with contextlib.contextmanager(identity.someone)(person + KINDS[kind]) as found:
        yield found


def in_process(person: str, kind: str) -> dict[str, list[float]]:
    """The figures of one host process."""
    with somebody(person, kind) as one:
        argv = [str(BIN / "python"), PROGRAM, kind, str(one.folder)]
        done = one.run(argv, timeout=LIMIT)
    if done.returncode:
        sys.exit(f"scripts/bench: {kind}, as {person}: {done.stderr[-3000:]}")
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
        sys.exit(f"scripts/bench: {kind}, as {person}: left: {after.left + after.lasting}")
    return after.seconds


def measure(rounds: int, say: Callable[[str], None] = print) -> list[Row]:
    """Measure all plans in turns, as root and as an ordinary user, and print the rows."""
    leaks.become_subreaper()
    leaks.have_own_mounts()
    persons = ["root", "user"] if os.geteuid() == 0 else ["user"]
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    kinds = list(KINDS)
    with tempfile.TemporaryDirectory(prefix="sa-plans-") as folder:
        os.chmod(folder, 0o711)
        Path(folder, "tmp").mkdir()
        Path(folder, "tmp").chmod(0o1777)
        tempfile.tempdir = f"{folder}/tmp"
        for number in range(rounds):
            for person in persons:
                for kind in kinds:
                    for figure, seconds in in_process(person, kind).items():
                        found[person, figure][kind] += seconds
                    found[person, "agent"][kind].append(agent_killed(person, kind))
            kinds.append(kinds.pop(0))  # nobody is always first
            print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        tempfile.tempdir = None
    print(file=sys.stderr)
    head = "".join(f"{kind:>17}" for kind in KINDS)
    say(f"\n{'ms: median and worst':59}{head}    ratio  bound")
    rows = [Row(person, figure, found[person, figure]) for person in persons for figure in FIGURES]
    for row in rows:
        say(row.line())
    return rows
