"""The filter of system calls: a list of what is refused.

What no tool needs and what reaches the host's kernel, or leaves a trace that acts outside the
sandbox, is refused. All else is allowed: a tool is any program. Each entry says why it is there.

The filter looks at the architecture and the number, and at arguments that are numbers; what lies
behind a pointer it cannot see: see `bpf`.
"""

from __future__ import annotations

import errno
from functools import cache

from sandbox_agent_sandbox.policy.rules.bpf import Condition, Refusal, compile_refusals, has

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
            when=(has(0, _NAMESPACES),),
        ),
        Refusal(
            "clone",
            errno.EPERM,
            "as unshare",
            when=(has(0, _NAMESPACES & ~_CSIGNAL),),
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
        Refusal("chmod fchmod", errno.EPERM, why, when=(has(1, _SETUID),)),
        Refusal("fchmodat fchmodat2", errno.EPERM, why, when=(has(2, _SETUID),)),
        Refusal("creat", errno.EPERM, why, when=(has(1, bits),)),
        Refusal("open", errno.EPERM, why, when=(has(1, _CREATES), has(2, bits))),
        Refusal("openat", errno.EPERM, why, when=(has(2, _CREATES), has(3, bits))),
        Refusal("mknod", errno.EPERM, why, when=(has(1, bits),)),
        Refusal("mknodat", errno.EPERM, why, when=(has(2, bits),)),
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
            when=(has(4, _WHITEOUT),),
        ),
    )


@cache
def compile_filter(machine: str, *, owner_is_root: bool) -> bytes:
    """The filter for a machine, as `compile_refusals` makes it. owner_is_root: see `refusals`."""
    return compile_refusals(machine, refusals(owner_is_root=owner_is_root))
