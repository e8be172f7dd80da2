"""The tools that write: `write_file` and `edit_file`."""

from __future__ import annotations

import os

from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.inside.tools.textfile import explain_os_errors, read_text, shown
from sandbox_agent_sandbox.inside.tools.whole_file import Written, edit_whole, write_whole
from sandbox_agent_sandbox.inside.worker.call_facts import current, expand_home, workspace
from sandbox_agent_sandbox.inside.worker.signature import runs_alone
from sandbox_agent_sandbox.inside.worker.tool_result import (
    FileResult,
    ToolError,
    ToolResult,
    encode_argument,
)

MAX_EDITED = 16 * 1024 * 1024
"""Bytes of a file that edit_file accepts, before and after."""


@runs_alone
def write_file(path: str, content: str, *, token: CancelToken) -> str | ToolResult:
    """Create a text file, or replace all of its content. Missing folders are made.

    Files in /tmp and in the home folder (`~`) are private to the sandbox: the user does not get
    them, and they are lost when it ends.

    Args:
        path: The file. `~` is the home folder inside the sandbox.
        content: All that the file shall hold.
    """
    path = expand_home(path)
    data = encode_argument("content", content)
    if path.endswith("/"):
        raise ToolError(f"{path!r} names a folder; a file's path does not end in a slash")
    _refuse_what_is_no_path(path)
    with explain_os_errors("write", path):
        os.makedirs(os.path.dirname(os.path.realpath(path)), exist_ok=True)
    written = write_whole(path, data, token)
    what = "created" if written.is_new else "replaced"
    return _written(f"{what} {shown(path)}: {len(data)} bytes", written)


def _refuse_what_is_no_path(path: str) -> None:
    """Raise ToolError for a URL, or a path that begins with a variable, as in a shell. Else a
    folder called `$HOME` or `file:` would be made, and the user's file missing."""
    first = path.partition("/")[0]
    if os.path.lexists(first):
        return
    variable = first[1:].removeprefix("{").removesuffix("}")
    if first.startswith("$") and "/" in path and variable in os.environ:
        raise ToolError(
            f"{path!r} begins with a variable, and a path is taken as it is; write its value, "
            f"{os.environ[variable]}"
        )
    if path.startswith(f"{first}//") and first.endswith(":"):
        raise ToolError(f"{path!r} is a URL; give the path of a file")


@runs_alone
def edit_file(
    path: str, old: str, new: str, replace_all: bool = False, *, token: CancelToken
) -> str | ToolResult:
    """Replace a piece of text in a file. It must occur exactly once, unless replace_all is set.

    Args:
        path: The file. `~` is the home folder inside the sandbox.
        old: The text to replace, exactly as in the file, whitespace included. Take enough lines
            around it to make it unique.
        new: The text to put there.
        replace_all: Replace every occurrence.
    """
    path = expand_home(path)
    if not old:
        raise ToolError("old is empty; to create a file or replace all of it use write_file")
    if old == new:
        raise ToolError("old and new are the same text; nothing would change")
    was, becomes = encode_argument("old", old), encode_argument("new", new)
    count = 0

    def edit(data: bytes) -> bytes:
        nonlocal count
        edited, count = _edited(path, data, was, becomes, replace_all)
        return edited

    written = edit_whole(path, lambda fd: read_text(fd, path, MAX_EDITED), edit, token)
    return _written(f"edited {path}: {count} replacement{'s' if count > 1 else ''}", written)


def _edited(
    path: str, data: bytes, was: bytes, becomes: bytes, replace_all: bool
) -> tuple[bytes, int]:
    """The data with `was` replaced, and how often. In bytes, so that invalid UTF-8 elsewhere in the
    file stays as it is. Raises ToolError."""
    lines = data.count(b"\n")
    if b"\r\n" in data and (lines == data.count(b"\r\n") or was not in data):
        # The model writes \n where this file has \r\n.
        was, becomes = _with_crlf(was), _with_crlf(becomes)
    count = data.count(was)
    if count == 0:
        loose = b" ".join(was.split())
        hint = ""
        if loose and loose in b" ".join(data.split()):
            hint = "; it is there with other whitespace or line breaks"
        raise ToolError(f"old does not occur in {path!r}{hint}; read_file shows the exact text")
    if not replace_all and data.find(was) != data.rfind(was):  # places may overlap: `aa` in `aaa`
        times = f"{count} times" if count > 1 else "more than once"
        raise ToolError(
            f"old occurs {times} in {path!r}, first in lines {_lines_of(data, was)}; "
            "take more of the text around the one you mean, or set replace_all"
        )
    if len(data) + count * (len(becomes) - len(was)) > MAX_EDITED:
        raise ToolError(f"{path!r} would grow beyond {MAX_EDITED} bytes")
    return data.replace(was, becomes), count


def _written(what: str, written: Written) -> str | ToolResult:
    text = "; ".join((what, *written.notes))
    if not current().is_private(written.path):
        return text
    notice = (
        f"[{shown(written.path)} is private to the sandbox: the user does not get it, and it is "
        f"lost when the sandbox ends. What is to be kept belongs in the workspace, {workspace()}]"
    )
    return FileResult(f"{text}\n{notice}", private_files=(written.path,))


def _with_crlf(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _lines_of(data: bytes, wanted: bytes, most: int = 5) -> str:
    lines: list[str] = []
    overlapping = data.count(wanted) == 1
    at = data.find(wanted)
    while at >= 0 and len(lines) < most:
        lines.append(str(data.count(b"\n", 0, at) + 1))
        at = data.find(wanted, at + (1 if overlapping else len(wanted)))
    return ", ".join(lines) + (", ..." if at >= 0 else "")
