"""A filter of system calls that answers as a kernel without Landlock and without seccomp does."""

from __future__ import annotations

import errno
import struct

_ARCHES = {
    "x86_64": (0xC000003E, 157, 317),
    "aarch64": (0xC00000B7, 167, 277),
}
"""By machine: AUDIT_ARCH_*, the numbers of prctl(2) and seccomp(2)."""
_LANDLOCK = (444, 445, 446)
_PR_GET_SECCOMP, _PR_SET_SECCOMP = 21, 22

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARGUMENT = 0, 4, 16


def program(machine: str) -> bytes:
    """The filter, as BPF. Raises KeyError for another machine."""
    arch, prctl, seccomp = _ARCHES[machine]
    code = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    code.append((_LOAD, 0, 0, _NR))
    for number in (*_LANDLOCK, seccomp):
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    code += [(_EQUAL, 0, 4, prctl), (_LOAD, 0, 0, _ARGUMENT)]
    code += [(_EQUAL, 1, 0, _PR_SET_SECCOMP), (_EQUAL, 0, 1, _PR_GET_SECCOMP)]
    code += [(_RETURN, 0, 0, _ERROR | errno.EINVAL), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *one) for one in code)
