"""The filter of a plan without namespaces, run by an interpreter of classic BPF."""

from __future__ import annotations

import errno

import pytest
from classic_bpf import bpf
from sandbox_agent_sandbox.plan import Unshared
from sandbox_agent_sandbox.policy.rules.bpf import ARCHITECTURES
from sandbox_agent_sandbox.policy.rules.foreign import compile_unshared, looked_at
from sandbox_agent_sandbox.policy.rules.numbers import NUMBERS
from sandbox_agent_sandbox.privileges import SHUT_BY_US

ALLOW, ERROR = 0x7FFF0000, 0x00050000
UNIX, INET, INET6, NETLINK, VSOCK = 1, 2, 10, 16, 40
STREAM, DGRAM, SEQPACKET, FLAGS = 1, 2, 5, 0x80800
FAST_OPEN = 0x20000000
LOCKS, NOFILE, POINTER = 10, 7, 0x7F00_0000_0000
TRUNCATE, CREATE, PATH = 0o1000, 0o100, 0o10000000
ALL = Unshared(abi=7, scopes=True, listener=True, broker=True, takes=True)
OLD = Unshared(abi=2, scopes=False, listener=True, broker=True, takes=True)

machines = pytest.mark.parametrize("machine", NUMBERS)


def refused(
    machine: str, name: str, *arguments: int, network: str = "none", found: Unshared = ALL
) -> int | None:
    """The errno of a call; 0 if it is let through; None where there is no such call."""
    if name not in NUMBERS[machine]:
        return None
    unix = found.broker
    program = compile_unshared(machine, network, found, owner_is_root=False, unix=unix)
    answer = bpf(program, NUMBERS[machine][name], arguments, ARCHITECTURES[machine])
    if answer == ALLOW:
        return 0
    assert answer & 0xFFFF0000 == ERROR
    return answer & 0xFFFF


@machines
def test_other_processes_are_out_of_reach_and_ones_own_are_not(machine: str) -> None:
    for name in ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"):
        assert refused(machine, name, 4711) == errno.EPERM
        assert refused(machine, name, 0) == 0
    for name, of_user in (("setpriority", 2), ("ioprio_set", 3)):
        of_process = of_user - 2
        assert refused(machine, name, of_process, 4711) == errno.EPERM
        assert refused(machine, name, of_user, 0) == errno.EPERM
        assert refused(machine, name, of_process, 0) == 0
    assert refused(machine, "prlimit64", 4711, NOFILE) == errno.EPERM
    assert refused(machine, "prlimit64", 0, NOFILE, POINTER) == 0
    for name in ("kcmp", "process_madvise", "process_mrelease", "migrate_pages", "move_pages"):
        assert refused(machine, name, 0) == errno.EPERM


@machines
def test_the_mark_of_a_sandbox_cannot_be_changed_and_can_be_asked_for(machine: str) -> None:
    for pointer in (POINTER, POINTER | 8, 8, 1 << 32):
        assert refused(machine, "prlimit64", 0, LOCKS, pointer) == errno.EPERM
    assert refused(machine, "prlimit64", 0, LOCKS, 0, POINTER) == 0
    assert refused(machine, "setrlimit", LOCKS, POINTER) == errno.EPERM
    assert refused(machine, "setrlimit", NOFILE, POINTER) == 0


@machines
@pytest.mark.parametrize("network", ["none", "loopback", "host"])
def test_sockets_are_those_of_the_policy(machine: str, network: str) -> None:
    def error(*arguments: int, name: str = "socket", found: Unshared = ALL) -> int | None:
        return refused(machine, name, *arguments, network=network, found=found)

    tcp = 0 if network != "none" else errno.EAFNOSUPPORT
    other = 0 if network == "host" else errno.EAFNOSUPPORT
    for family in (INET, INET6):
        assert error(family, STREAM | FLAGS, 0) == error(family, STREAM, 6) == tcp
        assert error(family, DGRAM, 0) == other
    assert error(INET, STREAM, 262) in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
    assert error(NETLINK, 3, 0) == other
    assert error(VSOCK, STREAM, 0) == errno.EAFNOSUPPORT
    assert error(UNIX, STREAM | FLAGS, 0) == error(UNIX, SEQPACKET, 0) == 0
    assert error(UNIX, DGRAM, 0) == errno.EAFNOSUPPORT
    blind = Unshared(abi=7, scopes=True)
    assert error(UNIX, STREAM, 0, found=blind) in (errno.EACCES, errno.EAFNOSUPPORT)
    assert error(UNIX, STREAM, 0, name="socketpair") == 0
    assert error(UNIX, SEQPACKET | FLAGS, 0, name="socketpair", found=blind) == 0
    assert error(UNIX, DGRAM, 0, name="socketpair") == errno.ESOCKTNOSUPPORT
    fast = errno.EOPNOTSUPP if network == "loopback" else 0
    assert error(3, 0, 0, FAST_OPEN, name="sendto") == fast
    assert error(3, 0, FAST_OPEN, name="sendmsg") == fast
    assert error(3, 0, 0, FAST_OPEN, name="sendmmsg") == fast
    assert error(3, 0, 0, 0, name="sendto") == 0


