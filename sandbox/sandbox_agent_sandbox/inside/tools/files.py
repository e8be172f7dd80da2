"""The file tools. The model reads their docstrings; paths are relative to the workspace.

The walls decide what may be read and written, so these tools follow symbolic links and `..`. They
do not hang on a FIFO or read without a bound. A regular expression of the model's may take for
ever: the ladder ends it, as it ends every call (`re` checks for signals now and then, so SIGTERM's
exception gets through).
"""

from __future__ import annotations

import os
import re
from itertools import islice
from typing import Annotated, BinaryIO

import msgspec
from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.images import MAX_IMAGE_BYTES, media_type_of
from sandbox_agent_sandbox.inside.tools.textfile import (
    check_text,
    explain_os_errors,
    is_binary,
    open_regular,
    read_whole,
    replace_file,
)
from sandbox_agent_sandbox.inside.tools.tree import Walk, glob_matcher
from sandbox_agent_sandbox.inside.worker.tool_result import (
    Image,
    ToolError,
    ToolResult,
    encode_argument,
)

MAX_READ = 256 * 1024
"""Bytes that one read_file returns."""
MAX_EDITED = 16 * 1024 * 1024
"""Bytes of a file that edit_file accepts, before and after."""
MAX_SEARCHED = 64 * 1024 * 1024
"""Bytes that search_files reads of one file."""
MAX_NAMES = 1000
"""Names that list_files and find_files return."""
MAX_MATCHES = 200
"""Lines that search_files returns."""
MAX_LINE_SHOWN = 500
"""Characters that search_files shows of a line."""
_MAX_LINE = 1024 * 1024
"""Bytes. search_files reads a longer line in pieces."""

Positive = Annotated[int, msgspec.Meta(ge=1)]


def read_file(
    path: str, offset: Positive | None = None, limit: Positive | None = None
) -> str | ToolResult:
    """Read a text file, or some lines of it. A long file is cut, with a notice where to go on.
    An image (PNG, JPEG, GIF, WebP) is shown to you, if you can see.

    Args:
        path: The file.
        offset: Number of the first line to read; 1 is the file's first.
        limit: How many lines to read at most.
    """
    first = offset or 1
    fd = open_regular(path)
    with open(fd, "rb") as file, explain_os_errors("read", path):
        image = _image(fd)
        if image is not None:
            return ToolResult(f"[{image.media_type}, {len(image.data)} bytes]", images=(image,))
        check_text(path, fd)
        last = _skip_lines(file, first - 1)
        taken: list[bytes] = []
        room = MAX_READ
        while room > 0 and (limit is None or len(taken) < limit):
            line = file.readline(room)
            if not line:
                break
            taken.append(line)
            room -= len(line)
        more = bool(file.read(1))
    if not taken and first > 1:
        raise ToolError(f"{path!r} has no line {first}; its last line is {last}")
    if more and not taken[-1].endswith(b"\n"):
        if len(taken) == 1:
            start = taken[0].decode(errors="replace")
            return f"{start}\n[line {first} is longer than {MAX_READ} bytes; this is its start]"
        taken.pop()
    text = b"".join(taken).decode(errors="replace")
    return f"{text}[the file goes on: offset={first + len(taken)}]" if more else text


def _image(fd: int) -> Image | None:
    """The file as an image for the model; None when it is not an image, or is too long."""
    media_type = media_type_of(os.pread(fd, 16, 0))
    if media_type is None or not is_binary(fd) or os.fstat(fd).st_size > MAX_IMAGE_BYTES:
        return None
    return Image(media_type, os.pread(fd, MAX_IMAGE_BYTES, 0))


def write_file(path: str, content: str) -> str:
    """Create a text file, or replace all of its content. Missing folders are made.

    Args:
        path: The file.
        content: All that the file shall hold.
    """
    data = encode_argument("content", content)
    if path.endswith("/"):
        raise ToolError(f"{path!r} names a folder; a file's path does not end in a slash")
    with explain_os_errors("write", path):
        os.makedirs(os.path.dirname(os.path.realpath(path)), exist_ok=True)
    is_new = replace_file(path, data)
    return f"{'created' if is_new else 'replaced'} {path}: {len(data)} bytes"


def edit_file(path: str, old: str, new: str, replace_all: bool = False) -> str:
    """Replace a piece of text in a file. It must occur exactly once, unless replace_all is set.

    Args:
        path: The file.
        old: The text to replace, exactly as in the file, whitespace included. Take enough lines
            around it to make it unique.
        new: The text to put there.
        replace_all: Replace every occurrence.
    """
    if not old:
        raise ToolError("old is empty; to create a file or replace all of it use write_file")
    if old == new:
        raise ToolError("old and new are the same text; nothing would change")
    # Bytes, so that invalid UTF-8 elsewhere in the file stays as it is.
    data = read_whole(path, MAX_EDITED)
    was, becomes = encode_argument("old", old), encode_argument("new", new)
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
    if count > 1 and not replace_all:
        raise ToolError(
            f"old occurs {count} times in {path!r}, first in lines {_lines_of(data, was)}; "
            "take more of the text around the one you mean, or set replace_all"
        )
    if len(data) + count * (len(becomes) - len(was)) > MAX_EDITED:
        raise ToolError(f"{path!r} would grow beyond {MAX_EDITED} bytes")
    replace_file(path, data.replace(was, becomes))
    return f"edited {path}: {count} replacement{'s' if count > 1 else ''}"


