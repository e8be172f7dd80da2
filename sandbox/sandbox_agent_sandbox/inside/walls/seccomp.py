"""The filter of system calls, as the plan carries it. seccomp(2)."""

from __future__ import annotations

from sandbox_agent_sandbox.inside.kernel import syscalls


def filter_system_calls(program: bytes) -> None:
    """Filter the calls of this process and of all that comes from it, for good. The last wall: what
    is refused from here on includes what the other walls were built with.

    program: `struct sock_filter`s; empty for none. Needs no_new_privs.
    """
    if program:
        syscalls.set_filter(program)
