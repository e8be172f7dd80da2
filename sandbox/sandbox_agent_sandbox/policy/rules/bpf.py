"""A list of refused system calls, compiled to classic BPF.

The filter looks at the architecture and the number, and at arguments that are numbers; what lies
behind a pointer it cannot see. Sources: seccomp(2), Documentation/userspace-api/seccomp_filter.rst,
Documentation/networking/filter.rst.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from sandbox_agent_sandbox.policy.rules.numbers import NUMBERS


class Condition(msgspec.Struct, frozen=True):
    """Whether the low 32 bits of an argument, without the bits outside `mask`, are one of `values`.

    argument: its number, from 0 on. any_bit: instead, whether one of the bits in `mask` is set.
    high: look at the high 32 bits instead, for an argument that is a pointer.
    """

    argument: int
    values: tuple[int, ...] = ()
    mask: int = 0xFFFFFFFF
    any_bit: bool = False
    high: bool = False


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


def has(argument: int, bits: int) -> Condition:
    """Whether one of these bits is set."""
    return Condition(argument, mask=bits, any_bit=True)


ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_*, from linux/audit.h."""

_X32 = 0x40000000
"""Numbers from here on are of x86-64's 32-bit variant, with its own table."""

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


def compile_refusals(machine: str, entries: Iterable[Refusal]) -> bytes:
    """The filter for a machine, as `struct sock_filter`s; b"" for a machine that is not known.

    machine: as uname(2) names it. Of two entries for the same call, the first one decides.
    """
    if machine not in NUMBERS:
        return b""
    numbers = NUMBERS[machine]
    found = [
        (numbers[name], entry)
        for entry in entries
        for name in entry.names.split()
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
    if len(low) < 256:
        return [(_JUMP_GREATER_EQUAL, len(low), 0, leaves[middle][0]), *low, *high]
    over: list[Instruction] = [(_JUMP_GREATER_EQUAL, 0, 1, leaves[middle][0])]
    return [*over, (_JUMP, 0, 0, len(low)), *low, *high]


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
    body: list[Instruction] = [(_RETURN, 0, 0, _ERROR | entry.error)]
    for alternative in reversed(entry.unless):
        # If all tests hold, jump over all that follows.
        tests = _unless_all(alternative, 1)
        body = [*tests, (_JUMP, 0, 0, len(body)), *body]
    return [*_unless_all(entry.when, len(body)), *body]


def _unless_all(tests: Sequence[Condition], skipped: int) -> list[Instruction]:
    """Code that jumps over the next `skipped` instructions unless all tests hold."""
    code: list[Instruction] = []
    for test in reversed(tests):
        over = _near(len(code) + skipped)
        place = _ARGUMENTS + 8 * test.argument + (4 if test.high else 0)
        one: list[Instruction] = [(_LOAD, 0, 0, place)]
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
