"""`--die-with-parent`: interrupts the run when the parent process ends.

Uses a pidfd of the parent, pidfd_open(2). PR_SET_PDEATHSIG follows the parent's *thread*: it would
end the run when a thread of a multi-threaded CI runner ends. prctl(2).
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable

from sandbox_agent_ipc.shortage import start_thread

from sandbox_agent.cli.console import is_on

PARENT_DIED = signal.SIGHUP
"""The death of the parent counts as a hang-up of the terminal. The exit code is 129."""


def wanted(option: bool | None) -> bool:
    """Whether to watch the parent: as the option says, or else if `CI` is set, and not to `false`.

    A cancelled CI job often loses its shell first, and then gets no signal.
    """
    return option if option is not None else is_on("CI")


def watch_parent(strike: Callable[[int], None], parent: int) -> None:
    """Calls `strike(SIGHUP)` from a daemon thread when the parent has ended.

    parent: its pid, taken early; if getppid(2) differs now, the parent has ended already. Pid 1
    ends only with the system, and a parent outside this pid namespace (0) cannot be watched: then
    nothing happens.
    """
    if parent <= 1:
        return
    try:
        pidfd = os.pidfd_open(parent)
    except OSError:
        pidfd = -1
    if pidfd < 0 or os.getppid() != parent:
        strike(PARENT_DIED)
        return

    def wait() -> None:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll()
        strike(PARENT_DIED)

    start_thread(threading.Thread(target=wait, name="sandbox-agent parent", daemon=True))
