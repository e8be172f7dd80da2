"""The filter of system calls, run by an interpreter of classic BPF, for both machines."""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from classic_bpf import bpf
from sandbox_agent_sandbox.policy.rules.bpf import ARCHITECTURES, Condition, Refusal
from sandbox_agent_sandbox.policy.rules.numbers import NUMBERS
from sandbox_agent_sandbox.policy.rules.seccomp import compile_filter, refusals

ALLOW, ERROR = 0x7FFF0000, 0x00050000
S_IFCHR, S_IFIFO, S_IFREG = 0o020000, 0o010000, 0o100000
O_CREAT, O_TMPFILE, O_RDWR = 0o100, 0o20200000, 2
TIOCSTI, TIOCLINUX, TIOCSETD, TIOCGWINSZ, TIOCGETD = 0x5412, 0x541C, 0x5423, 0x5413, 0x5424
ADD_KEY, KEY_STATUS = 0xC0506617, 0xC080661A
"""FS_IOC_ADD_ENCRYPTION_KEY and FS_IOC_GET_ENCRYPTION_KEY_STATUS."""
NEWUSER, NEWTIME, CLONE_VM, SIGCHLD = 0x10000000, 0x80, 0x100, 17
UNIX, INET, INET6, NETLINK, PACKET, TIPC, ALG, VSOCK = 1, 2, 10, 16, 17, 30, 38, 40
STREAM, DGRAM, RAW, DCCP, SOCK_PACKET, FLAGS = 1, 2, 3, 6, 10, 0x80800
TCP, UDP, ICMP, IP_DCCP, ICMPV6, SCTP, UDPLITE, MPTCP = 6, 17, 1, 33, 58, 132, 136, 262
HIGH = 0xDEADBEEF << 32
"""What a caller leaves in the upper half of a register that holds 32 bits."""


def verdict(machine: str, name: str, *arguments: int, owner_is_root: bool = False) -> int:
    """The errno of a call; 0 if it is allowed."""
    program = compile_filter(machine, owner_is_root=owner_is_root)
    found = bpf(program, NUMBERS[machine][name], arguments, ARCHITECTURES[machine])
    if found == ALLOW:
        return 0
    assert found & 0xFFFF0000 == ERROR
    return found & 0xFFFF


CASES: dict[str, tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]] = {
    "unshare": (((NEWUSER,), (NEWTIME,), (NEWUSER | 0x400,)), ((0,), (0x400,), (0x200,))),
    "clone": (((NEWUSER | SIGCHLD,),), ((SIGCHLD,), (CLONE_VM | NEWTIME,), (0x7F | CLONE_VM,))),
    "personality": (((0x400000,), (0x40000,)), ((0,), (8,), (0xFFFFFFFF,), (0x20008,))),
    "ioctl": (
        ((0, TIOCSTI), (0, TIOCLINUX), (0, TIOCSTI | HIGH), (0, TIOCSETD), (0, ADD_KEY)),
        ((0, TIOCGWINSZ), (0, TIOCGETD), (0, KEY_STATUS), (0, 0x5411), (0, 0)),
    ),
    "socket": (
        (
            (PACKET, RAW),
            (ALG, 5),
            (VSOCK, STREAM),
            (NETLINK, RAW, 16),
            (0,),
            (UNIX + 256,),
            (INET, STREAM, SCTP),
            (INET6, 5, SCTP),
            (INET, STREAM, MPTCP),
            (INET, DGRAM, UDPLITE),
            (INET, DCCP),
            (INET, DCCP, IP_DCCP),
            (INET, SOCK_PACKET, 3),
            (INET6, 5),
        ),
        (
            (UNIX, STREAM),
            (UNIX, 5),
            (UNIX | HIGH, STREAM),
            (INET, STREAM),
            (INET6, DGRAM),
            (INET, STREAM | FLAGS, TCP),
            (INET6, DGRAM | FLAGS, UDP),
            (INET, DGRAM, ICMP),
            (INET6, DGRAM, ICMPV6),
            (INET, RAW, 255),
            (NETLINK, RAW | FLAGS, 0),
            (NETLINK, DGRAM),
        ),
    ),
    "socketpair": (
        ((TIPC, STREAM), (INET, STREAM), (NETLINK, RAW)),
        ((UNIX, STREAM), (UNIX | HIGH, 5 | FLAGS)),
    ),
    "ioprio_set": (((3, 0, 0), (3 | HIGH, 1, 0)), ((1, 0, 0), (2, 0, 0))),
    "chmod": (((0, 0o4755), (0, 0o4000 | HIGH)), ((0, 0o755), (0, 0o2755), (0, 0o1777))),
    "fchmod": (((3, 0o4755),), ((3, 0o755), (3, 0o2755))),
    "fchmodat": (((3, 0, 0o4755),), ((3, 0, 0o755), (3, 0o4000, 0o755))),
    "fchmodat2": (((3, 0, 0o4755, 0),), ((3, 0, 0o755, 0o4000),)),
    "creat": (((0, 0o4755),), ((0, 0o644),)),
    "open": (
        ((0, O_CREAT, 0o4755), (0, O_TMPFILE | O_RDWR, 0o4755)),
        ((0, O_RDWR, 0o4755), (0, O_CREAT, 0o644)),
    ),
    "openat": (
        ((3, 0, O_CREAT, 0o4755), (3, 0, O_TMPFILE | O_RDWR, 0o4644)),
        ((3, 0, O_RDWR, 0o4755), (3, 0, O_CREAT, 0o644), (3, O_CREAT, 0, 0o4000)),
    ),
    "mknod": (
        ((0, S_IFCHR | 0o644), (0, S_IFREG | 0o4644), (0, S_IFCHR | HIGH)),
        ((0, S_IFIFO | 0o644), (0, S_IFREG | 0o644), (0, 0)),
    ),
    "mknodat": (
        ((3, 0, S_IFCHR), (3, 0, S_IFREG | 0o4644)),
        ((3, 0, S_IFIFO | 0o644), (3, S_IFCHR, 0)),
    ),
    "renameat2": (((3, 0, 3, 0, 4),), ((3, 0, 3, 0, 0), (3, 0, 3, 0, 1), (3, 0, 3, 0, 2))),
}
"""Of the calls that are refused by their arguments: refused ones, and allowed ones."""

