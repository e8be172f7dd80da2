"""System calls that Python's `os` lacks, through ctypes. Each raises OSError.

Numbers from 424 on are the same on every architecture (Documentation/process/adding-syscalls.rst);
the older ones are keyctl, pivot_root and renameat2, which not every C library wraps.

Each function has the types of its arguments from the beginning, and the text of an error is made
when there is one: what a forked process creates or counts, it writes to, page by page.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_long, c_size_t, c_ulong
from functools import partial
from typing import Any

from sandbox_agent_sandbox.privileges import SHUT_BY_US

_MACHINE = os.uname().machine
_libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_IDMAP = 0x100000

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_FALLOC_FL_KEEP_SIZE = 1

_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_EMPTY_PATH = 0x40

_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446
_SYS_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276}.get(_MACHINE, -1)
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}.get(_MACHINE, -1)
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}.get(_MACHINE, -1)

_KEYCTL_JOIN_SESSION_KEYRING = 1
_SECCOMP_MODE_FILTER = 2
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4


_Function = Callable[..., int]


def _function(name: str, *types: Any) -> _Function:
    """A function of the C library. It returns a number below 0 for an error."""
    function = _libc[name]  # another object than for the same name with other types
    function.argtypes, function.restype = types, c_long if name == "syscall" else c_int
    return function


def _syscall(number: int, *types: Any) -> _Function:
    """A system call by its number: of integers as c_long and of bytes as c_char_p. ENOSYS for -1,
    one that is not known on this machine. syscall(2)"""
    return partial(_function("syscall", c_long, *types), number)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


_unshare = _function("unshare", c_int)
_setns = _function("setns", c_int, c_int)
_mount = _function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = _function("umount2", c_char_p, c_int)
_fallocate = _function("fallocate", c_int, c_int, ctypes.c_int64, ctypes.c_int64)
_prctl = _function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = _function("capset", c_char_p, c_char_p)
_sethostname = _function("sethostname", c_char_p, c_size_t)
_pivot_root = _syscall(_SYS_PIVOT_ROOT, c_char_p, c_char_p)
_open_tree = _syscall(_SYS_OPEN_TREE, c_long, c_char_p, c_long)
_fsopen = _syscall(_SYS_FSOPEN, c_char_p, c_long)
_fsconfig = _syscall(_SYS_FSCONFIG, c_long, c_long, c_char_p, c_char_p, c_long)
_fsmount = _syscall(_SYS_FSMOUNT, c_long, c_long, c_long)
_openat2 = _syscall(_SYS_OPENAT2, c_long, c_char_p, c_char_p, c_long)
_move_mount = _syscall(_SYS_MOVE_MOUNT, c_long, c_char_p, c_long, c_char_p, c_long)
_mount_setattr = _syscall(_SYS_MOUNT_SETATTR, c_long, c_char_p, c_long, c_char_p, c_long)
_close_range = _syscall(_SYS_CLOSE_RANGE, c_long, c_long, c_long)
_renameat2 = _syscall(_SYS_RENAMEAT2, c_long, c_char_p, c_long, c_char_p, c_long)
_landlock_create_ruleset = _syscall(_SYS_LANDLOCK_CREATE_RULESET, c_char_p, c_long, c_long)
_landlock_add_rule = _syscall(_SYS_LANDLOCK_ADD_RULE, c_long, c_long, c_char_p, c_long)
_landlock_restrict_self = _syscall(_SYS_LANDLOCK_RESTRICT_SELF, c_long, c_long)
_keyctl = _syscall(_SYS_KEYCTL, c_long, c_char_p)


def unshare(flags: int) -> None:
    """Leave the caller's namespaces for new ones. unshare(2)."""
    if _unshare(flags) < 0:
        raise _error(f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` refers to. setns(2)."""
    if _setns(fd, kind) < 0:
        raise _error("setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount a filesystem, or change a mount. mount(2)."""
    texts = source.encode() if source else None, kind.encode() if kind else None
    options = data.encode() if data else None
    if _mount(texts[0], os.fsencode(target), texts[1], flags, options) < 0:
        raise _error(f"mount {kind or source or 'change'} on {target}")


def umount(target: str, flags: int = 0) -> None:
    """Detach a mount. umount2(2)."""
    if _umount2(os.fsencode(target), flags) < 0:
        raise _error(f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Change the root mount. pivot_root(2)."""
    if _pivot_root(os.fsencode(new_root), os.fsencode(put_old)) < 0:
        raise _error("pivot_root")


def open_tree(path: str, folder: int = AT_FDCWD) -> int:
    """A detached recursive copy of the mounts at `path`, as a descriptor. open_tree(2).

    folder: where a relative path starts.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | AT_RECURSIVE
    fd = _open_tree(folder, os.fsencode(path), flags)
    if fd < 0:
        raise _error(f"open_tree {path}")
    return fd


def mount_detached(kind: str, source: str, options: tuple[str, ...], attributes: int) -> int:
    """Mount a file system that has no path yet; the descriptor is for `move_mount`. fsopen(2),
    fsconfig(2), fsmount(2)."""
    settings = [
        (_FSCONFIG_SET_STRING, b"source", os.fsencode(source)),
        *((_FSCONFIG_SET_FLAG, option.encode(), None) for option in options),
        (_FSCONFIG_CMD_CREATE, None, None),
    ]
    context = _fsopen(kind.encode(), _CLOEXEC)
    if context < 0:
        raise _error(f"mount {kind}")
    try:
        for setting in settings:
            if _fsconfig(context, *setting, 0) < 0:
                raise _error(f"mount {kind}")
        fd = _fsmount(context, _CLOEXEC, attributes)
        if fd < 0:
            raise _error(f"mount {kind}")
        return fd
    finally:
        os.close(context)


def open_tree_of(fd: int) -> int:
    """As `open_tree`, of what a descriptor refers to, whatever its path leads to now."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH
    tree = _open_tree(fd, b"", flags)
    if tree < 0:
        raise _error("open_tree of a descriptor")
    return tree


def open_beneath(folder: int, path: str) -> int:
    """A descriptor (O_PATH) of what lies at a relative path below a folder. No part of the path may
    be a symbolic link (ELOOP). openat2(2)."""
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS
    # Without O_NOFOLLOW, with which a link at the end would be opened itself.
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, resolve)
    fd = _openat2(folder, os.fsencode(path), how, len(how))
    if fd < 0:
        raise _error(f"open {path}")
    return fd


def move_mount(tree: int, target: str) -> None:
    """Attach a detached tree at `target`. move_mount(2)."""
    place = os.fsencode(target)
    if _move_mount(tree, b"", AT_FDCWD, place, _MOVE_MOUNT_F_EMPTY_PATH) < 0:
        raise _error(f"move_mount to {target}")


def move_mount_onto(tree: int, place: int) -> None:
    """Attach a detached tree over what a descriptor refers to. move_mount(2)."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    if _move_mount(tree, b"", place, b"", flags) < 0:
        raise _error("move_mount to a descriptor")


def mount_setattr(
    fd: int, path: str, flags: int, attr_set: int, propagation: int = 0, userns: int = 0
) -> None:
    """Change a mount, or a tree of them, at once. mount_setattr(2)."""
    attributes = struct.pack("QQQQ", attr_set, 0, propagation, userns)
    if _mount_setattr(fd, os.fsencode(path), flags, attributes, len(attributes)) < 0:
        raise _error(f"mount_setattr {path or fd}")


def close_range(first: int, last: int) -> None:
    """Close every descriptor from `first` to `last`, both included. close_range(2)."""
    if _close_range(first, last, 0) < 0:
        raise _error("close_range")


def renameat2(folder: int, old: str, new: str, flags: int) -> None:
    """Rename within a folder: RENAME_NOREPLACE or RENAME_EXCHANGE. renameat2(2)."""
    if _renameat2(folder, os.fsencode(old), folder, os.fsencode(new), flags) < 0:
        raise _error("renameat2")


def reserve_space(fd: int, size: int) -> None:
    """Have the file system keep space for a file's first `size` bytes; the file's size stays.
    fallocate(2)."""
    if _fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, size) < 0:
        raise _error("fallocate")


def prctl(option: int, argument: int = 0, third: int = 0) -> int:
    """Operate on the calling process. prctl(2)."""
    result = _prctl(option, argument, third, 0, 0)
    if result < 0:
        raise _error(f"prctl({option}, {argument})")
    return result


def shut_itself() -> None:
    """Keep other processes of this user from the memory and the descriptors of this one.
    PR_SET_DUMPABLE(2const)"""
    prctl(PR_SET_DUMPABLE, 0, SHUT_BY_US)


class Filter:
    """A program for seccomp(2), in memory as the kernel takes it (struct sock_fprog).

    program: `struct sock_filter`s of 8 bytes each.
    """

    def __init__(self, program: bytes) -> None:
        self._program = ctypes.create_string_buffer(program, len(program))
        address = ctypes.addressof(self._program)
        descriptor = struct.pack("HxxxxxxQ", len(program) // 8, address)
        self._descriptor = ctypes.create_string_buffer(descriptor, len(descriptor))
        self.address = ctypes.addressof(self._descriptor)


def set_filter(program: Filter) -> None:
    """Filter the system calls of the calling process and of all that come from it. Needs
    no_new_privs. seccomp(2)."""
    prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program.address)


def landlock_abi() -> int:
    """The version of Landlock's interface; 0 if the kernel has none, or has it switched off.
    landlock_create_ruleset(2)."""
    return max(0, _landlock_create_ruleset(None, 0, _LANDLOCK_CREATE_RULESET_VERSION))


def landlock_create_ruleset(files: int, tcp: int, scopes: int) -> int:
    """A ruleset that denies these rights, as a descriptor. landlock_create_ruleset(2)."""
    attributes = struct.pack("QQQ", files, tcp, scopes)
    fd = _landlock_create_ruleset(attributes, len(attributes), 0)
    if fd < 0:
        raise _error("landlock_create_ruleset")
    return fd


def landlock_add_rule(ruleset: int, place: int, rights: int) -> None:
    """Allow rights for a file, or for a folder and all below it. landlock_add_rule(2).

    place: a descriptor of it; O_PATH is enough.
    """
    rule = struct.pack("=Qi", rights, place)
    if _landlock_add_rule(ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0) < 0:
        raise _error("landlock_add_rule")


def landlock_restrict_self(ruleset: int, flags: int) -> None:
    """Obey a ruleset from here on. Needs no_new_privs. landlock_restrict_self(2)."""
    if _landlock_restrict_self(ruleset, flags) < 0:
        raise _error("landlock_restrict_self")


def join_new_session_keyring() -> None:
    """Give up the session keyring that was inherited, for a new and empty one. keyctl(2)."""
    if _keyctl(_KEYCTL_JOIN_SESSION_KEYRING, None) < 0:
        raise _error("keyctl")


_CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)
_NO_CAPABILITIES = bytes(24)


def capset_none() -> None:
    """Empty the effective, permitted and inheritable sets. capset(2)."""
    if _capset(_CAPABILITY_HEADER, _NO_CAPABILITIES) < 0:
        raise _error("capset")


def sethostname(name: str) -> None:
    """Set the name of the caller's uts namespace. sethostname(2)."""
    data = name.encode()
    if _sethostname(data, len(data)) < 0:
        raise _error("sethostname")


_set_name = _function("prctl", c_int, c_char_p)


def set_process_name(name: str) -> None:
    """Name the calling thread, as `ps` shows it: at most 15 bytes. PR_SET_NAME."""
    if _set_name(PR_SET_NAME, name.encode()[:15]) < 0:
        raise _error("prctl(PR_SET_NAME)")
