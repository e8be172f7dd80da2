"""Threads that differ from their process: another user, another view of the files. Each function is
for the calling thread alone, which libc's functions of the same names are not. nptl(7)"""

from __future__ import annotations

import ctypes
import os
import struct

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.unshared.view import rules
from sandbox_agent_sandbox.inside.unshared.view.owned import TOOLS_GROUP

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_SETGROUPS, _SETRESGID, _SETRESUID = {
    "x86_64": (116, 119, 117),
    "aarch64": (159, 149, 147),
}.get(os.uname().machine, (-1, -1, -1))


def become(uid: int, gid: int) -> None:
    """Be this user, without any capability. credentials(7), capset(2)"""
    if uid != os.geteuid():
        groups = ctypes.create_string_buffer(struct.pack("=I", TOOLS_GROUP), 4)
        for number, arguments in (
            (_SETGROUPS, (1, ctypes.addressof(groups))),
            (_SETRESGID, (gid, gid, gid)),
            (_SETRESUID, (uid, uid, uid)),
        ):
            if _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error))
    syscalls.capset_none()


def enter_view(ruleset: int) -> None:
    """Reach the files that tools reach."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    rules.restrict(ruleset)
