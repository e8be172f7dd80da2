"""System calls that Python's `os` lacks, through ctypes. Each raises OSError.

Numbers from 424 on are the same on every architecture (Documentation/process/adding-syscalls.rst);
the older ones are keyctl, pivot_root and renameat2, which not every C library wraps.
"""

from __future__ import annotations

import ctypes
import os
import struct

from sandbox_agent_sandbox.privileges import SHUT_BY_US

_MACHINE = os.uname().machine
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

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


def _check(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def _syscall(number: int, what: str, *arguments: int | bytes | None) -> int:
    if number < 0:
        raise OSError(38, f"{what}: not known on {_MACHINE}")
    converted = [
        ctypes.c_void_p(argument & 0xFFFFFFFFFFFFFFFF) if isinstance(argument, int) else argument
        for argument in arguments
    ]
    return _check(_libc.syscall(ctypes.c_long(number), *converted), what)


def unshare(flags: int) -> None:
    """Leave the caller's namespaces for new ones. unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that `fd` refers to. setns(2)."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount a filesystem, or change a mount. mount(2)."""
    _check(
        _libc.mount(
            source.encode() if source else None,
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            data.encode() if data else None,
        ),
        f"mount {kind or source or 'change'} on {target}",
    )


def umount(target: str, flags: int = 0) -> None:
    """Detach a mount. umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Change the root mount. pivot_root(2)."""
    _syscall(_SYS_PIVOT_ROOT, "pivot_root", os.fsencode(new_root), os.fsencode(put_old))


def open_tree(path: str, folder: int = AT_FDCWD) -> int:
    """A detached recursive copy of the mounts at `path`, as a descriptor. open_tree(2).

    folder: where a relative path starts.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | AT_RECURSIVE
    return _syscall(_SYS_OPEN_TREE, f"open_tree {path}", folder, os.fsencode(path), flags)


def mount_detached(kind: str, source: str, options: tuple[str, ...], attributes: int) -> int:
    """Mount a file system that has no path yet; the descriptor is for `move_mount`. fsopen(2),
    fsconfig(2), fsmount(2)."""
    what = f"mount {kind}"
    context = _syscall(_SYS_FSOPEN, what, kind.encode(), _CLOEXEC)
    try:
        place = (b"source", os.fsencode(source), 0)
        _syscall(_SYS_FSCONFIG, what, context, _FSCONFIG_SET_STRING, *place)
        for option in options:
            flag = (option.encode(), None, 0)
            _syscall(_SYS_FSCONFIG, what, context, _FSCONFIG_SET_FLAG, *flag)
        _syscall(_SYS_FSCONFIG, what, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall(_SYS_FSMOUNT, what, context, _CLOEXEC, attributes)
    finally:
        os.close(context)


def open_tree_of(fd: int) -> int:
    """As `open_tree`, of what a descriptor refers to, whatever its path leads to now."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH
    return _syscall(_SYS_OPEN_TREE, "open_tree of a descriptor", fd, b"", flags)


def open_beneath(folder: int, path: str) -> int:
    """A descriptor (O_PATH) of what lies at a relative path below a folder. No part of the path may
    be a symbolic link (ELOOP). openat2(2)."""
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS
    # Without O_NOFOLLOW, with which a link at the end would be opened itself.
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, resolve)
    return _syscall(_SYS_OPENAT2, f"open {path}", folder, os.fsencode(path), how, len(how))


def move_mount(tree: int, target: str) -> None:
    """Attach a detached tree at `target`. move_mount(2)."""
    _syscall(
        _SYS_MOVE_MOUNT,
        f"move_mount to {target}",
        tree,
        b"",
        AT_FDCWD,
        os.fsencode(target),
        _MOVE_MOUNT_F_EMPTY_PATH,
    )


