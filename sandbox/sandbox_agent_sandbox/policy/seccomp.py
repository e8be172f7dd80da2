"""The filter of system calls: a list of what is refused, and its compilation to classic BPF.

What no tool needs and what reaches the host's kernel, or leaves a trace that acts outside the
sandbox, is refused. All else is allowed: a tool is any program. Each entry says why it is there.

The filter looks at the architecture and the number, and at arguments that are numbers; what lies
behind a pointer it cannot see. Sources: seccomp(2), Documentation/userspace-api/seccomp_filter.rst,
Documentation/networking/filter.rst; the numbers are those of the kernel's syscall tables.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from functools import cache
from itertools import groupby

import msgspec

# --- what is refused ---------------------------------------------------------------------------

_NAMESPACES = 0x7E020080
"""CLONE_NEW*: time, mount, cgroup, uts, ipc, user, pid, net."""
_CSIGNAL = 0xFF
"""The signal of clone(2), where CLONE_NEWTIME would lie."""
_SETUID, _SETGID = 0o4000, 0o2000
_TYPE, _CHARACTER_DEVICE = 0o170000, 0o020000
_CREATES = 0o100 | 0o20000000
"""O_CREAT and __O_TMPFILE. Without them the mode of open(2) is whatever the register held."""
_WHITEOUT = 4
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE = 0
_SOCKET_TYPE = 0xF
"""Of socket(2)'s second argument. Above it are SOCK_CLOEXEC and SOCK_NONBLOCK."""
_SOCKET_TYPES = (1, 2, 3)
"""SOCK_STREAM, SOCK_DGRAM, SOCK_RAW. In AF_INET SOCK_PACKET is another name of AF_PACKET."""
_PROTOCOLS = (0, 1, 6, 17, 58, 255)
"""The type's own, ICMP, TCP, UDP, ICMPv6 and IPPROTO_RAW."""
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423
_ADD_ENCRYPTION_KEY = 0xC0506617
"""FS_IOC_ADD_ENCRYPTION_KEY, linux/fscrypt.h."""
_IOPRIO_WHO_USER = 3
_PERSONALITIES = (0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, each with UNAME26, and the query."""


class Condition(msgspec.Struct, frozen=True):
    """Whether the low 32 bits of an argument, without the bits outside `mask`, are one of `values`.

    argument: its number, from 0 on. any_bit: instead, whether one of the bits in `mask` is set.
    """

    argument: int
    values: tuple[int, ...] = ()
    mask: int = 0xFFFFFFFF
    any_bit: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """System calls that are refused with `error`. names: with blanks between them.

    when: refused if all of these hold, or always if there is none. unless: but not if all of these
    hold.
    """

    names: str
    error: int
    why: str
    when: tuple[Condition, ...] = ()
    unless: tuple[tuple[Condition, ...], ...] = ()


def _has(argument: int, bits: int) -> Condition:
    return Condition(argument, mask=bits, any_bit=True)


def refusals(*, owner_is_root: bool) -> tuple[Refusal, ...]:
    """Everything that is refused. owner_is_root: what tools create belongs to root on the disk, so
    a group that is root's must not be had from it either."""
    new = _SETUID | (_SETGID if owner_is_root else 0)
    return *_reaching_the_kernel(), *_reaching_out(), *_left_on_the_disk(new)


def _reaching_the_kernel() -> tuple[Refusal, ...]:
    return (
        Refusal(
            "io_uring_setup io_uring_enter io_uring_register",
            errno.ENOSYS,
            "its operations are no system calls, so no filter sees them",
        ),
        Refusal(
            "io_setup",
            errno.ENOSYS,
            "its requests are counted for the whole host (fs.aio-max-nr); databases go on without",
        ),
        Refusal("clone3", errno.ENOSYS, "its flags lie behind a pointer; libc then uses clone"),
        Refusal("openat2", errno.ENOSYS, "its mode lies behind a pointer; openat does the same"),
        Refusal(
            "keyctl add_key request_key",
            errno.EPERM,
            "keys are kept by the kernel beyond the sandbox, and counted for the user",
        ),
        Refusal("bpf perf_event_open", errno.EPERM, "a large part of the kernel"),
        Refusal("userfaultfd", errno.EPERM, "it lets a program stop the kernel in the middle"),
        Refusal(
            "mount umount2 pivot_root open_tree move_mount fsopen fsconfig fsmount fspick"
            " mount_setattr open_tree_attr swapon swapoff",
            errno.EPERM,
            "the view is the host's to make",
        ),
        Refusal(
            "unshare",
            errno.EPERM,
            "in a namespace of its own a tool would have capabilities",
            when=(_has(0, _NAMESPACES),),
        ),
        Refusal(
            "clone",
            errno.EPERM,
            "as unshare",
            when=(_has(0, _NAMESPACES & ~_CSIGNAL),),
        ),
        Refusal("setns", errno.EPERM, "as unshare"),
        Refusal(
            "init_module finit_module delete_module kexec_load kexec_file_load reboot acct quotactl"
            " quotactl_fd syslog settimeofday clock_settime vhangup iopl ioperm chroot sethostname"
            " setdomainname",
            errno.EPERM,
            "they are about the host, or need capabilities that no tool has",
        ),
        Refusal(
            "_sysctl sysfs uselib ustat lookup_dcookie create_module get_kernel_syms query_module"
            " nfsservctl",
            errno.ENOSYS,
            "no C library has them any more, so nobody looks after them in the kernel",
        ),
        Refusal("modify_ldt", errno.EPERM, "16-bit code needs it, and attacks on the kernel"),
        Refusal(
            "open_by_handle_at",
            errno.EPERM,
            "it opens what lies outside the view by its number",
        ),
        Refusal("fanotify_init fanotify_mark", errno.EPERM, "it tells of files outside the view"),
    )


def _reaching_out() -> tuple[Refusal, ...]:
    return (
        Refusal(
            "personality",
            errno.EPERM,
            "old personalities turn protections of memory off",
            unless=((Condition(0, _PERSONALITIES),),),
        ),
        Refusal(
            "ioctl",
            errno.EPERM,
            "it types into a terminal, which a shell outside may read later",
            when=(Condition(1, (_TIOCSTI, _TIOCLINUX)),),
        ),
        Refusal(
            "ioctl",
            errno.EPERM,
            "a terminal's line discipline may be a driver that the kernel loads for it",
            when=(Condition(1, (_TIOCSETD,)),),
        ),
        Refusal(
            "ioctl",
            errno.EPERM,
            "a file system keeps such keys beyond the sandbox",
            when=(Condition(1, (_ADD_ENCRYPTION_KEY,)),),
        ),
        Refusal(
            "ioprio_set",
            errno.EPERM,
            "before Linux 5.17 it reaches the user's processes outside (IOPRIO_WHO_USER)",
            when=(Condition(0, (_IOPRIO_WHO_USER,)),),
        ),
        Refusal(
            "socket",
            errno.EAFNOSUPPORT,
            "other families reach old and rarely used code of the kernel, or the host's devices",
            unless=(
                (Condition(0, (_AF_UNIX, _AF_INET, _AF_INET6)),),
                (Condition(0, (_AF_NETLINK,)), Condition(2, (_NETLINK_ROUTE,))),
            ),
        ),
        Refusal(
            "socket",
            errno.EPROTONOSUPPORT,
            "SCTP, DCCP, MPTCP and the like are modules that the kernel loads for anybody",
            unless=(
                (Condition(0, (_AF_UNIX, _AF_NETLINK)),),
                (Condition(1, _SOCKET_TYPES, _SOCKET_TYPE), Condition(2, _PROTOCOLS)),
            ),
        ),
        Refusal(
            "socketpair",
            errno.EAFNOSUPPORT,
            "as socket; no other family has pairs that tools use",
            unless=((Condition(0, (_AF_UNIX,)),),),
        ),
    )


def _left_on_the_disk(bits: int) -> tuple[Refusal, ...]:
    """bits: of the mode of a new file. A mode that is changed may be a folder's, and folders have
    the setgid bit for another reason (`git init --shared`). That of a file is removed after the run
    where the group is root's: `protection/marks.py`."""
    why = "a program that it leaves on the disk would run with its owner's rights"
    return (
        Refusal("chmod fchmod", errno.EPERM, why, when=(_has(1, _SETUID),)),
        Refusal("fchmodat fchmodat2", errno.EPERM, why, when=(_has(2, _SETUID),)),
        Refusal("creat", errno.EPERM, why, when=(_has(1, bits),)),
        Refusal("open", errno.EPERM, why, when=(_has(1, _CREATES), _has(2, bits))),
        Refusal("openat", errno.EPERM, why, when=(_has(2, _CREATES), _has(3, bits))),
        Refusal("mknod", errno.EPERM, why, when=(_has(1, bits),)),
        Refusal("mknodat", errno.EPERM, why, when=(_has(2, bits),)),
        Refusal(
            "mknod",
            errno.EPERM,
            "a character device is how overlayfs says that a file is deleted",
            when=(Condition(1, (_CHARACTER_DEVICE,), _TYPE),),
        ),
        Refusal(
            "mknodat",
            errno.EPERM,
            "as mknod",
            when=(Condition(2, (_CHARACTER_DEVICE,), _TYPE),),
        ),
        Refusal(
            "renameat2",
            errno.EPERM,
            "it leaves such a device behind",
            when=(_has(4, _WHITEOUT),),
        ),
    )


# --- numbers -----------------------------------------------------------------------------------

_ALIKE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "clone3": 435, "openat2": 437, "mount_setattr": 442, "quotactl_fd": 443, "fchmodat2": 452,
    "open_tree_attr": 467,
}  # fmt: skip
"""From 424 on they are the same everywhere (Documentation/process/adding-syscalls.rst)."""

