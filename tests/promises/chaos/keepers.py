"""Who keeps the calls of an agent: the processes between it and its tools, by the kind of plan."""

from __future__ import annotations

import contextlib
import os
import signal

import observer

WITHOUT_NAMESPACES = os.environ.get("SANDBOX_AGENT_TEST_PLAN") == "no_namespaces"
"""The kind of plan of this host; see tests/support/environments."""

KEPT = (1,) if WITHOUT_NAMESPACES else (1, 2)
"""How far below a living agent each sandbox keeps one process between two calls: its spawner, and
its init, of which there is none without namespaces. There, a supervisor is one level below the
spawner, and so is what a supervisor that was killed has left."""

SPARES = 2
"""How many spares wait at most: the default of a conversation."""

SPARED = (2, 3, 4) if WITHOUT_NAMESPACES else (3, 4)
"""How far below a living agent each spare has a process. It has no mark of any tool."""

SPAWNER, SUPERVISOR, STARTER, REAPER = (
    f"sandbox-{name}" for name in ("spawner", "call", "starter", "reaper")
)
"""Names of the processes without namespaces (PR_SET_NAME)."""

WORKER = "sandbox-worker"
"""In every plan."""


def is_leaving(process: observer.Process) -> bool:
    """Whether it keeps one call, and so exits once it has proven the call's end."""
    return process.name in (SUPERVISOR, STARTER)


def is_exiting(process: observer.Process) -> bool:
    """Whether it has given its memory back, and is a zombie in a moment: on a busy machine the last
    steps of an exit can be seen. What it had open is closed before, so its end has been told.
    proc_pid_statm(5)"""
    with contextlib.suppress(OSError), open(f"/proc/{process.pid}/statm") as file:
        return file.read().split()[0] == "0"
    return True


def is_reaper(process: observer.Process) -> bool:
    """Whether it only looks for what earlier sandboxes have left, which is over in a moment."""
    return process.name == REAPER


def send(process: observer.Process, number: int) -> bool:
    """Signals exactly this process. False when it is gone."""
    with observer.watching([process]) as handles:
        for handle in handles:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
                return True
    return False


def kill_together(agent: int) -> list[str]:
    """SIGKILL to an agent, and in the same moment to all that keep its calls.

    Each of them would end the calls when it sees that another one has died. So all are stopped
    first: from above, that none makes another one meanwhile. SIGKILL comes from below: the end of
    a parent continues its child. Returns the names of the keepers.
    """
    struck: list[observer.Process] = []
    with contextlib.suppress(ProcessLookupError):
        os.kill(agent, signal.SIGSTOP)
    for name in (SPAWNER, SUPERVISOR, STARTER):
        found = [one for one in observer.descendants(agent) if one.name == name]
        struck += [one for one in found if send(one, signal.SIGSTOP)]
    for one in reversed(struck):
        send(one, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(agent, signal.SIGKILL)
    return [one.name for one in struck]
