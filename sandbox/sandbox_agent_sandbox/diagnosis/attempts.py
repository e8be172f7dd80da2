"""What this host refuses, found out by asking for it: a program that runs in a child of `doctor`.

Each attempt is made in a process of its own, which then exits, so none leaves a trace. It prints a
JSON object: the name of each attempt and the errno that it met; 0 if it worked.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.dispositions import reset_signals

_SYS_CLONE3 = 435
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}.get(platform.machine(), -1)
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277}.get(platform.machine(), -1)
_KEYCTL_GET_KEYRING_ID = 0
_SESSION_KEYRING = -3
_SECCOMP_GET_ACTION_AVAIL = 2
_SECCOMP_RET_ERRNO = 0x00050000
_SECCOMP_RET_USER_NOTIF = 0x7FC00000


def main() -> None:
    """Make every attempt, and print what became of each."""
    reset_signals()
    json.dump({name: _attempt(make) for name, make in ATTEMPTS.items()}, sys.stdout)


def _attempt(make: Callable[[], object]) -> int:
    """The errno of an attempt, from a child. EFAULT stands for a child that died."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        number = 0
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
            make()
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os.write(write, b"%d" % number)
            os._exit(0)
    os.close(write)
    said = os.read(read, 16)
    os.close(read)
    os.waitpid(child, 0)
    return int(said) if said else errno.EFAULT


def _raw(number: int, *arguments: int | None) -> None:
    """A system call by its number, which the C library may have no function for."""
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_void_p(None) if one is None else ctypes.c_long(one) for one in arguments]
    if libc.syscall(ctypes.c_long(number), *given) < 0:
        found = ctypes.get_errno()
        raise OSError(found, os.strerror(found))


def _no_namespace() -> None:
    """unshare(0) asks for nothing. Only a filter of system calls refuses it."""
    syscalls.unshare(0)


def _clone3() -> None:
    """No arguments: EINVAL from the kernel. The filters of containers answer ENOSYS, so that the C
    library uses clone(2), whose flags they can read."""
    try:
        _raw(_SYS_CLONE3, None, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def _keyring() -> None:
    """The filters of containers refuse keyctl(2), those of systemd's units do not by default."""
    try:
        _raw(_SYS_KEYCTL, _KEYCTL_GET_KEYRING_ID, _SESSION_KEYRING, 0)
    except OSError as error:
        if error.errno != errno.ENOKEY:
            raise


def _user_namespace() -> None:
    syscalls.unshare(syscalls.CLONE_NEWUSER)


def _own_id_map() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _user_namespace()
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _mounts() -> None:
    _own_id_map()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def _memory_mount() -> None:
    _mounts()
    syscalls.mount("tmpfs", "/tmp", "tmpfs", 0)


def _detached_mounts() -> None:
    """Linux 5.12. Kernels of enterprise distributions, gVisor, and filters that are older than
    these system calls have none. open_tree(2), mount_setattr(2)"""
    _mounts()
    tree = syscalls.open_tree("/usr")
    flags = syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE
    syscalls.mount_setattr(tree, "", flags, syscalls.MOUNT_ATTR_RDONLY)


def _proc() -> None:
    """A fresh /proc. Refused with EPERM where something is mounted over the visible one:
    mount_too_revealing() in the kernel's fs/namespace.c, user_namespaces(7)."""
    _mounts()
    syscalls.unshare(syscalls.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        try:
            syscalls.mount("proc", "/proc", "proc", 0)
        except OSError as error:
            os._exit(min(error.errno or errno.EIO, 255))
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(abs(number), "")


def _landlock() -> None:
    if not syscalls.landlock_abi():
        raise OSError(errno.EOPNOTSUPP, "")


def _filter() -> None:
    """seccomp(2) with the two answers that a plan without namespaces needs."""
    for action in (_SECCOMP_RET_ERRNO, _SECCOMP_RET_USER_NOTIF):
        box = ctypes.c_uint32(action)
        _raw(_SYS_SECCOMP, _SECCOMP_GET_ACTION_AVAIL, 0, ctypes.addressof(box))


ATTEMPTS: Mapping[str, Callable[[], object]] = {
    "no namespace": _no_namespace,
    "clone3": _clone3,
    "keyring": _keyring,
    "user namespace": _user_namespace,
    "id map": _own_id_map,
    "mount namespace": _mounts,
    "tmpfs": _memory_mount,
    "detached mounts": _detached_mounts,
    "proc": _proc,
    "Landlock": _landlock,
    "seccomp": _filter,
}
"""Name -> what is asked for. An attempt says with OSError that it was refused."""