def move_mount_onto(tree: int, place: int) -> None:
    """Attach a detached tree over what a descriptor refers to. move_mount(2)."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _syscall(_SYS_MOVE_MOUNT, "move_mount to a descriptor", tree, b"", place, b"", flags)


def mount_setattr(
    fd: int, path: str, flags: int, attr_set: int, propagation: int = 0, userns: int = 0
) -> None:
    """Change a mount, or a tree of them, at once. mount_setattr(2)."""
    attributes = struct.pack("QQQQ", attr_set, 0, propagation, userns)
    _syscall(
        _SYS_MOUNT_SETATTR,
        f"mount_setattr {path or fd}",
        fd,
        os.fsencode(path),
        flags,
        attributes,
        len(attributes),
    )


def close_range(first: int, last: int) -> None:
    """Close every descriptor from `first` to `last`, both included. close_range(2)."""
    _syscall(_SYS_CLOSE_RANGE, "close_range", first, last, 0)


def renameat2(folder: int, old: str, new: str, flags: int) -> None:
    """Rename within a folder: RENAME_NOREPLACE or RENAME_EXCHANGE. renameat2(2)."""
    names = os.fsencode(old), os.fsencode(new)
    _syscall(_SYS_RENAMEAT2, "renameat2", folder, names[0], folder, names[1], flags)


def reserve_space(fd: int, size: int) -> None:
    """Have the file system keep space for a file's first `size` bytes; the file's size stays.
    fallocate(2)."""
    arguments = ctypes.c_int(_FALLOC_FL_KEEP_SIZE), ctypes.c_int64(0), ctypes.c_int64(size)
    _check(_libc.fallocate(ctypes.c_int(fd), *arguments), "fallocate")


def prctl(option: int, argument: int = 0, third: int = 0) -> int:
    """Operate on the calling process. prctl(2)."""
    zero = ctypes.c_ulong(0)
    return _check(
        _libc.prctl(
            ctypes.c_int(option), ctypes.c_ulong(argument), ctypes.c_ulong(third), zero, zero
        ),
        f"prctl({option}, {argument})",
    )


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
    flags = _LANDLOCK_CREATE_RULESET_VERSION
    try:
        return _syscall(_SYS_LANDLOCK_CREATE_RULESET, "landlock_create_ruleset", None, 0, flags)
    except OSError:
        return 0


def landlock_create_ruleset(files: int, tcp: int, scopes: int) -> int:
    """A ruleset that denies these rights, as a descriptor. landlock_create_ruleset(2)."""
    attributes = struct.pack("QQQ", files, tcp, scopes)
    what = "landlock_create_ruleset"
    return _syscall(_SYS_LANDLOCK_CREATE_RULESET, what, attributes, len(attributes), 0)


def landlock_add_rule(ruleset: int, place: int, rights: int) -> None:
    """Allow rights for a file, or for a folder and all below it. landlock_add_rule(2).

    place: a descriptor of it; O_PATH is enough.
    """
    rule = struct.pack("=Qi", rights, place)
    kind = _LANDLOCK_RULE_PATH_BENEATH
    _syscall(_SYS_LANDLOCK_ADD_RULE, "landlock_add_rule", ruleset, kind, rule, 0)


def landlock_restrict_self(ruleset: int, flags: int) -> None:
    """Obey a ruleset from here on. Needs no_new_privs. landlock_restrict_self(2)."""
    _syscall(_SYS_LANDLOCK_RESTRICT_SELF, "landlock_restrict_self", ruleset, flags)


def join_new_session_keyring() -> None:
    """Give up the session keyring that was inherited, for a new and empty one. keyctl(2)."""
    _syscall(_SYS_KEYCTL, "keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None)


def capset_none() -> None:
    """Empty the effective, permitted and inheritable sets. capset(2)."""
    header = struct.pack("Ii", 0x20080522, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def sethostname(name: str) -> None:
    """Set the name of the caller's uts namespace. sethostname(2)."""
    data = name.encode()
    _check(_libc.sethostname(data, ctypes.c_size_t(len(data))), "sethostname")


def set_process_name(name: str) -> None:
    """Name the calling thread, as `ps` shows it: at most 15 bytes. PR_SET_NAME."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))
