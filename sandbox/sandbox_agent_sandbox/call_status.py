"""The status pipe: the call's init sends the host the worker's wait status (waitpid(2))."""

from __future__ import annotations

import os
import struct

_STATUS = struct.Struct("=i")


def report_status(pipe: int, wait_status: int) -> None:
    """Write the worker's wait status; for the call's init."""
    os.write(pipe, _STATUS.pack(wait_status))


def worker_status(pipe: int) -> int | None:
    """The worker's exit code, negative for a signal; None when init reported nothing.

    pipe: the read end, non-blocking. No process but the call's init ever had the write end.
    """
    try:
        data = os.read(pipe, _STATUS.size)
    except BlockingIOError:
        return None
    if len(data) != _STATUS.size:
        return None
    return os.waitstatus_to_exitcode(_STATUS.unpack(data)[0])
