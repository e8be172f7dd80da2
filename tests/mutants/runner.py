"""Runs the tests of each mutant against a copy that has the mutant's change."""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import broken_copy
from paths import CHECKOUT

from mutants.mutant import Mutant

FAILED = 1
"""pytest's exit code for tests that failed. Others mean that tests did not run as they should."""

SECONDS = 60
"""For the tests of one mutant. A change may well make them hang."""

_OPTIONS = (
    *("-q", "-x", "--tb=line", f"--timeout={SECONDS}", "-p", "no:cacheprovider"),
    # Plugins that these tests do without: they take a second of every process.
    *("-p", "no:hypothesispytest", "-p", "no:anyio"),
)

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


class Server:
    """A process of server.py: it has pytest imported already, which is half the time of a test."""

    def __init__(self) -> None:
        environment = {**os.environ}
        for name in ("PYTHONPATH", "PYTEST_ADDOPTS"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py"))],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run_tests(self, folder: Path, tests: Iterable[str]) -> tuple[int, str]:
        """Runs the tests of this checkout against the product in `folder`. Returns the exit code of
        pytest, and what was printed."""
        assert self._process.stdin and self._process.stdout
        temporary = folder / "tmp"  # failed tests leave their files
        temporary.mkdir()
        output = folder / "output"
        roots = [str(folder / root) for root in broken_copy.ROOTS]
        arguments = [*_OPTIONS, *(f"tests/{test}" for test in tests)]
        request = json.dumps([roots, str(temporary), str(output), arguments])
        print(request, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the server of the tests ended with {self._process.wait()}"
        return int(answer), output.read_text(errors="replace")

    def close(self) -> None:
        self._process.communicate()


def judge_all(mutants: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    """A verdict for the unchanged product first, which must pass all tests, then one for each.

    Raises broken_copy.DoesNotFit before anything runs.
    """
    for one in mutants:
        broken_copy.changed(one.name, one.changes)
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))
        Path(name).chmod(0o711)  # some tests run as another user
        clean = Path(name) / "clean"
        for root in broken_copy.ROOTS:
            shutil.copytree(CHECKOUT / root, clean / root)
            compileall.compile_dir(clean / root, quiet=1)  # once, and not for each mutant
        control = Mutant("nothing", tuple(dict.fromkeys(t for m in mutants for t in m.tests)), ())
        places = [(control, clean)]
        places += [(one, Path(name) / str(n)) for n, one in enumerate(mutants)]
        servers: SimpleQueue[Server] = SimpleQueue()
        for _ in range(min(jobs, len(places))):
            server = Server()
            stack.callback(server.close)
            servers.put(server)
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(lambda place: _judge(*place, clean, servers), places)


def _judge(mutant: Mutant, folder: Path, clean: Path, servers: SimpleQueue[Server]) -> Verdict:
    if mutant.changes:
        for root in broken_copy.ROOTS:
            # A server may just be writing byte code: its file has another name until it is whole.
            ignored = shutil.ignore_patterns("*.pyc.*")
            shutil.copytree(clean / root, folder / root, ignore=ignored, copy_function=os.link)
        for name, text in broken_copy.changed(mutant.name, mutant.changes).items():
            (folder / name).unlink()  # the others' too
            (folder / name).write_text(text)
    server = servers.get()
    begin = time.monotonic()
    try:
        code, output = server.run_tests(folder, mutant.tests)
    finally:
        servers.put(server)
    seconds = time.monotonic() - begin
    found = _NODE.search(output)
    return Verdict(mutant, code, found[1] if found else None, seconds, output)