ALWAYS = [name for one in refusals(owner_is_root=False) for name in one.names.split()]
machines = pytest.mark.parametrize("machine", NUMBERS)


@machines
def test_each_entry_refuses_what_it_names_and_lets_its_neighbours_pass(machine: str) -> None:
    conditional = {
        name for one in refusals(owner_is_root=False) if one.when or one.unless
        for name in one.names.split()
    }  # fmt: skip
    assert conditional == set(CASES)
    for name, (refused, allowed) in CASES.items():
        if name not in NUMBERS[machine]:
            continue
        for arguments in refused:
            assert verdict(machine, name, *arguments) != 0, (name, arguments)
        for arguments in allowed:
            assert verdict(machine, name, *arguments) == 0, (name, arguments)
    for name in set(ALWAYS) - conditional:
        if name in NUMBERS[machine]:
            assert verdict(machine, name, 0, 0, 0) in (errno.EPERM, errno.ENOSYS), name


def test_a_new_file_with_the_setgid_bit_is_refused_where_root_would_own_it() -> None:
    """A folder has it for `git init --shared`, and which is which chmod(2) does not say."""
    new = ("openat", (3, 0, O_CREAT, 0o2755))
    assert verdict("x86_64", new[0], *new[1]) == 0
    assert verdict("x86_64", new[0], *new[1], owner_is_root=True) == errno.EPERM
    for mode in (0o1777, 0o2775):
        assert verdict("x86_64", "chmod", 0, mode, owner_is_root=True) == 0
    assert verdict("x86_64", "chmod", 0, 0o4755) == errno.EPERM


def holds(test: Condition, arguments: Sequence[int]) -> bool:
    value = arguments[test.argument] & 0xFFFFFFFF & test.mask
    return value != 0 if test.any_bit else value in test.values


def refused_by(entry: Refusal, arguments: Sequence[int]) -> bool:
    if entry.when:
        return all(holds(test, arguments) for test in entry.when)
    return not any(all(holds(test, arguments) for test in tests) for tests in entry.unless)


@machines
@pytest.mark.parametrize("owner_is_root", [False, True])
def test_the_program_says_what_the_list_says(machine: str, owner_is_root: bool) -> None:
    """For every number, with many arguments."""
    entries = refusals(owner_is_root=owner_is_root)
    names = {number: name for name, number in NUMBERS[machine].items()}
    program = compile_filter(machine, owner_is_root=owner_is_root)
    chance = random.Random(7)
    telling = [0, 1, 2, 4, 10, 16, 17, 0o4755, 0o2755, O_CREAT, O_TMPFILE, S_IFCHR, NEWUSER, 8]
    telling += [TIOCSTI, TIOCSETD, ADD_KEY, 0x40000, 0xFFFFFFFF, HIGH | 0o4755, RAW, TCP, SCTP]
    for number in range(600):
        about = [one for one in entries if names.get(number) in one.names.split()]
        for _ in range(60 if about else 1):
            arguments = [chance.choice(telling) for _ in range(6)]
            expected = next((one.error for one in about if refused_by(one, arguments)), 0)
            found = bpf(program, number, arguments, ARCHITECTURES[machine])
            assert found == (ERROR | expected if expected else ALLOW), (number, arguments)


@machines
def test_other_machines_and_variants_have_no_system_call(machine: str) -> None:
    program = compile_filter(machine, owner_is_root=False)
    other = 0x40000003  # AUDIT_ARCH_I386
    assert bpf(program, 20, (), other) == ERROR | errno.ENOSYS
    if machine == "x86_64":
        assert bpf(program, 0x40000000 + 1, (), ARCHITECTURES[machine]) == ERROR | errno.ENOSYS


@machines
def test_a_program_is_small_and_each_entry_has_its_reason(machine: str) -> None:
    """BPF_MAXINSNS is 4096."""
    program = compile_filter(machine, owner_is_root=True)
    assert len(program) // 8 < 400
    assert all(one.why for one in refusals(owner_is_root=True))


def test_a_machine_that_is_not_known_gets_no_filter() -> None:
    assert compile_filter("riscv64", owner_is_root=False) == b""
    assert compile_filter("", owner_is_root=False) == b""


def test_the_numbers_are_those_of_this_machines_headers() -> None:
    """Where the kernel's headers are installed."""
    headers = {
        "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "aarch64": "/usr/include/asm-generic/unistd.h",
    }
    for machine, path in headers.items():
        if not Path(path).exists():
            continue
        defined = {}
        for line in Path(path).read_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "#define" and words[2].isdigit():
                defined[words[1].removeprefix("__NR_").removeprefix("3264_")] = int(words[2])
        for name, number in NUMBERS[machine].items():
            assert defined.get(name, number) == number, (machine, name)
