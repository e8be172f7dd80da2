"""The filter of system calls, as the plan carries it. seccomp(2)."""

from __future__ import annotations

from functools import cache

from sandbox_agent_sandbox.inside.kernel import syscalls


@cache
def make_filter(program: bytes) -> syscalls.Filter:
    """The filter as the kernel takes it. Init makes it once, and the workers inherit it.

    program: `struct sock_filter`s.
    """
    return syscalls.Filter(program)


def filter_system_calls(program: bytes) -> None:
    """Filter the calls of this process and of all that comes from it, for good. The last wall: what
    is refused from here on includes what the other walls were built with.

    program: as in `make_filter`; empty for none. Needs no_new_privs.
    """
    if program:
        syscalls.set_filter(make_filter(program))
