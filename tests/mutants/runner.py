"""Runs the tests of each mutant against a copy that has the mutant's change."""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import broken_copy
from paths import CHECKOUT

from mutants.mutant import Mutant

_UNUSED = ("-p", "no:hypothesispytest", "-p", "no:anyio")
"""Plugins that these tests do without: they take a second of every process."""

FAILED = 1
"""pytest's exit code for tests that failed. Others mean that tests did not run as they should."""

SECONDS = 60
"""For the tests of one mutant. A change may well make them hang."""

_NODE = re.compile(r"^FAILED (\S+)", re.M)


@dataclass(frozen=True)
class Verdict:
    """How the tests took a mutant. code: pytest's exit code. by: the first test that failed."""

    mutant: Mutant
    code: int
    by: str | None
    seconds: float
    output: str

    @property
    def caught(self) -> bool:
        """A test failed. That tests could not be collected or run is no catch."""
        return self.code == FAILED and self.by is not None

    def __str__(self) -> str:
        name = self.mutant.name
        if self.caught:
            return f"caught: {name}: {self.by} ({self.seconds:.1f} s)"
        tests = " ".join(self.mutant.tests)
        return f"NOT CAUGHT: {name}: pytest {tests}: exit code {self.code}\n{_end(self.output)}"


def _end(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-12:])


def judge_all(mutants: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    """A verdict for the unchanged product first, which must pass all tests, then one for each.

    Raises broken_copy.DoesNotFit before anything runs.
    """
    for one in mutants:
        broken_copy.changed(one.name, one.changes)
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        Path(name).chmod(0o711)  # some tests run as another user
        clean = Path(name) / "clean"
        for root in broken_copy.ROOTS:
            shutil.copytree(CHECKOUT / root, clean / root)
            compileall.compile_dir(clean / root, quiet=1)  # once, and not for each mutant
        control = Mutant("nothing", tuple(dict.fromkeys(t for m in mutants for t in m.tests)), ())
        places = [(control, clean)]
        with ThreadPoolExecutor(jobs) as pool:
            places += [(one, Path(name) / str(n)) for n, one in enumerate(mutants)]
            yield from pool.map(lambda place: _judge(*place, clean), places)


def _judge(mutant: Mutant, folder: Path, clean: Path) -> Verdict:
    if mutant.changes:
        for root in broken_copy.ROOTS:
            shutil.copytree(clean / root, folder / root, copy_function=os.link)
        for name, text in broken_copy.changed(mutant.name, mutant.changes).items():
            (folder / name).unlink()  # the others' too
            (folder / name).write_text(text)
    begin = time.monotonic()
    done = run_tests(folder, mutant.tests)
    seconds = time.monotonic() - begin
    found = _NODE.search(done.stdout)
    by = found[1] if found else None
    return Verdict(mutant, done.returncode, by, seconds, done.stdout + done.stderr)


def run_tests(folder: Path, tests: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """The tests of this checkout, against the product in `folder`."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        *_UNUSED,
    ]
    temporary = folder / "tmp"  # failed tests leave their files
    temporary.mkdir()
    roots = ":".join(str(folder / root) for root in broken_copy.ROOTS)
    environment = {**os.environ, "PYTHONPATH": roots, "TMPDIR": str(temporary)}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [*command, f"--timeout={SECONDS}", *(f"tests/{test}" for test in tests)],
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
