"""Real children for the tests of ipc: forked ones, with an identity, an answer and a deadline."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import pytest

NOBODY = 65534
DEADLINE = 20.0
"""Seconds that a child may take before it counts as hung."""


def can_become(uid: int) -> bool:
    """Root of a rootless container cannot: one-line maps hold no other uid."""
    with open("/proc/self/uid_map") as lines:
        ranges = [[int(number) for number in line.split()] for line in lines]
    return os.geteuid() == 0 and any(first <= uid < first + count for first, _, count in ranges)


UIDS = [os.geteuid(), *([NOBODY] if can_become(NOBODY) else [])]


@dataclass(frozen=True)
class Ended:
    """answer: what the body returned.  signal: what killed the child, 0 for none."""

    answer: str
    signal: int


Forked = Callable[[Callable[[], object]], Ended]


@pytest.fixture(params=UIDS, ids=lambda uid: f"uid{uid}")
def uid(request: pytest.FixtureRequest) -> int:
    """Who a hostile child is: ourselves, and an unprivileged user when we are root."""
    return int(request.param)


@pytest.fixture
def forked(uid: int) -> Forked:
    """Runs a function in a forked child of that uid and says how it ended."""

    def run(body: Callable[[], object]) -> Ended:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            faulthandler.disable()  # being killed is an expected answer
            status = 1
            try:
                os.close(reader)
                if uid != os.geteuid():
                    os.setgroups([])
                    os.setresgid(uid, uid, uid)
                    os.setresuid(uid, uid, uid)
                os.write(writer, str(body()).encode())
                status = 0
            except BaseException:
                os.write(writer, traceback.format_exc().encode())
            finally:
                os._exit(status)
        os.close(writer)
        handle = os.pidfd_open(child)
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            if not poller.poll(DEADLINE * 1000):
                os.kill(child, signal.SIGKILL)
                pytest.fail(f"the child still ran after {DEADLINE} s")
            _, status = os.waitpid(child, 0)
            answer = os.read(reader, 65536).decode()
        finally:
            os.close(handle)
            os.close(reader)
        if os.WIFSIGNALED(status):
            return Ended(answer, os.WTERMSIG(status))
        assert status == 0, answer
        return Ended(answer, 0)

    return run


AtStep = Callable[[int, str, Callable[[], object], Callable[[], object]], bool]


@pytest.fixture
def at_step() -> AtStep:
    """Strikes in the middle of some work: at its n-th step, as another thread or a signal might.

    step: from 1, counted in opcodes and lines of one source file.  source: how its name ends.
    strike: what happens there.  work: what is struck. Returns whether the work had that many.
    """

    def run(
        step: int, source: str, strike: Callable[[], object], work: Callable[[], object]
    ) -> bool:
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> object:
            nonlocal count
            if not frame.f_code.co_filename.endswith(source):
                return None
            frame.f_trace_opcodes = True
            count += 1
            if count == step:
                strike()
            return trace

        previous = sys.gettrace()
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(previous)
        return count >= step

    return run