def list_files(path: str = ".") -> str:
    """List a folder: one name a line, folders end in `/`.

    Args:
        path: The folder.
    """
    with explain_os_errors("list", path), os.scandir(path) as entries:
        found = sorted(
            _shown(entry.name) + ("/" if entry.is_dir() else "")
            for entry in islice(entries, MAX_NAMES + 1)
        )
    notice = f"[there are more than {MAX_NAMES}; find_files finds by name]"
    return _listing(found[:MAX_NAMES], [notice] if len(found) > MAX_NAMES else [], "empty folder")


def find_files(pattern: str, path: str = ".", *, token: CancelToken) -> str:
    """Find files by name, in a folder and all below it, `.git` left out.

    Args:
        pattern: A glob: `*.py` finds by name anywhere, `src/**/test_*.py` by path.
        path: The folder to search in.
    """
    matches = glob_matcher(pattern).fullmatch
    walk = Walk(path, token)
    found = list(islice((name for name in walk if matches(name)), MAX_NAMES + 1))
    notices = walk.notices
    if len(found) > MAX_NAMES:
        notices.append(f"[there are more than {MAX_NAMES}; narrow the pattern]")
    names = [_shown(os.path.normpath(os.path.join(path, name))) for name in found[:MAX_NAMES]]
    return _listing(names, notices, "no file matches")


def search_files(
    pattern: str, path: str = ".", glob: str | None = None, *, token: CancelToken
) -> str:
    """Search the lines of text files for a regular expression; gives `path:line: text`.

    Binary files and `.git` are left out.

    Args:
        pattern: A regular expression as in Python.
        path: The folder to search in, or one file.
        glob: Search only files whose names match, for instance `*.py`.
    """
    try:
        regex = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ToolError(
            f"{pattern!r} is not a regular expression: {error}; "
            "put a backslash before characters that you mean literally"
        ) from error
    matches = glob_matcher(glob).fullmatch if glob else None
    with explain_os_errors("search", path):
        is_folder = os.path.isdir(path)
    walk = Walk(path, token)
    found: list[str] = []
    notices: list[str] = []
    unread = 0
    for name in walk if is_folder else [""]:
        if is_folder and matches and not matches(name):
            continue
        file = os.path.normpath(os.path.join(path, name))
        try:
            cut = _search(file, regex, found, token)
        except ToolError:
            if not is_folder:
                raise
            unread += 1
            continue
        if cut:
            notices.append(f"[{_shown(file)}: only its first {MAX_SEARCHED} bytes were searched]")
        if len(found) > MAX_MATCHES:
            notices.append(f"[there are more than {MAX_MATCHES} matches; narrow the search]")
            break
    notices += walk.notices
    if unread:
        notices.append(f"[{unread} files could not be read]")
    return _listing(found[:MAX_MATCHES], notices, "no line matches")


def _search(path: str, regex: re.Pattern[str], found: list[str], token: CancelToken) -> bool:
    """Add a file's matching lines to `found`. True when the file was too long to search it all."""
    fd = open_regular(path)
    with open(fd, "rb") as file, explain_os_errors("read", path):
        if is_binary(fd):
            return False
        number, left = 1, MAX_SEARCHED
        while left > 0 and len(found) <= MAX_MATCHES:
            token.raise_if_cancelled()
            line = file.readline(min(_MAX_LINE, left))
            if not line:
                return False
            left -= len(line)
            text = line.decode(errors="replace").rstrip("\r\n")
            if regex.search(text):
                shown = text if len(text) <= MAX_LINE_SHOWN else f"{text[:MAX_LINE_SHOWN]}..."
                found.append(f"{_shown(path)}:{number}: {shown}")
            number += line.endswith(b"\n")
        return left <= 0 and bool(file.read(1))


def _skip_lines(file: BinaryIO, count: int) -> int:
    """Move past `count` lines, or to the end of the file. Returns how many lines there were."""
    done = 0
    while done < count:
        # In pieces: a line may be as long as the file.
        piece = file.readline(_MAX_LINE)
        while len(piece) == _MAX_LINE and not piece.endswith(b"\n"):
            piece = file.readline(_MAX_LINE) or b"\n"
        if not piece:
            break
        done += 1
    return done


def _listing(lines: list[str], notices: list[str], nothing: str) -> str:
    return "\n".join((lines or [f"[{nothing}]"]) + notices)


def _shown(name: str) -> str:
    """A path as one printable line, whatever bytes it has."""
    plain = os.fsencode(name).decode(errors="backslashreplace")
    return plain if plain.isprintable() else plain.encode("unicode_escape").decode()


def _with_crlf(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _lines_of(data: bytes, wanted: bytes, most: int = 5) -> str:
    lines: list[str] = []
    at = data.find(wanted)
    while at >= 0 and len(lines) < most:
        lines.append(str(data.count(b"\n", 0, at) + 1))
        at = data.find(wanted, at + len(wanted))
    return ", ".join(lines) + (", ..." if at >= 0 else "")
