"""The tool `search_files`."""

from __future__ import annotations

import os
import re
import stat

from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.inside.tools.globs import alternatives_hint, glob_matcher
from sandbox_agent_sandbox.inside.tools.page import PIECE, listing
from sandbox_agent_sandbox.inside.tools.textfile import (
    explain_os_errors,
    is_binary,
    open_regular,
    shown,
)
from sandbox_agent_sandbox.inside.tools.tree import LeftOut, Walk
from sandbox_agent_sandbox.inside.worker.call_facts import expand_home
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError
from sandbox_agent_sandbox.put_off import expression

MAX_SEARCHED = 64 * 1024 * 1024
"""Bytes that search_files reads of one file."""
MAX_MATCHES = 200
"""Lines that search_files returns."""
MAX_LINE_SHOWN = 500
"""Characters that search_files shows of a line."""
_LOST = "\ufffd"
"""What stands for bytes that are not UTF-8."""
_CARRIAGE_RETURN = expression(r"\r|(?<!\\)(?:\\\\)*\\(?:r|x0[dD])")
"""In an expression. Otherwise `$` is before a line's `\\r\\n`."""
_BEFORE_MATCH = 100
"""Characters shown before a match that is far behind in its line."""


def search_files(
    pattern: str, path: str = ".", glob: str | None = None, *, token: CancelToken
) -> str:
    """Search the lines of text files for a regular expression; gives `path:line: text`.

    Binary files and `.git` are left out. At most 200 lines are shown, of each 500 characters.

    Args:
        pattern: A regular expression as in Python. It is matched within one line.
        path: The folder to search in, or one file. `~` is the home folder inside the sandbox.
        glob: Search only files whose names match, for instance `*.py` or `src/**/*.{ts,tsx}`.
    """
    path = expand_home(path)
    try:
        regex = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ToolError(
            f"{pattern!r} is not a regular expression: {error}; "
            "put a backslash before characters that you mean literally"
        ) from error
    with explain_os_errors("search", path):
        is_folder = os.path.isdir(path)
    search = _Search(regex, token)
    if not is_folder:
        name = os.path.basename(path)
        if glob and not glob_matcher(glob, os.path.dirname(path) or ".").fullmatch(name):
            raise ToolError(f"{path!r} is a file that does not match the glob {glob!r}")
        search.file(path)
        return listing(search.found[:MAX_MATCHES], search.notices(), search.nothing(pattern))
    matches = glob_matcher(glob, path).fullmatch if glob else None
    walk = Walk(path, token)
    for name in walk:
        if matches is None or matches(name):
            search.named_file(os.path.normpath(os.path.join(path, name)))
            if search.is_full:
                break
    nothing = search.nothing(pattern)
    if glob and not search.looked_at:
        nothing = f"no file matches the glob {glob!r}{alternatives_hint(glob)}"
        nothing += "; put a backslash before a bracket that is part of a name" * ("[" in glob)
    if walk.has_git:
        nothing += "; .git was left out"
    return listing(search.found[:MAX_MATCHES], search.notices() + walk.notices, nothing)


class _Search:
    """Searches one file after another. found: the matching lines, one more than are shown."""

    def __init__(self, regex: re.Pattern[str], token: CancelToken) -> None:
        self._regex = regex
        self._is_about_cr = _CARRIAGE_RETURN.search(regex.pattern) is not None
        self._token = token
        self._left_out = LeftOut()
        self._searched = 0
        self._notes: list[str] = []
        self.looked_at = 0
        self.found: list[str] = []

    @property
    def is_full(self) -> bool:
        """Whether there are more matches than are shown."""
        return len(self.found) > MAX_MATCHES

    def notices(self) -> list[str]:
        """What was not searched, and why."""
        full = [f"[there are more than {MAX_MATCHES} matches; narrow the search]"]
        return self._notes + self._left_out.notices() + (full if self.is_full else [])

    def nothing(self, pattern: str) -> str:
        """What to say when no line matches."""
        files = "1 file was" if self._searched == 1 else f"{self._searched} files were"
        lines = "; a pattern is matched within one line" if re.search(r"\n|\\n", pattern) else ""
        return f"no line matches; {files} searched{lines}"

    def named_file(self, path: str) -> None:
        """Search a file of a folder. What cannot be searched is noted."""
        self.looked_at += 1
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISDIR(mode):
                return  # a link to a folder; the walk tells of it
            if not stat.S_ISREG(mode):
                self._left_out.add("not regular files, not searched", path)
                return
            self.file(path)
        except (OSError, ToolError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            why = cause.strerror if isinstance(cause, OSError) else "not a regular file"
            self._left_out.add(f"could not be read ({why})", path)

    def file(self, path: str) -> None:
        """Search one file. Raises ToolError when it cannot be read."""
        fd = open_regular(path)
        with open(fd, "rb") as file, explain_os_errors("read", path):
            if is_binary(fd):
                self._left_out.add("binary files, not searched", path)
                return
            self._searched += 1
            number, left, long_lines, lossy = 1, MAX_SEARCHED, False, False
            while left > 0 and not self.is_full:
                self._token.raise_if_cancelled()
                line = file.readline(min(PIECE, left))
                if not line:
                    break
                left -= len(line)
                text = line.decode(errors="replace")
                if not text.isascii():
                    if number == 1:
                        text = text.removeprefix("\ufeff")  # the mark of a file in UTF-8
                    # A piece of a longer line may end within a character.
                    is_lossy = _LOST in text and _LOST.encode() not in line and len(line) < PIECE
                    lossy = lossy or is_lossy
                text = text.rstrip("\n" if self._is_about_cr else "\r\n")
                match = self._regex.search(text)
                if match:
                    self.found.append(f"{shown(path)}:{number}: {_excerpt(text, match)}")
                number += line.endswith(b"\n")
                long_lines = long_lines or (len(line) == PIECE and not line.endswith(b"\n"))
            if lossy:
                self._left_out.add(f"bytes that are not UTF-8 were searched as {_LOST}", path)
            if left <= 0 and file.read(1):
                self._notes.append(
                    f"[{shown(path)}: only its first {MAX_SEARCHED} bytes were searched]"
                )
            if long_lines:
                self._notes.append(
                    f"[{shown(path)}: lines of more than {PIECE} bytes were searched in pieces]"
                )


def _excerpt(text: str, match: re.Match[str]) -> str:
    """The line, or the part of a long one that has the match."""
    text = text.rstrip("\r")
    if len(text) <= MAX_LINE_SHOWN:
        return text
    start = 0 if match.end() <= MAX_LINE_SHOWN else max(0, match.start() - _BEFORE_MATCH)
    part = text[start : start + MAX_LINE_SHOWN]
    return f"{'...' * (start > 0)}{part}{'...' * (start + len(part) < len(text))}"
