"""System calls that the environments are made with. Standard library only."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 0x1000, 0x4000, 1 << 18
CAP_SYS_ADMIN = 21
FOR_MAPS = (6, 7, 31)
"""CAP_SETGID, CAP_SETUID, CAP_SETFCAP: user_namespaces(7)."""

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 24, 38, 22
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_CAPABILITY_VERSION = 0x20080522


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    words = (source.encode(), target.encode(), kind.encode())
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def umount(target: str, flags: int) -> None:
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def own_user_namespace() -> None:
    """A user namespace with the caller's own ids in it, unchanged: as in a container whose
    namespaces somebody else made. The parent's limits and walls still count."""
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"),
                       ("gid_map", f"{gid} {gid} 1")):  # fmt: skip
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def own_mounts() -> None:
    """A mount namespace that shares no change with others. An ordinary user needs a user namespace
    to make one."""
    if not has_capability(CAP_SYS_ADMIN):
        own_user_namespace()
    unshare(CLONE_NEWNS)
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def has_capability(number: int) -> bool:
    return bool(_effective() >> number & 1)


def _effective() -> int:
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith("CapEff:")]
    return int(line.split()[1], 16)


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up all others, for this process and what it executes. capabilities(7)"""
    mask = sum(1 << number for number in kept) & _effective()
    number = 0
    while _libc.prctl(23, number, 0, 0, 0) >= 0:  # PR_CAPBSET_READ
        if not mask >> number & 1:
            _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "PR_CAPBSET_DROP")
        number += 1
    _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    # Not inheritable: root gets the bounding set at the next exec, others get nothing.
    data = struct.pack("6I", low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capset")


def no_new_privileges() -> None:
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def install_filter(program: bytes) -> None:
    """A filter of system calls, for this process and what it executes. seccomp(2)"""
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, head, 0, 0), "PR_SET_SECCOMP")


def machine() -> str:
    return platform.machine()
