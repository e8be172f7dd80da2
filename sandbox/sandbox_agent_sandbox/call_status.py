"""The status pipe: the call's init sends the host the worker's wait status (waitpid(2)), or why
there is no worker. In a sandbox without namespaces the call's supervisor does."""

from __future__ import annotations

import os
import signal
import struct

import msgspec

from sandbox_agent_sandbox.steps import Step

_STATUS = struct.Struct("=iii")
STATUS_SIZE = _STATUS.size
_STEPS = tuple(Step)
_NONE, _UNKNOWN = -1, -2
"""In the place of a step: none failed, and nothing is known."""


WORKER_FAILED = 70
"""The exit code of a worker that failed itself: EX_SOFTWARE of sysexits.h."""


END_ORDER = signal.SIGUSR1
"""From the host to a call's init: kill all others of its namespace, exit. To a supervisor, where
there are no namespaces, the same for the call; to the spawner there: end all calls, and exit. A
standard signal keeps its sender also where no more signals can be queued."""


class WorkerEnd(msgspec.Struct, frozen=True):
    """How a worker ended. status: its exit code, negative for a signal; None if it never began, or
    if init reported nothing. step, number: what failed, and its errno, if it never began."""

    status: int | None = None
    step: Step | None = None
    number: int = 0


def report_status(pipe: int, wait_status: int) -> None:
    """Write the worker's wait status; for the call's init."""
    os.write(pipe, _STATUS.pack(wait_status, _NONE, 0))


def report_failure(pipe: int, step: Step, number: int) -> None:
    """Write that there is no worker, since this step failed; for the call's init."""
    os.write(pipe, _STATUS.pack(0, _STEPS.index(step), number))


def report_nothing(pipe: int) -> None:
    """Write that how the worker ended is not known; for a supervisor, where there are no
    namespaces."""
    os.write(pipe, _STATUS.pack(0, _UNKNOWN, 0))


def worker_end(pipe: int) -> WorkerEnd:
    """What the call's init reported.

    pipe: the read end, non-blocking. No process but the call's init ever had the write end.
    """
    try:
        data = os.read(pipe, _STATUS.size)
    except BlockingIOError:
        return WorkerEnd()
    if len(data) != _STATUS.size:
        return WorkerEnd()
    status, step, number = _STATUS.unpack(data)
    if step != _NONE:
        return WorkerEnd() if step == _UNKNOWN else WorkerEnd(None, _STEPS[step], number)
    return WorkerEnd(os.waitstatus_to_exitcode(status))
