"""The same measurements of two commits, one beside the other. Used by `scripts/bench --against`.

Both products are measured by the code of this checkout and from outside: by their command line and
by the names that `sandbox_agent` exports. They run in turns, first one first and then the other,
so that what else the machine does falls on both. Both use the environment of this checkout, so
the ratio is that of our code, not of our dependencies.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import paths

ROOTS = ("runtime", "sandbox", "ipc")
WORSE = 1.10
"""The ratio to REF above which a figure counts as worse."""
NOISE = 0.05
"""The standard error of a ratio above which it says little. A quieter machine helps."""
AGAIN = 3
"""Times the rounds that a figure may take until it is no longer worse."""
TURNS = 200
"""Of the journal that is resumed."""
CALLS = 40
"""Warm calls in one process."""
CONTROL = "control, python -c pass"
MEMORY = "memory of the agent"
PROGRAM = str(Path(__file__).resolve().parent / "measured_program.py")


class CannotMeasure(Exception):
    """A product did not do what is measured."""


@dataclass(frozen=True)
class Cost:
    """Of one process: seconds, processor seconds of it and of all that it waited for, and what it
    printed."""

    wall: float
    cpu: float
    out: str


@dataclass
class Product:
    """The sources of one commit, with a folder to work in."""

    name: str
    folder: Path
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    suites: dict[str, str] = field(default_factory=dict)
    """Which suite takes each figure."""

    def run(self, *argv: str, code: int = 0) -> Cost:
        """Runs Python with this product in its path. code: the exit code that it must have."""
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": os.pathsep.join(str(self.folder / root) for root in ROOTS),
        }
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            begin = monotonic()
            process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=self.folder / "work",
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall = monotonic() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            if process.returncode != code:
                said = err.read().decode(errors="replace")
                raise CannotMeasure(f"{self.name}: exit {process.returncode} of {argv}:\n{said}")
            return Cost(wall, usage.ru_utime + usage.ru_stime, out.read().decode())

    def command(self, *argv: str) -> Cost:
        """Runs `sandbox-agent ARGV`."""
        return self.run("-m", "sandbox_agent", *argv)

    def program(self, what: str, count: int = 1, folder: Path | None = None) -> Cost:
        """Runs `measured_program.py` in a folder of its own."""
        if folder is not None:
            return self.run(PROGRAM, what, str(folder), str(count))
        with tempfile.TemporaryDirectory(dir=self.folder / "tmp") as new:
            return self.run(PROGRAM, what, new, str(count))


# --- what is measured -----------------------------------------------------------------------------


Figures = dict[str, float]


def control(one: Product) -> Figures:
    """Nothing of ours: what differs here is noise."""
    return timed(CONTROL, one.run("-c", "pass"))


def timed(name: str, cost: Cost) -> Figures:
    return {f"{name}: wall": cost.wall, f"{name}: cpu": cost.cpu}


def command_line(one: Product) -> Figures:
    task = str(one.folder / "task" / "task.yaml")
    runs = str(one.folder / "tmp" / "runs")
    return {
        **timed("--help", one.command("--help")),
        **timed("a run of one call", one.command("run", task)),
        **timed("exec -- true", one.command("exec", "--out", runs, "--", "true")),
    }


def calls(one: Product) -> Figures:
    alone = one.program("calls", 0)
    many = one.program("calls", CALLS)
    return {
        "open a sandbox, first call: wall": json.loads(alone.out)[0],
        "open a sandbox, first call: cpu": alone.cpu,
        "a warm call: wall": json.loads(many.out)[1],
        "a warm call: cpu": (many.cpu - alone.cpu) / CALLS,
    }


def interrupts(one: Product) -> Figures:
    found = {}
    for name, what, count in (
        ("interrupt to return, cooperative", "cooperative", 10),
        ("interrupt to return beyond the ladder, deaf", "deaf", 3),
        ("the same with 100 processes", "hundred", 2),
    ):
        cost = one.program(what, count)
        found[f"{name}: wall"] = statistics.median(json.loads(cost.out))
        found[f"{name}: cpu"] = cost.cpu / count
    return found


def resume(one: Product) -> Figures:
    """A journal of many turns is read and continued. Each time a copy, as it was."""
    made = one.folder / "journal"
    with tempfile.TemporaryDirectory(dir=one.folder / "tmp") as new:
        run = Path(new, (made / "run").readlink().name)
        shutil.copytree(made / "run", run)
        cost = one.command("resume", str(run), "--model", f"scripted:{made / 'steps.yaml'}")
    return timed(f"resume after {TURNS} turns", cost)


def memory(one: Product) -> Figures:
    [peak] = json.loads(one.program("memory", folder=one.folder / "task").out.splitlines()[-1])
    return {MEMORY: peak}


SUITES = (control, command_line, calls, interrupts, resume, memory)


# --- the two products -----------------------------------------------------------------------------


def prepare(one: Product) -> None:
    """Everything that is made once, and is not measured."""
    for name in ("home", "work", "tmp", "task", "journal"):
        (one.folder / name).mkdir()
    roots = [str(one.folder / root) for root in ROOTS]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *roots], check=True)
    task = {
        "version": 1,
        "prompt": "Say true.",
        "model": "scripted:steps.yaml",
        "workspace": {"path": "work"},
        "tools": ["shell"],
        "output": {"dir": str(one.folder / "tmp" / "runs")},
    }
    (one.folder / "task" / "work").mkdir()
    (one.folder / "task" / "task.yaml").write_text(json.dumps(task))
    steps = [{"calls": [{"shell": {"command": "true"}}]}, {"final": "Done."}]
    (one.folder / "task" / "steps.yaml").write_text(json.dumps(steps))
    one.program("journal", TURNS, one.folder / "journal")


def products(folder: Path, ref: str) -> tuple[Product, Product]:
    """(the working tree, REF), each copied to a folder of its own."""
    here, there = Product("here", folder / "here"), Product(ref, folder / "there")
    for one in (here, there):
        one.folder.mkdir()
    for root in ROOTS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(paths.CHECKOUT / root, here.folder / root, ignore=ignore)
    argv = ["git", "-C", str(paths.CHECKOUT), "archive", ref, *ROOTS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as git:
        assert git.stdout is not None
        try:
            with tarfile.open(fileobj=git.stdout, mode="r|") as tar:
                tar.extractall(there.folder, filter="data")
        except tarfile.ReadError:
            raise CannotMeasure(f"git archive {ref} failed") from None
    for one in (here, there):
        prepare(one)
    return here, there


# --- comparing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """One figure. ratio: the median of the rounds' ratios, here to REF. noise: the standard error
    of that median."""

    what: str
    here: float
    there: float
    ratio: float
    noise: float
    rounds: int

    @property
    def worse(self) -> bool:
        return self.ratio > WORSE and not self.what.startswith(CONTROL)

    @property
    def verdict(self) -> str:
        if not self.worse:
            return ""
        return "WORSE" if self.noise <= NOISE else "WORSE, or noise"

    def line(self) -> str:
        unit, scale = ("MB", 1e-6) if self.what == MEMORY else ("ms", 1e3)
        return (
            f"{self.what:52} {self.here * scale:8.2f} {unit} {self.there * scale:8.2f} {unit}"
            f" {self.ratio:6.3f} ± {self.noise:5.3f} {self.rounds:4}  {self.verdict}".rstrip()
        )


def compare(what: str, here: Sequence[float], there: Sequence[float]) -> Compared:
    ratios = [a / b for a, b in zip(here, there, strict=True)]
    ratio = statistics.median(ratios)
    # Of normal noise, 1.4826 times the median deviation is one standard deviation, and the
    # median's standard error is 1.2533 times that of the mean.
    spread = 1.4826 * statistics.median(abs(one - ratio) for one in ratios)
    noise = 1.2533 * spread / math.sqrt(len(ratios))
    medians = statistics.median(here), statistics.median(there)
    return Compared(what, *medians, ratio, noise, len(ratios))


def all_compared(here: Product, there: Product) -> Iterator[Compared]:
    for what, figures in here.figures.items():
        yield compare(what, figures, there.figures[what])


def measure(here: Product, there: Product, rounds: int, suites: set[str]) -> None:
    for number in range(rounds):
        for suite in SUITES:
            if suite.__name__ in suites:
                for one in (here, there) if number % 2 else (there, here):
                    for what, figure in suite(one).items():
                        one.figures[what].append(figure)
                        one.suites[what] = suite.__name__
        print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def against(ref: str, rounds: int) -> tuple[list[Compared], list[str]]:
    """Measures, prints, and returns all figures and the names of those that are worse."""
    suites = {suite.__name__ for suite in SUITES}
    with tempfile.TemporaryDirectory(prefix="against-") as folder:
        here, there = products(Path(folder), ref)
        measure(here, there, 1, suites)  # files are read once
        here.figures.clear()
        there.figures.clear()
        for _ in range(AGAIN):
            measure(here, there, rounds, suites)
            found = list(all_compared(here, there))
            worse = [one.what for one in found if one.worse]
            suites = {here.suites[what] for what in worse}
            if not worse:
                break
            print(f"over {WORSE} so far: {', '.join(worse)}", file=sys.stderr)
    print(f"\n{'':52} {'here':>11} {ref[:11]:>11}  ratio   noise rounds")
    for one in found:
        print(one.line())
    return found, worse
