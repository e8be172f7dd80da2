"""What a tool returned or raised, as the text that a model reads."""

from __future__ import annotations

import math
import os
import sys
import traceback
from types import TracebackType
from typing import Any

import msgspec
from sandbox_agent_ipc.messages import MAX_RESULT

from sandbox_agent_sandbox.capture import join, note
from sandbox_agent_sandbox.images import select_images
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError, ToolResult

_FRAMES = 8
"""How many of a traceback's innermost frames are shown."""

_HERE = os.path.dirname(__file__)


def to_tool_result(value: Any) -> ToolResult:
    """Text as it is, bytes decoded, None as empty text, anything else as JSON or else its repr."""
    if isinstance(value, ToolResult):
        return _checked(value)
    if value is None:
        return ToolResult("")
    if isinstance(value, str):
        return ToolResult(str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return ToolResult(bytes(value).decode(errors="replace"))
    try:
        return ToolResult(_as_json(value))
    except Exception:  # a circle, keys that JSON does not have, a strange __repr__
        return ToolResult(repr(value))


def _as_json(value: Any) -> str:
    text = msgspec.json.encode(value, enc_hook=_plain)
    if b"null" in text:
        # msgspec writes null for NaN and infinity. Python's own JSON says NaN and Infinity.
        plain = msgspec.to_builtins(value, enc_hook=_plain, str_keys=True)
        if has_non_finite(plain):
            import json  # rarely needed

            return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return text.decode()


def has_non_finite(value: Any) -> bool:
    """Whether plain data (of `msgspec.to_builtins`) holds NaN or an infinity."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(has_non_finite, value.values()))
    return isinstance(value, list | tuple) and any(map(has_non_finite, value))


def _checked(value: ToolResult) -> ToolResult:
    text = str(value.content)
    images, left_out = select_images(value.images)
    if left_out:
        text = f"{text}\n{left_out}" if text else left_out
    return ToolResult(text, bool(value.is_error), value.exit_status, images)


def format_error(error: BaseException) -> str:
    """The innermost frames of the traceback, from the tool's own first one on."""
    try:
        at = error.__traceback__
        while at is not None and _is_ours(at) and at.tb_next is not None:
            at = at.tb_next
        shown = traceback.TracebackException(type(error), error, at, limit=-_FRAMES)
        return "".join(shown.format()).rstrip()
    except Exception as second:  # recursion or memory at its limit
        return f"{type(error).__name__} (not shown in full: {type(second).__name__})"


def check_size(text: str, limit: int) -> None:
    """Refuse what the caller's limit allows, and no result can hold. limit: bytes. Raises
    ToolError."""
    if limit <= MAX_RESULT or len(text) <= MAX_RESULT // 4:
        return
    size = len(text) if text.isascii() else len(text.encode(errors="backslashreplace"))
    if size > MAX_RESULT:
        raise ToolError(
            f"the tool returned {size} bytes, and a result holds at most {MAX_RESULT};"
            " hint: write it to a file in the workspace, and return its path"
        )


def truncate(text: str, limit: int) -> str:
    """Valid Unicode of at most `limit` bytes. When it is too long, the middle is left out."""
    limit = min(limit, MAX_RESULT)
    if text.isascii() and len(text) <= limit:
        return text
    data = text.encode(errors="backslashreplace")
    if len(data) <= limit:
        return data.decode()
    kept = max(limit - len(note(len(data))), 0)
    head, tail = data[: kept - kept // 2], data[len(data) - kept // 2 :]
    return join(head, tail, len(data) - kept).decode()


def _is_ours(at: TracebackType) -> bool:
    file = at.tb_frame.f_code.co_filename
    is_worker = file in (os.path.join(_HERE, "invoke.py"), os.path.join(_HERE, "run_async.py"))
    return is_worker or f"{os.sep}asyncio{os.sep}" in file


def _plain(value: Any) -> str:
    pathlib = sys.modules.get("pathlib")  # without it there is no path
    is_path = pathlib is not None and isinstance(value, pathlib.PurePath)
    return str(value) if is_path else repr(value)
