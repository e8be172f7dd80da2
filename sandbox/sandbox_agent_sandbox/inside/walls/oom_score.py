"""Which process the kernel ends where memory runs out. proc_pid_oom_score_adj(5)

The agent has 0 or what its starter gave it, the sandbox's own processes more, tools most. So a
shortage that they share ends a tool and not the sandbox, and the sandbox and not the agent. In
version 2 of control groups, the spawner and init are in one group with the tools.
"""

from __future__ import annotations

from contextlib import suppress

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.small_files import write_text

OWN, OF_TOOLS = 500, 1000


def be_first_to_die(score: int) -> None:
    """Take a score, which children inherit. Everybody may raise it."""
    with suppress(OSError):
        write_text("/proc/self/oom_score_adj", str(score))


def shut_be_first_to_die(score: int) -> None:
    """The same for a process that has shut itself: its own files in /proc are root's. It opens
    itself for a moment. Nobody can use that: tools lack the capabilities that it has. ptrace(2)"""
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    try:
        be_first_to_die(score)
    finally:
        syscalls.shut_itself()
