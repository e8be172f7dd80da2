"""Runs one command again and again, each time struck by SIGINT at another place.

    python striking_places.py [--every N] [--fresh] PART,PART,... ARGUMENT...

A place is where CPython looks whether a signal has come: at the beginning of a function, after a
call, at the end of a loop's body. Only those are struck that have one of the given parts in their
FILE:FUNCTION, in the main thread, in the order in which the command comes by; with --every only
each N-th. Each attempt is a fork of this process, in which nothing but the command's modules has
been imported, with --fresh not even these; `{n}` in its arguments is its number.

Prints one line of JSON for each: where it was struck, its exit code as waitpid(2) gives it, and
what it said. The last one came by no further place and was not struck.
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import functools
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

from sandbox_agent.cli import main
from sandbox_agent.cli.signals import Signals

LOOKS = frozenset({"RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"})
PATIENCE = 0.1
"""Seconds."""
LIMIT = 2_000
"""Attempts. More would be a command that is too much for this."""


@functools.cache
def _instructions(code: CodeType) -> Mapping[int, str]:
    return {one.offset: one.opname for one in dis.get_instructions(code)}


class Striker:
    """A trace function that strikes at the n-th place, and writes before where that is.

    place: the descriptor of a file for it."""

    def __init__(self, parts: Sequence[str], nth: int, place: int) -> None:
        self._parts = parts
        self._left = nth
        self._place = place

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        name = f"{code.co_filename}:{code.co_qualname}"
        if not any(part in name for part in self._parts):
            return None
        frame.f_trace_opcodes = True
        names = _instructions(code)
        before = ""

        def step(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal before
            if event == "opcode":
                looks, before = before in LOOKS, names.get(frame.f_lasti, "")
                if looks:
                    self._come_by(frame)
            return step

        return step

    def _come_by(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left == 0:
            code = frame.f_code
            name = os.path.basename(code.co_filename)
            where = f"{name}:{frame.f_lineno} {code.co_qualname}"
            os.pwrite(self._place, where.encode(), 0)
            signals = _signals(frame)
            before = 0 if signals is None else signals.received
            os.kill(os.getpid(), signal.SIGINT)
            # Another thread takes it, while this one stays at the place. That thread waits for this
            # one if the place is in a move from state to state, or before its start.
            until = time.monotonic() + PATIENCE
            while signals is not None and time.monotonic() < until:
                if signals.received > before:
                    break
                time.sleep(0)


def _signals(frame: FrameType | None) -> Signals | None:
    """Those of the command, as `main` has them."""
    while frame is not None:
        found = frame.f_locals.get("signals") if frame.f_code is main.__code__ else None
        if found is not None:
            return found
        frame = frame.f_back
    return None


def imports(argv: Sequence[str]) -> None:
    """What `main` imports for these arguments."""
    from sandbox_agent.cli import console, parser  # noqa: F401

    with contextlib.suppress(parser.UsageError):  # --help is one
        parser.parse(argv).verb()


def attempt(parts: Sequence[str], argv: list[str], nth: int) -> dict[str, Any]:
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as place:
        pid = os.fork()
        if pid == 0:
            for stream in (1, 2):
                os.dup2(told.fileno(), stream)
            sys.settrace(Striker(parts, nth, place.fileno()))
            try:
                code = main([word.format(n=nth) for word in argv])
            finally:
                sys.settrace(None)
            sys.exit(code)
        _, status = os.waitpid(pid, 0)
        where = os.pread(place.fileno(), 1000, 0).decode()
        said = os.pread(told.fileno(), 100_000, 0).decode()
    code = os.waitstatus_to_exitcode(status)
    return {"n": nth, "where": where, "code": code, "said": said}


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--every", type=int, default=1)
    options.add_argument("--fresh", action="store_true")
    options.add_argument("parts", type=lambda given: given.split(","))
    options.add_argument("argv", nargs=argparse.REMAINDER)
    asked = options.parse_args()
    if not asked.fresh:
        imports(asked.argv)
    for nth in itertools.islice(itertools.count(1, asked.every), LIMIT):
        result = attempt(asked.parts, asked.argv, nth)
        print(json.dumps(result), flush=True)
        if not result["where"]:
            break
    else:
        sys.exit(f"more than {LIMIT} attempts")
