"""What is refused beside the rest where a plan has no namespaces: what reaches the user's other
processes, what the kernel keeps after a call, and sockets.

Landlock keeps ptrace(2), process_vm_readv(2), pidfd_getfd(2) and the memory below /proc inside, and
from Linux 6.12 on signals. It says nothing about priorities, limits, System V objects and sockets
that have a path: that is here. What a filter cannot see, because it lies behind a pointer or is in
another process, the call's supervisor looks at: `inside/unshared/gate.py`, `view/broker.py`.
"""

from __future__ import annotations

import errno
from functools import cache

from sandbox_agent_sandbox.plan import Unshared
from sandbox_agent_sandbox.policy.rules.bpf import Condition, Refusal, compile_refusals, has
from sandbox_agent_sandbox.policy.rules.numbers import NUMBERS
from sandbox_agent_sandbox.policy.rules.seccomp import refusals
from sandbox_agent_sandbox.privileges import SHUT_BY_US

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _SEQPACKET, _TYPE = 1, 5, 0xF
_TCP = 6
_FAST_OPEN = 0x20000000
"""MSG_FASTOPEN: an address to connect to, in what is sent."""
_ROUTES = (
    (1, (25, 62)),  # SOL_SOCKET: SO_BINDTODEVICE, SO_BINDTOIFINDEX
    (0, (4, 50)),  # IPPROTO_IP: IP_OPTIONS, IP_UNICAST_IF
    # IPPROTO_IPV6: IPV6_2292PKTOPTIONS, _2292RTHDR, _HOPOPTS, _RTHDRDSTOPTS, _RTHDR, _DSTOPTS,
    # _UNICAST_IF
    (41, (6, 5, 54, 55, 57, 59, 76)),
)
"""Options of sockets, by level, that lead packets elsewhere than to their address. ip(7)"""
_RLIMIT_LOCKS = 10
_PRIO_USER, _IOPRIO_WHO_USER = 2, 3
_PR_SET_DUMPABLE = 4
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_CLONE_THREAD = 0x10000
_ANY = 0xFFFFFFFF
_ACCESS, _READ_ONLY, _TRUNCATE = 0o3, 0o0, 0o1000
_TRUNCATE_ABI = 3
"""The first ABI of Landlock that knows truncation (Linux 6.2)."""

_FILES = {
    "x86_64": ("open", "openat", "link", "unlink"),
    "aarch64": ("openat", "linkat", "unlinkat"),
}
"""What sem_open(3), shm_open(3) and their like are made of."""

_HERE = (Condition(0, (0,)),)
"""The first argument is 0: the calling process or thread."""


@cache
def compile_unshared(
    machine: str, network: str, found: Unshared, *, owner_is_root: bool, unix: bool
) -> bytes:
    """The filter for a machine, as `compile_refusals` makes it. The rest: as in
    `foreign_refusals`."""
    more = foreign_refusals(network, found, unix=unix)
    return compile_refusals(machine, [*refusals(owner_is_root=owner_is_root), *more])


def looked_at(machine: str, network: str, found: Unshared, *, unix: bool) -> tuple[int, ...]:
    """The numbers of the system calls that are neither refused nor let through: the broker carries
    them out; of ioctl(2) only TIOCGPTPEER, of files those below /dev/shm. As in
    `foreign_refusals`."""
    if not found.broker:
        return ()
    names = ["shmget", "shmat", "shmctl", *_FILES.get(machine, ())]
    if unix or network == "loopback":
        names += ["connect", "bind", "listen", *([] if found.takes else ["socket"])]
    if found.takes:
        names.append("ioctl")
    numbers = NUMBERS.get(machine, {})
    return tuple(sorted(numbers[name] for name in names if name in numbers))


def foreign_refusals(network: str, found: Unshared, *, unix: bool) -> tuple[Refusal, ...]:
    """Everything that is refused beside `seccomp.refusals`.

    unix: whether tools may have sockets with paths. The broker looks at each.
    """
    entries = [*_limits(), *_priorities(), *_other_memory(), *_kept_by_the_kernel(found)]
    entries += _sockets(network, unix=unix)
    if found.broker:
        entries.append(_readable())
    if found.abi < _TRUNCATE_ABI:
        entries += _truncation()
    if not found.scopes:
        entries += _signals()
    return tuple(entries)


def _readable() -> Refusal:
    """gpg-agent and ssh-agent ask for it, and go on without."""
    return Refusal(
        "prctl",
        errno.EPERM,
        "nobody could read the address that such a process connects or binds a socket to",
        when=(Condition(0, (_PR_SET_DUMPABLE,)), Condition(1, (0,))),
        unless=((Condition(2, (SHUT_BY_US,)),),),
    )


