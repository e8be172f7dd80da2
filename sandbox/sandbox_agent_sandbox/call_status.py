"""The status pipe: how a call's init tells the host what waitpid(2) said of the worker."""

from __future__ import annotations

import os
import struct

_STATUS = struct.Struct("=i")


def report_status(pipe: int, wait_status: int) -> None:
    """Write the worker's wait status, in the call's init."""
    os.write(pipe, _STATUS.pack(wait_status))


def worker_status(pipe: int) -> int | None:
    """The worker's exit code, negative for a signal; None when nothing was reported.

    pipe: the read end, non-blocking. Only the call's init ever held the other one.
    """
    try:
        data = os.read(pipe, _STATUS.size)
    except BlockingIOError:
        return None
    if len(data) != _STATUS.size:
        return None
    return os.waitstatus_to_exitcode(_STATUS.unpack(data)[0])
