"""Idmapped mounts: what is root's on disk appears inside as the sandbox user's.
mount_setattr(2)."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.fork_apart import fork_apart
from sandbox_agent_sandbox.inside.kernel.small_files import read_bytes, write_text
from sandbox_agent_sandbox.plan import Bind, Identity

_IDS = 0xFFFFFFFF


class NoUserNamespace(OSError):
    """The host refused the user namespace that carries the map."""


class CannotShow(OSError):
    """A file system that cannot show other people's files as the sandbox user's. hint: a mend."""

    hint = "run as an ordinary user, or give the folder to one (chown -R)"


def swap_map(disk: int, shown: int) -> str:
    """A uid_map that exchanges two ids and leaves all others as they are.

    All others are mapped too: a file whose owner has no mapping cannot even be written
    (EOVERFLOW), and a project that root owns may hold files of other users.
    """
    if disk == shown:
        return f"0 0 {_IDS}"
    low, high = sorted((disk, shown))
    lines = [(0, 0, low), (low, high, 1), (low + 1, low + 1, high - low - 1), (high, low, 1)]
    lines.append((high + 1, high + 1, _IDS - high - 1))
    return "\n".join(f"{a} {b} {count}" for a, b, count in lines if count > 0)


@contextmanager
def mapping_namespace(uid_map: str, gid_map: str) -> Iterator[int]:
    """A descriptor of a user namespace that exists only to carry these maps."""
    ready, go = os.pipe(), os.pipe()
    child = fork_apart()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(ready[1], b"0")
            os.close(go[1])
            os.read(go[0], 1)
        except OSError as error:
            os.write(ready[1], str(error.errno).encode())
        finally:
            os._exit(0)
    try:
        os.close(ready[1])
        os.close(go[0])
        number = int(os.read(ready[0], 8) or errno.EPERM)
        if number:
            raise NoUserNamespace(number, f"unshare(CLONE_NEWUSER): {os.strerror(number)}")
        write_text(f"/proc/{child}/uid_map", uid_map)
        write_text(f"/proc/{child}/gid_map", gid_map)
        fd = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(ready[0])
        os.close(go[1])  # the child reads the end of the file and exits
        os.waitpid(child, 0)


def map_owner(tree: int, bind: Bind, identity: Identity) -> None:
    """Show the files of `bind`'s owner as the sandbox user's own. Needs real root.

    Raises OSError where the file system cannot do it (EINVAL).
    """
    uids = swap_map(bind.owner_uid, identity.outside_uid)
    gids = swap_map(bind.owner_gid, identity.outside_gid)
    with mapping_namespace(uids, gids) as namespace:
        try:
            syscalls.mount_setattr(
                tree, "", syscalls.AT_EMPTY_PATH, syscalls.MOUNT_ATTR_IDMAP, userns=namespace
            )
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise CannotShow(
                error.errno,
                f"{bind.path} is on {_file_system(bind.path)}, which cannot show root's files as an"
                " ordinary user's (idmapped mount)",
            ) from error


def _file_system(path: str) -> str:
    """The type of the file system that a path is on, such as "overlay". proc_pid_mountinfo(5)."""
    found, kind = "", "a file system"
    for line in read_bytes("/proc/self/mountinfo").splitlines():
        words = list(map(os.fsdecode, line.split()))
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[4])
        if len(point) >= len(found) and f"{path}/".startswith(f"{point.rstrip('/')}/"):
            found, kind = point, words[words.index("-") + 1]
    return kind
