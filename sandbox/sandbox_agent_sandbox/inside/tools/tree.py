"""Walking a folder, bounded in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice

from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.inside.tools.textfile import explain_os_errors, leads_to_folder, shown

MAX_ENTRIES = 200_000
"""Names that one walk looks at. Beyond them the walk ends, with a notice."""


class LeftOut:
    """What a tool did not look into: for each reason, how many and the first names."""

    def __init__(self, names_shown: int = 3) -> None:
        self._names_shown = names_shown
        self._found: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, why: str, name: str) -> None:
        """why: the beginning of a line, such as "binary files, not searched"."""
        names = self._found.setdefault(why, [])
        self._counts[why] = self._counts.get(why, 0) + 1
        if len(names) < self._names_shown:
            names.append(name)

    def notices(self) -> list[str]:
        """A line for each reason: `[binary files, not searched: a.o, b.o, c.o and 2 more]`."""
        return [self._notice(why) for why in sorted(self._found)]

    def _notice(self, why: str) -> str:
        names, count = self._found[why], self._counts[why]
        more = f" and {count - len(names)} more" if count > len(names) else ""
        return f"[{why}: {', '.join(map(shown, names))}{more}]"


class Walk:
    """The files below a folder, as paths relative to it, sorted by name.

    It does not follow links to folders, which may form a circle, and leaves out `.git`. Iterating
    raises Cancelled once the token is cancelled.

    on_folder: called with the path of each folder. Afterwards `notices` lists what was left out,
    and `has_git` says whether a `.git` was.
    """

    def __init__(
        self, top: str, token: CancelToken, on_folder: Callable[[str], object] = lambda _: None
    ) -> None:
        self._top = top
        self._token = token
        self._left = MAX_ENTRIES
        self._left_out = LeftOut()
        self._on_folder = on_folder
        self.has_git = False

    def __iter__(self) -> Iterator[str]:
        with explain_os_errors("list", self._top):
            entries = self._list("")
        waiting = list(reversed(entries))
        # A stack, not recursion: a tree may be deeper than Python recurses.
        while waiting:
            self._token.raise_if_cancelled()
            path, is_folder = waiting.pop()
            if not is_folder:
                yield path
                continue
            self._on_folder(path)
            try:
                below = self._list(path)
            except OSError as error:
                self._left_out.add(f"folders that cannot be read ({error.strerror})", path)
                continue
            waiting += reversed(below)

    @property
    def notices(self) -> list[str]:
        found = []
        if self._left <= 0:
            found.append(f"[only the first {MAX_ENTRIES} names were looked at; name a subfolder]")
        return found + self._left_out.notices()

    def _list(self, path: str) -> list[tuple[str, bool]]:
        with os.scandir(os.path.join(self._top, path)) as entries:
            found = []
            for entry in islice(entries, max(self._left, 0)):
                name = os.path.join(path, entry.name)
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and entry.name == ".git":
                    self.has_git = True
                    continue
                if entry.is_symlink() and leads_to_folder(entry):
                    self._left_out.add("links to folders, not followed", name)
                found.append((name, is_folder))
        self._left -= len(found)
        return sorted(found)
