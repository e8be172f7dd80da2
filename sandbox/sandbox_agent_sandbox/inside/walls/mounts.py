"""The mount view: a new root that holds what the plan lists, and nothing else.
mount_namespaces(7).

Mount trees are copied first and attached later, because the order of privileges differs. Real root
must copy *before* it enters its user namespace: afterwards it can neither reach other people's
folders nor idmap. An ordinary user can copy only *after*.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.walls.idmap import map_owner
from sandbox_agent_sandbox.inside.walls.places import Places, copy_trees
from sandbox_agent_sandbox.inside.walls.private import Area, attach_fresh, attach_private
from sandbox_agent_sandbox.plan import Plan

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SHARED = ("/tmp/", "/var/tmp/")
_SAFE = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV


def open_trees(plan: Plan) -> list[int]:
    """Detached copies of the plan's binds, in its order, with their final attributes."""
    # Whatever else a tool has put in its place, a protected path is the one that was planned.
    known = {item.path: (item.device, item.inode) for item in plan.protected}
    paths = [(bind.path, known.get(bind.path)) for bind in plan.binds]
    trees = []
    for bind, tree in zip(plan.binds, copy_trees(paths), strict=True):
        if bind.idmapped:
            map_owner(tree, bind, plan.identity)
        # Private: what the host mounts below it later must not appear inside.
        syscalls.mount_setattr(
            tree,
            "",
            syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE,
            _SAFE | (0 if bind.writable else syscalls.MOUNT_ATTR_RDONLY),
            propagation=syscalls.MS_PRIVATE,
        )
        trees.append(tree)
    return trees


def build_root(
    plan: Plan,
    trees: Sequence[int],
    area: Area | None,
    mount_proc: Callable[[str, str], object],
) -> None:
    """Build the new root over an existing folder of this mount namespace, and pivot into it. area:
    of /tmp, where it is on the disk. mount_proc: mounts /proc, given where to, and a null device.
    """
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    root = next(folder for folder in ("/tmp", "/mnt", "/usr") if os.path.isdir(folder))
    _tmpfs(root, "size=16m,mode=755")
    for folder in ("dev", "proc", "etc", "tmp", "run", "var", "var/tmp"):
        os.mkdir(f"{root}/{folder}")
    _devices(f"{root}/dev", plan)
    mount_proc(f"{root}/proc", f"{root}/dev/null")
    attach_private(root, plan, area)
    for link in plan.symlinks:
        _symlink(root + link.path, link.target)
    places = _places(root, plan)
    pins = list(plan.pins)
    for bind, tree in zip(plan.binds, trees, strict=True):
        while pins and pins[0].count("/") < bind.path.count("/"):
            _pin(places, pins.pop(0))
        places.attach(tree, bind.path)
    for pin in pins:
        _pin(places, pin)
    _cover(root, places, plan)
    places.close()
    os.makedirs(f"{root}{plan.home}", 0o700, exist_ok=True)
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
    syscalls.mount_setattr(syscalls.AT_FDCWD, "/", 0, _SAFE | syscalls.MOUNT_ATTR_RDONLY)


def renew_private_folders(plan: Plan, fresh: int | None) -> None:
    """Mount a new home folder, /tmp and /dev/shm over those that all calls share, in the mount
    namespace of one call. What the plan shows below them stays. fresh: the new /tmp, where it is on
    the disk.
    """
    starters_umask = os.umask(0o022)
    below = [path for path in _outermost(plan) if path.startswith(_SHARED)]
    trees = list(copy_trees([(path, None) for path in below]))
    attach_fresh(plan, fresh)
    for link in plan.symlinks:
        if link.path.startswith(_SHARED):
            _symlink(link.path, link.target)
    places = _places("", plan)
    for pin in plan.pins:
        # Each once, and first of all: a pin covers what was mounted below it before.
        if any(path.startswith(f"{pin}/") for path in below):
            _pin(places, pin)
    for path, tree in zip(below, trees, strict=True):
        places.attach(tree, path)
    places.close()
    _shared_memory("/dev", plan)
    os.makedirs(plan.home, 0o700, exist_ok=True)
    for file in plan.files:
        if file.path.startswith(f"{plan.home}/") and not os.path.lexists(file.path):
            os.makedirs(os.path.dirname(file.path), exist_ok=True)
            _write(file.path, file.text)
    os.umask(starters_umask)


