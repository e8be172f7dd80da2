"""Walking a folder, bounded in memory, and matching paths with globs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice

from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.inside.tools.textfile import explain_os_errors
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError

MAX_ENTRIES = 200_000
"""Names that one walk looks at. Beyond them the walk ends, with a notice."""


class Walk:
    """The files below a folder, as paths relative to it, sorted by name.

    It does not follow links to folders, which may form a circle, and leaves out `.git`. Iterating
    raises Cancelled once the token is cancelled. Afterwards `notices` lists what was left out.
    """

    def __init__(self, top: str, token: CancelToken) -> None:
        self._top = top
        self._token = token
        self._left = MAX_ENTRIES
        self._unreadable = 0

    def __iter__(self) -> Iterator[str]:
        with explain_os_errors("list", self._top):
            entries = self._list(self._top)
        waiting = list(reversed(entries))
        # A stack, not recursion: a tree may be deeper than Python recurses.
        while waiting:
            self._token.raise_if_cancelled()
            path, is_folder = waiting.pop()
            if not is_folder:
                yield path
                continue
            try:
                below = self._list(os.path.join(self._top, path))
            except OSError:
                self._unreadable += 1
                continue
            waiting += reversed([(os.path.join(path, name), folder) for name, folder in below])

    @property
    def notices(self) -> list[str]:
        found = []
        if self._left <= 0:
            found.append(f"[only the first {MAX_ENTRIES} names were looked at; name a subfolder]")
        if self._unreadable:
            found.append(f"[{self._unreadable} folders could not be read]")
        return found

    def _list(self, folder: str) -> list[tuple[str, bool]]:
        with os.scandir(folder) as entries:
            found = [
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in islice(entries, max(self._left, 0))
            ]
        self._left -= len(found)
        return sorted(entry for entry in found if entry != (".git", True))


def glob_matcher(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression for `fullmatch` on a relative path.

    `*` and `?` stay within a name, `**` crosses folders, `[ab]` is one of these characters. A
    pattern without a slash matches a file's name in every folder. Raises ToolError for an empty
    pattern.
    """
    pattern = pattern.removeprefix("./")
    if not pattern:
        raise ToolError("the pattern is empty; give a glob such as `*.py` or `src/**/test_*`")
    if "/" not in pattern:
        pattern = f"**/{pattern}"
    out = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        end = pattern.find("]", at + 2 + pattern.startswith(("[!", "[^"), at))
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            out.append("(?:[^/]+/)*")
            at += 3
            continue
        if pattern.startswith("**", at):
            out.append(".*")
            at += 2
            continue
        if char == "[" and end > 0:
            inside = pattern[at + 1 : end]
            negated = "^" if inside[0] in "!^" else ""
            escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[len(negated) :])
            out.append(f"(?!/)[{negated}{escaped}]")
            at = end + 1
            continue
        out.append({"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)))
        at += 1
    try:
        return re.compile("".join(out), re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ToolError(f"the glob {pattern!r} cannot be used: {error}") from error
