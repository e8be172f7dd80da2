"""The sandbox's own /tmp, with the home folder in it: where it lies, and new ones for `verify`.

On the disk it is an area: a folder, or a file system in an image, with a folder for all calls and
one for each call that gets a fresh view. The spawner makes the area, in the host's mounts. Init
mounts it at /tmp and covers it with the folder for all calls. So the area itself has no path that a
tool can reach, and init still finds it, by a descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from contextlib import suppress

import msgspec

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.remove_tree import remove_tree
from sandbox_agent_sandbox.inside.walls.descriptors import keep_only
from sandbox_agent_sandbox.inside.walls.image import NoImage, mount_image
from sandbox_agent_sandbox.plan import Identity, Plan, Private, PrivateKind

_SHARED, _FRESH = "shared", "fresh"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SAFE = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV


class NoPrivateFolder(OSError):
    """The folder on the disk cannot be made. hint: what to do."""

    @property
    def hint(self) -> str:
        full = self.errno in (errno.ENOSPC, errno.EDQUOT)
        first = "make room on that disk, or " if full else ""
        return f"{first}set XDG_STATE_HOME to a folder on a disk that this user may write to"


class Area(msgspec.Struct):
    """What a sandbox keeps on the disk.

    lock: a descriptor of it, as the host sees it; a lock hangs on it. path: of a folder; "" for an
    image. tree: the mount that goes to /tmp, where it could be made before the user namespace. why:
    no image could be made. folder: a descriptor of it, as init sees it. fresh: how many folders of
    calls there were.
    """

    lock: int
    path: str = ""
    tree: int = -1
    why: str = ""
    folder: int = -1
    fresh: int = 0


def make_area(private: Private, identity: Identity) -> Area | None:
    """Make the area of a sandbox, in the host's mount namespace. None if /tmp is in memory.

    Raises NoPrivateFolder.
    """
    if private.kind is PrivateKind.MEMORY:
        return None
    owner = identity.outside_uid, identity.outside_gid
    why = ""
    starters_umask = os.umask(0o077)
    try:
        base = _make_base(private.base)
        if private.kind is PrivateKind.IMAGE and private.size is not None:
            try:
                tree = mount_image(base, private.size, private.maker, owner)
            except NoImage as error:
                why = error.strerror or str(error)
            else:
                os.close(base)
                area = Area(os.open(".", _FOLDER, dir_fd=tree), tree=tree)
                _make_shared(area, owner)
                return area
        os.close(base)
        area = _make_folder(private.base, owner)
        area.why = why
        _make_shared(area, owner)
        return area
    except OSError as error:
        raise NoPrivateFolder(error.errno, f"{private.base}: {error.strerror}") from error
    finally:
        os.umask(starters_umask)


def _make_base(base: str) -> int:
    """A descriptor of the folder, which nobody else could have written to. Raises OSError."""
    os.makedirs(base, 0o700, exist_ok=True)
    folder = os.open(base, _FOLDER)
    status = os.fstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        os.close(folder)
        raise PermissionError(errno.EPERM, "others may write to it")
    return folder


def _make_folder(base: str, owner: tuple[int, int]) -> Area:
    """A new folder with a lock on it: what is not locked has been left by a sandbox that is gone.

    The lock belongs to the descriptor, which init and the host hold too: so it is given back when
    the last of them has ended. flock(2)
    """
    for _ in range(64):
        path = f"{base}/{os.urandom(8).hex()}"
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:  # the last sandbox that used it has removed it
            os.close(_make_base(base))
            continue
        folder = os.open(path, _FOLDER)
        # Between these lines another program may have taken it for one that was left.
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path), os.fstat(folder)):
                _give(folder, owner)
                return Area(folder, path)
        os.close(folder)
    raise BlockingIOError(errno.EAGAIN, "its folders are removed as soon as they are made")


def _make_shared(area: Area, owner: tuple[int, int]) -> None:
    os.mkdir(_SHARED, dir_fd=area.lock)
    shared = os.open(_SHARED, _FOLDER, dir_fd=area.lock)
    try:
        _give(shared, owner)
        os.fchmod(shared, 0o1777)
    finally:
        os.close(shared)


def _give(folder: int, owner: tuple[int, int]) -> None:
    # EINVAL: this user namespace has no such user. Then the maps of the sandbox are refused next,
    # with the right hint.
    try:
        os.fchown(folder, *owner)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def open_area(area: Area) -> None:
    """Make the mount that goes to /tmp, where there is none yet: see `open_trees`."""
    if area.tree < 0:
        area.tree = syscalls.open_tree(area.path)
    flags = syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE
    syscalls.mount_setattr(area.tree, "", flags, _SAFE, propagation=syscalls.MS_PRIVATE)


def attach_private(root: str, plan: Plan, area: Area | None) -> None:
    """Mount /tmp in the new root, and the same at /var/tmp."""
    if area is None:
        _in_memory(f"{root}/tmp", plan)
    else:
        _attach(area.tree, f"{root}/tmp")
        # In the mounts of the sandbox, of which init can make copies. open_tree(2)
        area.folder = os.open(f"{root}/tmp", _FOLDER)
        if not os.path.samestat(os.fstat(area.folder), os.fstat(area.lock)):
            raise NoPrivateFolder(errno.ENOENT, f"{area.path} was replaced")
        syscalls.mount(f"{root}/tmp/{_SHARED}", f"{root}/tmp", None, syscalls.MS_BIND)
    _also_at_var(root)


def fresh_folder(area: Area) -> int:
    """A new, empty folder for one call, as a detached mount. Those of earlier calls, which have
    ended, are removed meanwhile by a process of its own."""
    if area.fresh:
        _remove_in_child(area)
    area.fresh += 1
    name = f"{_FRESH}-{area.fresh}"
    os.mkdir(name, dir_fd=area.folder)
    os.chmod(name, 0o1777, dir_fd=area.folder)
    return syscalls.open_tree(name, area.folder)


def attach_fresh(plan: Plan, tree: int | None) -> None:
    """Mount a new /tmp over the one that all calls share. tree: from `fresh_folder`."""
    if tree is None:
        _in_memory("/tmp", plan)
    else:
        _attach(tree, "/tmp")
    _also_at_var("")


def _attach(tree: int, target: str) -> None:
    place = os.open(target, os.O_PATH | os.O_CLOEXEC)
    syscalls.move_mount_onto(tree, place)
    os.close(place)
    os.close(tree)


def _in_memory(target: str, plan: Plan) -> None:
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    size = "" if plan.private.size is None else f"size={plan.private.size},"
    syscalls.mount("tmpfs", target, "tmpfs", flags, f"{size}mode=1777")


def _also_at_var(root: str) -> None:
    # One and the same, and no link: a workspace may lie below each of them.
    syscalls.mount(f"{root}/tmp", f"{root}/var/tmp", None, syscalls.MS_BIND)


def _remove_in_child(area: Area) -> None:
    """In a child of init, which ends with the sandbox at the latest."""
    if os.fork() == 0:
        try:
            signal.set_wakeup_fd(-1)
            keep_only([area.folder])  # an output of a call that stays open has no end of file
            syscalls.set_process_name("sandbox-clean")
            for number in range(1, area.fresh + 1):
                with suppress(OSError):
                    remove_tree(f"{_FRESH}-{number}", area.folder)
        finally:
            os._exit(0)
