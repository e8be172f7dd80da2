"""Marks each line of the product that is executed, in memory that all processes share.

`line_coverage.py` puts a copy of this file into a virtual environment of its own and adds a call of
`start`. Each Python there imports it: at its start by a .pth file, or with msgspec where there is
no `site` (python -I -S, as the sandbox's spawner is started).

The marks are a mapped file, one byte a line. A mapping is inherited by fork(2) and stays when the
process changes its root, its user or its descriptors, so workers inside the walls mark their lines
too. A process that SIGKILL or os._exit ends loses no mark. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any


def start(path: str, offsets: dict[str, int]) -> None:
    """Marks lines from now on, in this process and in those that it forks.

    path: the file of marks. offsets: for each source file, the byte of its line 0.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # a Python that a tool started: the file is read-only inside the walls
        return
    size = os.fstat(handle).st_size
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    # Not Python's mmap, which keeps a descriptor: tests count descriptors.
    address = libc.mmap(None, size, 3, 1, handle, 0)  # PROT_READ | PROT_WRITE, MAP_SHARED
    os.close(handle)
    marks = (ctypes.c_ubyte * size).from_address(address)
    trace = _tracer(marks, offsets)
    threading.settrace(trace)
    frame: FrameType | None = sys._getframe()
    while frame is not None:  # modules whose imports have led here
        base = offsets.get(frame.f_code.co_filename)
        if base is not None:
            for line in lines_of(frame.f_code):
                marks[base + line] |= line <= frame.f_lineno
            frame.f_trace = trace(frame, "call", None)
        frame = frame.f_back
    sys.settrace(trace)


def lines_of(code: CodeType) -> set[int]:
    """The lines that a code object executes; not those of the functions in it."""
    return {line for _, _, line in code.co_lines() if line}


def _tracer(marks: Any, offsets: dict[str, int]) -> Any:
    """A trace function, for sys.settrace."""
    # By id, since a code object's hash is slow; kept alive, so that no other one gets its id.
    known: dict[int, tuple[CodeType, Any]] = {}

    def local(code: CodeType, base: int) -> Any:
        left = lines_of(code)

        def mark(frame: FrameType, event: str, argument: object) -> Any:
            line = frame.f_lineno
            marks[base + line] = 1
            left.discard(line)
            if not left:
                known[id(code)] = (code, None)
            return mark

        return mark

    def called(frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        base = offsets.get(code.co_filename)
        if base is None:
            return None
        found = known.get(id(code))
        if found is None:
            found = known[id(code)] = (code, local(code, base))
        return found[1] and found[1](frame, event, argument)

    return called
