"""What a worker reports is bounded and checked here, before anything of the host uses it.

A tool runs in the worker's own process, so it can send whatever it likes in the worker's name.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from sandbox_agent_ipc.errors import ProtocolError
from sandbox_agent_ipc.messages import MAX_RESULT, FunctionRef, Result, ToolProblem, ToolSpec

from sandbox_agent_sandbox.capture import Capture
from sandbox_agent_sandbox.errors import SandboxBroken
from sandbox_agent_sandbox.images import select_images

_NAME = r"[A-Za-z0-9_-]{1,64}"
"""As in `inside.worker.signature`: what every provider takes for a name."""

_CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f]"
"""Control characters but for tab and line feed; a docstring has neither of the others."""

_MOST_BYTES = 256 * 1024
"""Of one tool's description and parameters, as JSON."""

_ROOM = 4 << 20
"""Bytes for parts, to begin with: two huge pages."""

_MOST_FILES = 16
_MOST_LEFT = 20
_LONGEST = 4096
"""Characters of a path, or of a command that was left."""


def check_described(
    tools: Sequence[ToolSpec | ToolProblem], functions: Sequence[FunctionRef]
) -> None:
    """Refuse descriptions that no worker of ours sends: of other functions than it was asked for,
    with a name that is none, too long, or with control characters in them.

    Raises SandboxBroken.
    """
    for tool, function in zip(tools, functions, strict=True):
        if reason := _wrong(tool, function):
            name = f"{function.file or function.module}:{function.qualname}"
            raise SandboxBroken(
                f"what came from inside as the description of {name} is refused: {reason}; hint:"
                " the module, or one that it imports, writes into sandbox-agent's own channel"
            )


def bounded(result: Result, limit: int) -> Result:
    """A result with no more in it than a worker of ours sends: it cuts its own results. limit:
    bytes of content."""
    files = tuple(path for path in result.private_files[:_MOST_FILES] if len(path) <= _LONGEST)
    left = tuple(command[:_LONGEST] for command in result.left[:_MOST_LEFT])
    count = min(max(result.left_count, len(left)), 2**31)
    status = result.exit_status
    if status is not None and not -(2**31) <= status < 2**32:
        status = None
    seconds = result.cpu_seconds if 0 <= result.cpu_seconds < 2**31 else 0.0  # no NaN either
    given = result.private_files, result.left, result.left_count, result.exit_status
    if (files, left, count, status) != given or seconds != result.cpu_seconds:
        result = msgspec.structs.replace(
            result,
            private_files=files,
            left=left,
            left_count=count,
            exit_status=status,
            cpu_seconds=seconds,
        )
    if result.images:
        result = msgspec.structs.replace(result, images=select_images(result.images)[0])
    text = result.content
    if text.isascii() and len(text) <= longest(limit):
        return result
    data = text.encode("utf-8", "replace")
    if len(data) <= longest(limit):
        return result
    capture = Capture(limit)
    capture.feed(data)
    return msgspec.structs.replace(result, content=capture.text())


def longest(limit: int) -> int:
    """Bytes of content that a worker of ours sends at most. With its note on what was left out it
    is a little longer than the limit."""
    return min(2 * limit, MAX_RESULT)


class Parts:
    """The text of a result that comes in parts. limit: bytes of content, of the call.

    It is gathered in memory of huge pages, where the host has them: else one page fault for every
    4 KiB would take most of the time. madvise(2), MADV_HUGEPAGE.
    """

    def __init__(self, limit: int) -> None:
        self._longest = longest(limit)
        self._memory: mmap.mmap | None = None
        self._size = 0

    def add(self, data: bytes) -> None:
        """The next part. Raises ProtocolError when a worker of ours would not send as much, or when
        there is no memory for it."""
        end = self._size + len(data)
        if end > self._longest:
            raise ProtocolError("a result that is longer than its limit")
        try:
            if self._memory is None:
                self._memory = mmap.mmap(-1, _ROOM, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                with suppress(OSError):  # a kernel without them
                    self._memory.madvise(mmap.MADV_HUGEPAGE)  # what resize adds has it too
            while len(self._memory) < end:
                self._memory.resize(2 * len(self._memory))
        except OSError as error:
            raise ProtocolError(f"no memory for its result: {error.strerror}") from error
        self._memory[self._size : end] = data
        self._size = end

    def text(self) -> str:
        """All of it, which is given back. What is not UTF-8 is replaced."""
        if self._memory is None:
            return ""
        with self._memory, memoryview(self._memory) as whole, whole[: self._size] as used:
            text = str(used, "utf-8", "replace")
        self._memory, self._size = None, 0
        return text


def _wrong(tool: ToolSpec | ToolProblem, function: FunctionRef) -> str:
    """Why a description is refused; "" if it is not."""
    if tool.function != function:
        return "it is about another function"
    if isinstance(tool, ToolProblem):
        return "" if len(tool.reason) <= _MOST_BYTES else "it is too long"
    if not re.fullmatch(_NAME, tool.name):
        return "its name has other characters than letters, digits, '_' and '-', or is too long"
    try:
        size = len(tool.description.encode()) + len(msgspec.json.encode(tool.parameters))
    except (RecursionError, ValueError, TypeError, OverflowError) as error:
        return f"it cannot be written as JSON: {type(error).__name__}"
    if size > _MOST_BYTES:
        return f"it has more than {_MOST_BYTES >> 10} KiB"
    if _has_control([tool.description, tool.parameters]):
        return "it has control characters"
    return ""


def _has_control(value: object) -> bool:
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest += [*one, *one.values()]
        elif isinstance(one, list | tuple):
            rest += one
        elif isinstance(one, str) and re.search(_CONTROL, one):
            return True
    return False