@machines
def test_what_the_kernel_would_keep_is_not_had_or_looked_at(machine: str) -> None:
    for name in ("semget", "semop", "msgget", "msgsnd", "mq_open", "mq_notify", "mq_unlink"):
        assert refused(machine, name, 0) == errno.ENOSYS
    for name in ("shmget", "shmat", "shmctl"):
        assert refused(machine, name, 0) == 0
        assert refused(machine, name, 0, found=Unshared(abi=7, scopes=True)) == errno.ENOSYS
    numbers = NUMBERS[machine]
    files = ("open", "openat", "link", "unlink") if machine == "x86_64" else ()
    files = files or ("openat", "linkat", "unlinkat")
    memory = {numbers[name] for name in ("ioctl", "shmget", "shmat", "shmctl", *files)}
    sockets = {numbers[name] for name in ("connect", "bind", "listen")}
    assert {*looked_at(machine, "none", ALL, unix=False)} == memory
    assert {*looked_at(machine, "loopback", ALL, unix=False)} == memory | sockets
    assert {*looked_at(machine, "host", ALL, unix=True)} == memory | sockets
    assert looked_at(machine, "loopback", Unshared(abi=7, listener=True), unix=True) == ()
    makes = Unshared(abi=7, listener=True, broker=True)
    more = sockets | {numbers["socket"]}
    assert {*looked_at(machine, "none", makes, unix=True)} == memory - {numbers["ioctl"]} | more


@machines
def test_a_process_stays_one_whose_addresses_can_be_read(machine: str) -> None:
    """Where nobody reads them, it may shut itself off."""
    for option, value, error in ((4, 0, errno.EPERM), (4, 1, 0), (15, 0, 0)):  # PR_SET_DUMPABLE
        assert refused(machine, "prctl", option, value) == error
        assert refused(machine, "prctl", option, value, found=OLD) in (0, error)
    assert refused(machine, "prctl", 4, 0, found=Unshared(abi=7, scopes=True)) == 0
    # The keepers of a sandbox in this one.
    assert refused(machine, "prctl", 4, 0, SHUT_BY_US) == 0
    assert refused(machine, "prctl", 4, 0, 1) == errno.EPERM


@machines
def test_an_older_landlock_is_made_up_for(machine: str) -> None:
    """Before Linux 6.2 it knows no truncation, before 6.12 no signals."""
    for found, error in ((OLD, errno.EACCES), (ALL, 0)):
        assert refused(machine, "truncate", 0, 0, found=found) == error
        for flags in (TRUNCATE, TRUNCATE | 3, TRUNCATE | CREATE):
            assert refused(machine, "openat", 0, 0, flags, found=found) == error
            assert refused(machine, "open", 0, flags, found=found) in (error, None)
        for flags in (TRUNCATE | 1, TRUNCATE | 2, TRUNCATE | CREATE | 1, 0, PATH):
            assert refused(machine, "openat", 0, 0, flags, found=found) == 0
    for found, error in ((OLD, errno.EPERM), (ALL, 0)):
        for command in (8, 10, 15):  # F_SETOWN, F_SETSIG, F_SETOWN_EX
            assert refused(machine, "fcntl", 3, command, 4711, found=found) == error
        assert refused(machine, "fcntl", 3, 4, 0, found=found) == 0
        for request in (0x8901, 0x8902):  # FIOSETOWN, SIOCSPGRP
            assert refused(machine, "ioctl", 3, request, found=found) == error
