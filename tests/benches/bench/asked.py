"""A program that stays, and is asked for figures again and again.

So a sandbox or a pool is opened once, and rounds can alternate between programs. Each request and
each answer is a line of JSON; `programs/answering.py` is the other end. The program ends when its
standard input does, so nothing is left if the bench dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import IO, Any

from bench.errors import CannotMeasure

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"
PATIENCE = 120.0
"""Seconds for one answer."""
END = 20.0
"""Seconds in which a program ends that is not asked any more."""


class Asked:
    """The bench's end. name: for messages."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.name = name
        self._process = process
        self._errors = errors
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: str, *arguments: Any, patience: float = PATIENCE) -> Any:
        """The program's answer. Raises CannotMeasure if it fails, ends, or takes too long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([what, *arguments]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure(f"it ended before it was asked for {what}") from None
        answer = json.loads(self._line(what, patience))
        if "error" in answer:
            raise CannotMeasure(f"{self.name}: {what}: {answer['error']}")
        return answer["answer"]

    def _line(self, what: str, patience: float) -> bytes:
        assert self._process.stdout is not None
        deadline = monotonic() + patience
        while b"\n" not in self._buffer:
            left = deadline - monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise self._failure(f"no answer to {what} within {patience:g} s")
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                raise self._failure(f"it ended when it was asked for {what}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _failure(self, why: str) -> CannotMeasure:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()[-2000:]
        return CannotMeasure(f"{self.name}: {why}" + (f":\n{said}" if said else ""))

    def close(self) -> None:
        """End it, and wait for its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def program(
    name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path
) -> Iterator[Asked]:
    """Starts a program that answers, and ends it."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            env=dict(env),
            cwd=cwd,
        )
        asked = Asked(name, process, errors)
        try:
            yield asked
        finally:
            asked.close()
