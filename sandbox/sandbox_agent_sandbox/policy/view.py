"""What a sandbox shows, while its plan is being made."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox_agent_sandbox.plan import Bind, File, Identity, Mask, Symlink
from sandbox_agent_sandbox.policy.paths import (
    Followed,
    follow,
    is_inside,
    is_inside_any,
    read_text,
)
from sandbox_agent_sandbox.policy.probe import HostFacts

HOME = "/tmp/home"
"""The home folder inside."""

KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
"""Never shared: what lies there acts on the host's kernel. The sandbox has its own."""

OWN_FOLDERS = frozenset(("/", "/dev", "/proc", "/etc", "/tmp", "/run", "/var", "/var/tmp"))
"""Folders that every sandbox has of its own, also where the host has a link of that name."""


class View:
    """The binds, links, masks and files of a plan, and the notes about what is not shown.

    home: the home folder outside, without links. workspace, writable: real paths of the workspace,
    and of all folders that tools can write. What a link in them leads to is decided by tools, so it
    is not shown on their word. notes: what the user is told before the start. variables: of the
    tools' environment.
    """

    def __init__(
        self,
        facts: HostFacts,
        identity: Identity,
        workspace: str | None = None,
        writable: Sequence[str] = (),
    ) -> None:
        self.facts = facts
        self.identity = identity
        self.workspace = workspace
        self.writable = tuple(writable)
        self.home = follow(str(facts.home)).real
        self.masks: list[Mask] = []
        self.files: list[File] = []
        self.notes: list[str] = []
        self.variables: dict[str, str] = {}
        self._binds: dict[str, Bind] = {}
        self._links: dict[str, str] = {}

    def add(self, path: Path | str, *, writable: bool = False, remap: bool = False) -> str:
        """Show a path that exists, under all its names. Returns the real one.

        writable: tools may change it. remap: as root, show what another user owns as the sandbox
        user's own.
        """
        followed = self.follow(path)
        self.keep_links(str(path), followed)
        if not is_inside_any(followed.real, KERNEL_FOLDERS):
            self._binds[followed.real] = self._bind(followed.real, writable, remap or writable)
        return followed.real

    def add_unseen(self, path: Path | str) -> None:
        """Show a path read-only, unless it is visible already. Its links are kept in any case."""
        followed = self.follow(path)
        if self.shows(followed.real):
            self.keep_links(str(path), followed)
        else:
            self.add(path)

    def guard(self, folder: Path) -> None:
        """Show a folder read-only, even where it is in the workspace, or named in `write`."""
        real = self.follow(folder).real
        if self.can_write(real):
            self._binds[real] = self._bind(real, writable=False, remap=False)

    def follow(self, path: Path | str) -> Followed:
        """Where a path leads."""
        return follow(str(path), self.writable)

    def keep_links(self, path: str, followed: Followed) -> None:
        """Make the links on the way to `path` inside as well. The sandbox has a /proc and a /dev of
        its own, with other links in them."""
        for link, target in followed.links.items():
            if link in OWN_FOLDERS:
                # The sandbox has a folder of its own there. So the path itself becomes the link.
                self._links[os.path.normpath(path)] = followed.real
            elif not is_inside_any(link, KERNEL_FOLDERS):
                self._links[link] = target

    def copy_to_home(self, name: str, section: str = "") -> None:
        """Copy a small file of the user's own to the home folder inside, or one section of it."""
        followed = self.follow(f"{self.home}/{name}")
        text = "" if self.can_write(followed.real) else read_text(followed.real)
        if section:
            lines = text.splitlines()
            first = lines.index(section) if section in lines else len(lines)
            kept = itertools.takewhile(lambda line: line[:1] != "[", lines[first + 1 :])
            text = "\n".join([section, *kept, ""]) if first < len(lines) else ""
        if text and not self.shows(HOME):
            self.files.append(File(f"{HOME}/{name}", text))

    def shows(self, real: str) -> bool:
        """Whether a path, given without links, is visible."""
        return self.can_write(real) or any(one in self._binds for one in _upwards(real))

    def bind_above(self, real: str) -> Bind | None:
        """The bind that a path, given without links, is in; None if init makes it."""
        return next((self._binds[one] for one in _upwards(real) if one in self._binds), None)

    def can_write(self, real: str) -> bool:
        """Whether tools can write below a path, given without links."""
        return is_inside_any(real, self.writable)

    def leads_to(self, path: str) -> str | None:
        """Where a path leads, if that is visible and no link of the tools' leads there."""
        followed = self.follow(path)
        visible = self.shows(followed.real) or is_inside_any(followed.real, KERNEL_FOLDERS)
        if followed.loop or not visible:
            return None
        return followed.real

    def is_too_wide(self, real: str) -> bool:
        """Whether a folder must not be shown as a whole, because it is the home folder or the
        workspace, or holds one of them."""
        return any(is_inside(one, real) for one in (self.home, *self.writable))

    def note(self, text: str) -> None:
        """Tell the user something before the start."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def binds(self) -> tuple[Bind, ...]:
        """Outermost first, without those that would change nothing."""
        order = sorted(self._binds.values(), key=lambda bind: (bind.path.count("/"), bind.path))
        return tuple(bind for bind in order if not self._is_redundant(bind))

    @property
    def symlinks(self) -> tuple[Symlink, ...]:
        """Those that no bind and no other link shows already."""
        needed = sorted(
            link
            for link in self._links
            if not self.shows(link) and not any(one in self._links for one in _upwards(link, 1))
        )
        return tuple(Symlink(link, self._links[link]) for link in needed)

    def _is_redundant(self, bind: Bind) -> bool:
        above = _upwards(bind.path, 1)
        outer = next((self._binds[path] for path in above if path in self._binds), None)
        plain = outer is not None and not (bind.idmapped or outer.idmapped)
        return plain and outer is not None and outer.writable == bind.writable

    def _bind(self, path: str, writable: bool, remap: bool) -> Bind:
        status = os.stat(path)
        remap = remap and self.facts.uid == 0 and self.facts.can_mount
        if remap and status.st_uid != self.identity.outside_uid:
            return Bind(path, writable, True, status.st_uid, status.st_gid)
        return Bind(path, writable)


def _upwards(path: str, skipped: int = 0) -> Iterator[str]:
    """A path, and each folder above it, but for the first ones."""
    for _ in range(skipped):
        path = path.rpartition("/")[0]
    while path:
        yield path
        path = path.rpartition("/")[0]
