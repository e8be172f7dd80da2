"""`--die-with-parent`: when whoever started us is gone, the run is interrupted.

By a pidfd of the parent and not by PR_SET_PDEATHSIG, which follows the parent's *thread*: a
multi-threaded CI runner whose thread ends would take the run along. pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable

PARENT_DIED = signal.SIGHUP
"""What the parent's death is like: the terminal's hang-up. Decides the exit code, 129."""


def wanted(asked: bool | None) -> bool:
    """Whether to die with the parent: as asked, else where `CI` is set and not empty.

    A CI job that is cancelled often loses its shell first, and its signals with it.
    """
    return asked if asked is not None else bool(os.environ.get("CI"))


def watch_parent(strike: Callable[[int], None], parent: int) -> None:
    """Call `strike(SIGHUP)` once the parent is gone, from a daemon thread.

    parent: its pid, taken early; if that is not our parent any more, it has died already. A
    process of pid 1 has nobody to outlive, and a parent outside our pid namespace (0) cannot be
    watched: then nothing happens.
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

    threading.Thread(target=wait, name="sandbox-agent parent", daemon=True).start()
