"""Hides and protects by ownership, where root is the agent and tools are the workspace's owner.

Landlock cannot deny a path inside a folder that tools write, and the owner of a file may change it.
So while a sandbox is there, root owns what the policy protects or hides, and the folders above it
in the workspace. In those folders tools go on making, changing and removing files of their own:
the folders belong to a group that only tools have, and are sticky, so that nobody renames or
removes what is another's. chown(2), inode(7)

Everything is given back when the sandbox has ended. A record beside the sandboxes' folders says
what there is to give back; the next start does it for a sandbox that was killed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from sandbox_agent_sandbox.inside.unshared.view.rules import find
from sandbox_agent_sandbox.plan import Plan

TOOLS_GROUP = 1_912_602_626
"""A group that no account has. Tools have it beside their own."""

_PREFIX = "owned-"
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _Was(msgspec.Struct, frozen=True):
    """A path as it was before."""

    path: str
    device: int
    inode: int
    uid: int
    gid: int
    mode: int


class Taken(OSError):
    """It cannot be taken into root's ownership. hint: what to do."""

    hint = "wait for the other sandbox in this workspace, or give each a workspace of its own"


class Owned:
    """What root owns for one sandbox. Raises OSError, and then nothing has changed."""

    def __init__(self, plan: Plan) -> None:
        assert plan.unshared is not None
        self._record = self._top = -1
        self._name = ""
        give_back_left(plan.private.base)
        if not plan.unshared.owned and not plan.unshared.covered:
            return
        self._identity = plan.identity
        self._top = os.open("/", _FOLDER)
        try:
            changes = list(self._changes(plan))
            self._write(plan.private.base, [was for was, _ in changes])
            for was, mode in changes:
                self._take(was, mode)
        except BaseException:
            self.give_back()
            raise

    def give_back(self) -> None:
        """Give everything back. Idempotent."""
        if self._record >= 0:
            _give_back(self._record)
            with suppress(OSError):
                os.unlink(self._name)
            os.close(self._record)
            self._record = -1
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def _changes(self, plan: Plan) -> Iterator[tuple[_Was, int]]:
        """What becomes root's, and with which mode: folders above first."""
        assert plan.unshared is not None
        roots = [bind.path for bind in plan.binds if bind.writable]
        above: dict[str, None] = {}
        for path in (*plan.unshared.owned, *plan.unshared.covered):
            root = next(one for one in roots if path.startswith(f"{one}/"))
            while path != root:
                path = os.path.dirname(path)
                above[path] = None
        for path in sorted(above):
            was = self._look(path)
            # What tools may do in it they do by their group.
            kept = stat.S_IMODE(was.mode) & ~(stat.S_IRWXG | stat.S_ISGID)
            yield was, kept | self._rights(was) << 3 | stat.S_ISVTX
        for path in plan.unshared.owned:
            for was in self._below(path):
                readable = self._rights(was) & 0o5
                yield was, (was.mode & 0o705) | readable << 3
        for path in plan.unshared.covered:
            was = self._look(path)
            yield was, 0o700 if stat.S_ISDIR(was.mode) else 0o600

    def _rights(self, was: _Was) -> int:
        """What tools could do before, as the last three bits of a mode."""
        if was.uid == self._identity.outside_uid:
            return was.mode >> 6 & 0o7
        return was.mode >> (3 if was.gid == self._identity.outside_gid else 0) & 0o7

    def _below(self, path: str) -> Iterator[_Was]:
        was = self._look(path)
        if stat.S_ISLNK(was.mode):
            return
        yield was
        if stat.S_ISDIR(was.mode):
            with os.scandir(path) as entries:
                names = sorted(entry.name for entry in entries if not entry.is_symlink())
            for name in names:
                yield from self._below(f"{path}/{name}")

    def _look(self, path: str) -> _Was:
        place = find(self._top, path)
        try:
            status = os.fstat(place)
        finally:
            os.close(place)
        if status.st_gid == TOOLS_GROUP:
            raise Taken(errno.EBUSY, f"{path} is kept by another sandbox")
        return _Was(
            path, status.st_dev, status.st_ino, status.st_uid, status.st_gid, status.st_mode
        )

    def _write(self, base: str, changes: Sequence[_Was]) -> None:
        self._name = f"{base}/{_PREFIX}{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._record = os.open(self._name, flags, 0o600)
        fcntl.flock(self._record, fcntl.LOCK_EX)
        data = memoryview(msgspec.json.encode(changes))
        while data:
            data = data[os.write(self._record, data) :]
        os.fsync(self._record)

    def _take(self, was: _Was, mode: int) -> None:
        place = find(self._top, was.path)
        try:
            status = os.fstat(place)
            if (status.st_dev, status.st_ino) != (was.device, was.inode):
                raise Taken(errno.ESTALE, f"{was.path} is now another file or folder")
            # By the descriptor: no link is followed. A change of the owner clears bits of the mode.
            here = f"/proc/self/fd/{place}"
            os.chown(here, 0, TOOLS_GROUP)
            os.chmod(here, stat.S_IMODE(mode))
        finally:
            os.close(place)


def give_back_left(base: str) -> None:
    """Give back what sandboxes have left that were killed."""
    try:
        names = [name for name in os.listdir(base) if name.startswith(_PREFIX)]
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            record = os.open(f"{base}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or it is still in use
                _give_back(record)
                os.unlink(f"{base}/{name}")
            finally:
                os.close(record)


def _give_back(record: int) -> None:
    size = os.fstat(record).st_size
    try:
        kept = msgspec.json.decode(os.pread(record, size, 0), type=list[_Was])
    except msgspec.DecodeError:  # killed while it was written: nothing had been taken
        return
    top = os.open("/", _FOLDER)
    try:
        for was in reversed(kept):  # what is below first: the folder above is still root's
            with suppress(OSError):
                place = find(top, was.path)
                try:
                    status = os.fstat(place)
                    if (status.st_dev, status.st_ino, status.st_gid) == (
                        was.device,
                        was.inode,
                        TOOLS_GROUP,
                    ):
                        here = f"/proc/self/fd/{place}"
                        os.chown(here, was.uid, was.gid)
                        os.chmod(here, stat.S_IMODE(was.mode))
                finally:
                    os.close(place)
    finally:
        os.close(top)