_X86_64 = {
    "open": 2, "ioctl": 16, "socket": 41, "socketpair": 53, "clone": 56, "creat": 85, "chmod": 90,
    "fchmod": 91, "syslog": 103, "mknod": 133, "uselib": 134, "personality": 135, "ustat": 136,
    "sysfs": 139, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "_sysctl": 156,
    "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
    "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172,
    "ioperm": 173, "create_module": 174, "init_module": 175, "delete_module": 176,
    "get_kernel_syms": 177, "query_module": 178, "quotactl": 179, "nfsservctl": 180,
    "io_setup": 206, "lookup_dcookie": 212, "clock_settime": 227, "kexec_load": 246, "add_key": 248,
    "request_key": 249, "keyctl": 250, "ioprio_set": 251, "openat": 257, "mknodat": 259,
    "fchmodat": 268, "unshare": 272, "perf_event_open": 298, "fanotify_init": 300,
    "fanotify_mark": 301, "open_by_handle_at": 304, "setns": 308, "finit_module": 313,
    "renameat2": 316, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
_AARCH64 = {
    "io_setup": 0, "lookup_dcookie": 18, "ioctl": 29, "ioprio_set": 30, "mknodat": 33,
    "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42, "chroot": 51, "fchmod": 52,
    "fchmodat": 53, "openat": 56, "vhangup": 58, "quotactl": 60, "acct": 89, "personality": 92,
    "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
    "clock_settime": 112, "syslog": 116, "reboot": 142, "sethostname": 161, "setdomainname": 162,
    "settimeofday": 170, "socket": 198, "socketpair": 199, "add_key": 217, "request_key": 218,
    "keyctl": 219, "clone": 220, "swapon": 224, "swapoff": 225, "perf_event_open": 241,
    "fanotify_init": 262, "fanotify_mark": 263, "open_by_handle_at": 265, "setns": 268,
    "finit_module": 273, "renameat2": 276, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip

NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {**_X86_64, **_ALIKE},
    "aarch64": {**_AARCH64, **_ALIKE},
}
"""By the machine's name, as uname(2) gives it. A call that a machine does not have is left out."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_*, from linux/audit.h."""

_X32 = 0x40000000
"""Numbers from here on are of x86-64's 32-bit variant, with its own table."""

# --- the program -------------------------------------------------------------------------------

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
"""BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_RET|K."""
_JUMP, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_BITS = 0x05, 0x15, 0x35, 0x45
"""BPF_JMP|JA, |JEQ, |JGE and |JSET, with K."""
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data. The low half of an argument comes first: both machines are
little-endian."""
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000

Instruction = tuple[int, int, int, int]
"""(code, jt, jf, k): struct sock_filter."""


@cache
def compile_filter(machine: str, *, owner_is_root: bool) -> bytes:
    """The filter for a machine, as `struct sock_filter`s; b"" for a machine that is not known.

    machine: as uname(2) names it. owner_is_root: see `refusals`.
    """
    if machine not in NUMBERS:
        return b""
    numbers = NUMBERS[machine]
    found = [
        (numbers[name], refusal)
        for refusal in refusals(owner_is_root=owner_is_root)
        for name in refusal.names.split()
        if name in numbers
    ]
    found.sort(key=lambda one: one[0])
    leaves = [
        (number, [refusal for _, refusal in group])
        for number, group in groupby(found, key=lambda one: one[0])
    ]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_JUMP_GREATER_EQUAL, 0, 1, _X32), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    program += _tree(leaves)
    return b"".join(struct.pack("=HBBI", *one) for one in program)


def _tree(leaves: Sequence[tuple[int, list[Refusal]]]) -> list[Instruction]:
    """Code that finds a number by halves: a dozen instructions for any."""
    if len(leaves) <= 2:
        return [one for leaf in leaves for one in _leaf(*leaf)] + [(_RETURN, 0, 0, _ALLOW)]
    middle = len(leaves) // 2
    low, high = _tree(leaves[:middle]), _tree(leaves[middle:])
    return [(_JUMP_GREATER_EQUAL, _near(len(low)), 0, leaves[middle][0]), *low, *high]


def _leaf(number: int, entries: Sequence[Refusal]) -> list[Instruction]:
    """Code for one number, which is loaded; its end is only reached by others."""
    always = next((entry for entry in entries if not entry.when and not entry.unless), None)
    if always is not None:
        body = [(_RETURN, 0, 0, _ERROR | always.error)]
    else:
        body = [one for entry in entries for one in _conditional(entry)]
        body.append((_RETURN, 0, 0, _ALLOW))
    return [(_JUMP_EQUAL, 0, _near(len(body)), number), *body]


def _conditional(entry: Refusal) -> list[Instruction]:
    """Code that refuses if the entry says so, and else goes on behind itself."""
    refuse: Instruction = (_RETURN, 0, 0, _ERROR | entry.error)
    if entry.when:
        return [*_unless_all(entry.when, 1), refuse]
    body: list[Instruction] = [refuse]
    for alternative in reversed(entry.unless):
        # If all tests hold, jump over all that follows.
        tests = _unless_all(alternative, 1)
        body = [*tests, (_JUMP, 0, 0, len(body)), *body]
    return body


def _unless_all(tests: Sequence[Condition], skipped: int) -> list[Instruction]:
    """Code that jumps over the next `skipped` instructions unless all tests hold."""
    code: list[Instruction] = []
    for test in reversed(tests):
        over = _near(len(code) + skipped)
        one: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * test.argument)]
        if test.any_bit:
            one.append((_JUMP_BITS, 0, over, test.mask))
        else:
            if test.mask != 0xFFFFFFFF:
                one.append((_AND, 0, 0, test.mask))
            for place, value in enumerate(test.values):
                left = len(test.values) - place - 1
                one.append((_JUMP_EQUAL, left, 0 if left else over, value))
        code = [*one, *code]
    return code


def _near(distance: int) -> int:
    """A distance that a conditional jump can have."""
    if distance > 255:
        raise ValueError(f"a jump over {distance} instructions")
    return distance