def _outermost(plan: Plan) -> list[str]:
    """The binds that lie in no other bind. A copy of their trees has the others in it."""
    found: list[str] = []
    for bind in plan.binds:  # outermost first
        if not any(bind.path.startswith(f"{path}/") for path in found):
            found.append(bind.path)
    return found


def _shared_memory(dev: str, plan: Plan) -> None:
    size = plan.private.shared_memory
    _tmpfs(f"{dev}/shm", "mode=1777" if size is None else f"size={size},mode=1777")


def _tmpfs(target: str, options: str, flags: int = 0) -> None:
    syscalls.mount(
        "tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | flags, options
    )


def _devices(dev: str, plan: Plan) -> None:
    """A minimal /dev: harmless devices, its own terminals (pts(4)), shared memory."""
    syscalls.mount("tmpfs", dev, "tmpfs", syscalls.MS_NOSUID, "size=64k,mode=755")
    for name in _DEVICES:
        if not os.path.exists(f"/dev/{name}"):
            continue
        _touch(f"{dev}/{name}")
        syscalls.mount(f"/dev/{name}", f"{dev}/{name}", None, syscalls.MS_BIND)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"{dev}/{name}")
    os.mkdir(f"{dev}/pts")
    syscalls.mount(
        "devpts",
        f"{dev}/pts",
        "devpts",
        syscalls.MS_NOSUID | syscalls.MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620",
    )
    os.mkdir(f"{dev}/shm")
    _shared_memory(dev, plan)
    # The folder alone: each device is a mount of its own and keeps its attributes.
    syscalls.mount_setattr(
        syscalls.AT_FDCWD, dev, 0, syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID
    )


def _places(root: str, plan: Plan) -> Places:
    return Places(root, (bind.path for bind in plan.binds if bind.writable))


def _pin(places: Places, folder: str) -> None:
    # What even init cannot reach is below a folder of somebody else, which shuts tools out too.
    with suppress(PermissionError):
        places.pin(folder)


def _cover(root: str, places: Places, plan: Plan) -> None:
    """Mount the sandbox's own files and the masks over what the host has at their places.

    They lie in a file system of their own, which is read-only and has no path in the end. Until
    then its folder is in the root, and not in one that the host may share (/run, /tmp).
    """
    own = f"{root}/.sandbox-agent-own"
    os.mkdir(own)
    _tmpfs(own, "mode=755")
    covers = []
    for number, file in enumerate(plan.files):
        target = root + file.path
        if os.path.lexists(target):
            before = _text_of(target) if file.appended else ""
            _write(f"{own}/{number}", before + file.text)
            covers.append((f"{own}/{number}", file.path))
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _write(target, file.text)
    # In a folder that can be listed and not searched, git does not take the files that it keeps for
    # deleted: it asks for each, and gets EACCES. `cp` and `find` get over it.
    os.mkdir(f"{own}/folder", 0o555)
    os.mkdir(f"{own}/folder-unreadable", 0o444)
    _write(f"{own}/file", "", 0o444)
    _write(f"{own}/file-unreadable", "", 0)
    for mask in plan.masks:
        kind = "folder" if mask.folder else "file"
        kind += "-unreadable" if mask.unreadable else ""
        covers.append((f"{own}/{kind}", mask.path))
    # A bind has the attributes of the mount that it is made from.
    syscalls.mount_setattr(
        syscalls.AT_FDCWD, own, 0, _SAFE | syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOEXEC
    )
    for source, path in covers:
        # What even init cannot reach is below a folder of somebody else, which shuts tools out too.
        with suppress(PermissionError):
            places.cover(source, path)
    syscalls.umount(own, syscalls.MNT_DETACH)
    os.rmdir(own)


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except PermissionError:
        return ""
    return text if not text or text.endswith("\n") else f"{text}\n"


def _symlink(path: str, target: str) -> None:
    if not os.path.lexists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _write(path: str, text: str, mode: int = 0o644) -> None:
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