def _limits() -> tuple[Refusal, ...]:
    mark = "the mark by which the processes of a sandbox are found is this limit"
    return (
        Refusal(
            "prlimit64",
            errno.EPERM,
            mark,
            when=(Condition(1, (_RLIMIT_LOCKS,)), has(2, _ANY)),
        ),
        Refusal(
            "prlimit64",
            errno.EPERM,
            mark,
            when=(
                Condition(1, (_RLIMIT_LOCKS,)),
                Condition(2, mask=_ANY, any_bit=True, high=True),
            ),
        ),
        Refusal("setrlimit", errno.EPERM, mark, when=(Condition(0, (_RLIMIT_LOCKS,)),)),
        Refusal(
            "prlimit64",
            errno.EPERM,
            "it sets limits of the user's other processes",
            unless=(_HERE,),
        ),
    )


def _priorities() -> tuple[Refusal, ...]:
    why = "it slows or starves the user's other processes"
    return (
        Refusal(
            "sched_setaffinity sched_setscheduler sched_setparam sched_setattr",
            errno.EPERM,
            why,
            unless=(_HERE,),
        ),
        # There 0 means everybody of this user.
        Refusal("setpriority", errno.EPERM, why, when=(Condition(0, (_PRIO_USER,)),)),
        Refusal("ioprio_set", errno.EPERM, why, when=(Condition(0, (_IOPRIO_WHO_USER,)),)),
        Refusal("setpriority ioprio_set", errno.EPERM, why, unless=((Condition(1, (0,)),),)),
    )


def _other_memory() -> tuple[Refusal, ...]:
    return (
        Refusal(
            "kcmp process_madvise process_mrelease move_pages migrate_pages",
            errno.EPERM,
            "they look at or move the memory of other processes",
        ),
    )


def _kept_by_the_kernel(found: Unshared) -> tuple[Refusal, ...]:
    why = "the kernel keeps it after the call, and shares it with the user's other programs"
    entries = (
        Refusal(
            "semget semop semtimedop semctl msgget msgsnd msgrcv msgctl"
            " mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
            errno.ENOSYS,
            why,
        ),
    )
    # PostgreSQL needs a segment. The broker makes it, and it goes with the call.
    return (
        entries if found.broker else (*entries, Refusal("shmget shmat shmctl", errno.ENOSYS, why))
    )


def _sockets(network: str, *, unix: bool) -> tuple[Refusal, ...]:
    families: list[tuple[Condition, ...]] = []
    if network == "host":
        families.append((Condition(0, (_AF_INET, _AF_INET6, _AF_NETLINK)),))
    elif network == "loopback":
        types = Condition(1, (_STREAM,), _TYPE), Condition(2, (0, _TCP))
        families.append((Condition(0, (_AF_INET, _AF_INET6)), *types))
    # A datagram can be sent to any path, also by one of a pair: its address is behind a pointer.
    pairs = Condition(0, (_AF_UNIX,)), Condition(1, (_STREAM, _SEQPACKET), _TYPE)
    if unix:
        families.append(pairs)
    entries = []
    if not unix:
        why = "a socket with a path reaches services of the user outside"
        entries.append(Refusal("socket", errno.EACCES, why, when=(Condition(0, (_AF_UNIX,)),)))
    entries += [
        Refusal(
            "socket",
            errno.EAFNOSUPPORT,
            "without a network namespace every socket is one of the host's",
            unless=tuple(families),
        ),
        Refusal(
            "socketpair",
            errno.ESOCKTNOSUPPORT,
            "one of a pair of datagram sockets can send to any path",
            unless=(pairs,),
        ),
    ]
    if network == "loopback":
        why = "it connects, to an address that nobody looks at"
        entries += [
            Refusal("sendto sendmmsg", errno.EOPNOTSUPP, why, when=(has(3, _FAST_OPEN),)),
            Refusal("sendmsg", errno.EOPNOTSUPP, why, when=(has(2, _FAST_OPEN),)),
        ]
        # With a source route the first packet leaves the host, whatever the address is.
        why = "it leads packets for the loopback interface elsewhere"
        entries += [
            Refusal(
                "setsockopt",
                errno.EPERM,
                why,
                when=(Condition(1, (level,)), Condition(2, options)),
            )
            for level, options in _ROUTES
        ]
    return tuple(entries)


def _truncation() -> tuple[Refusal, ...]:
    why = "this kernel's Landlock would let it through for files that cannot be written"
    odd = _READ_ONLY | _TRUNCATE, _ACCESS | _TRUNCATE
    return (
        Refusal("truncate", errno.EACCES, why),
        Refusal("open", errno.EACCES, why, when=(Condition(1, odd, _ACCESS | _TRUNCATE),)),
        Refusal("openat", errno.EACCES, why, when=(Condition(2, odd, _ACCESS | _TRUNCATE),)),
    )


def _signals() -> tuple[Refusal, ...]:
    """Where Landlock has no scope for signals. kill(2) and its like pass the gate."""
    why = "it sends a signal to any process of the user"
    owners = Condition(1, (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX))
    return (
        Refusal("fcntl", errno.EPERM, why, when=(owners,)),
        Refusal("ioctl", errno.EPERM, why, when=(Condition(1, (_FIOSETOWN, _SIOCSPGRP)),)),
    )
