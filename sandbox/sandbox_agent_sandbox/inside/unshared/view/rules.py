"""The view without mounts: rules of Landlock for what the plan lists, and for nothing else.
landlock(7)

What has no rule can be neither read nor written (EACCES). Rules are about files, not about paths:
each path is resolved once, without links, and the rule is for what was found. So no link that a
tool of another run puts in the place of a folder widens a view.
"""

from __future__ import annotations

import errno
import os
import stat

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.walls.landlock import FIRST_SCOPES, landlock_abi
from sandbox_agent_sandbox.inside.walls.places import Exchanged
from sandbox_agent_sandbox.plan import Access, Plan

_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""By ABI: how many rights for files there are, from the lowest bit on. Under the first one nothing
can be moved to another folder (EXDEV)."""
_FIRST_TCP, _FIRST_LOG = 4, 7
_SCOPES = 3
"""LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL."""
_QUIET = 1 | 4
"""LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF, _LOG_SUBDOMAINS_OFF: a tool must not be able to fill
the host's audit log with what it is denied."""
_OF_A_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE, IOCTL_DEV. All others are about what a folder holds."""
_ALL = (1 << 16) - 1
_DEVICES = 1 << 6 | 1 << 11 | 1 << 15
"""MAKE_CHAR, MAKE_BLOCK, IOCTL_DEV."""

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make_ruleset(plan: Plan, own: str) -> int:
    """The rules of a plan, as a descriptor. own: the folder of the tools' TMPDIR and HOME.

    Raises Exchanged if a path is not what it was when the plan was made, and OSError where there is
    no Landlock.
    """
    abi = landlock_abi()
    known = (1 << max(count for first, count in _RIGHTS.items() if first <= max(abi, 1))) - 1
    ruleset = syscalls.landlock_create_ruleset(
        known,
        plan.landlock.tcp if abi >= _FIRST_TCP else 0,
        _SCOPES if abi >= FIRST_SCOPES else 0,
    )
    identities = {item.path: (item.device, item.inode) for item in plan.protected}
    top = os.open("/", _FOLDER)
    try:
        for access in (*plan.landlock.files, Access(own, _ALL & ~_DEVICES)):
            _allow(ruleset, top, access, known, identities.get(access.path))
    except BaseException:
        os.close(ruleset)
        raise
    finally:
        os.close(top)
    return ruleset


def restrict(ruleset: int) -> None:
    """Restrict this thread, and all that comes from it, for good. Needs no_new_privs."""
    syscalls.landlock_restrict_self(ruleset, _QUIET if landlock_abi() >= _FIRST_LOG else 0)


def moved(value: str, plan: Plan, own: str) -> str:
    """A path, a list of paths with colons, or another variable of a call, with its own places in
    it. A plan says /tmp, and a folder of that name is the host's."""
    return ":".join(_moved(one, plan, own) for one in value.split(":"))


def _moved(path: str, plan: Plan, own: str) -> str:
    option, equals, last = path.rpartition("=")
    if equals and not path.startswith("/"):  # such as -Djava.io.tmpdir=/tmp
        option, path = f"{option}=", last
    else:
        option = ""
    home = f"{own}/{os.path.basename(plan.home)}"
    for place, to in ((plan.home, home), ("/var/tmp", own), ("/tmp", own)):
        if path == place or path.startswith(f"{place}/"):
            # What the policy names below the host's /tmp stays what it is.
            named = any(f"{path}/".startswith(f"{bind.path}/") for bind in plan.binds)
            return option + (path if named else to + path.removeprefix(place))
    return option + path


def _allow(
    ruleset: int, top: int, access: Access, known: int, identity: tuple[int, int] | None
) -> None:
    try:
        place = find(top, access.path)
    except (FileNotFoundError, PermissionError):
        return  # what this process cannot reach, no tool can; it has no rule, so it stays shut
    try:
        status = os.fstat(place)
        if identity is not None and (status.st_dev, status.st_ino) != identity:
            raise Exchanged(errno.ESTALE, f"{access.path} is now another file or folder")
        rights = access.rights & known
        if not stat.S_ISDIR(status.st_mode):
            rights &= _OF_A_FILE
        if rights:
            syscalls.landlock_add_rule(ruleset, place, rights)
    finally:
        os.close(place)


def find(top: int, path: str) -> int:
    """A descriptor (O_PATH) of what lies at an absolute path, in which no part is a link. top: of
    the folder /. Raises Exchanged."""
    try:
        return syscalls.open_beneath(top, path.lstrip("/") or ".")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Exchanged(errno.ELOOP, f"{path} is now a link, or lies below one") from None
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return _walk(top, path)


def _walk(top: int, path: str) -> int:
    """The same on a kernel without openat2(2), and where a container's filter refuses it."""
    *folders, last = path.strip("/").split("/")
    at = os.dup(top)
    try:
        for name in folders:
            try:
                below = os.open(name, _FOLDER, dir_fd=at)
            except NotADirectoryError:
                raise Exchanged(errno.ELOOP, f"{path} is now a link, or lies below one") from None
            os.close(at)
            at = below
        found = os.open(last or ".", _FOLDER & ~os.O_DIRECTORY, dir_fd=at)
    finally:
        os.close(at)
    if stat.S_ISLNK(os.fstat(found).st_mode):
        os.close(found)
        raise Exchanged(errno.ELOOP, f"{path} is now a link, or lies below one")
    return found
