"""What a process does with signals: nothing of it is left to chance, or to who started us."""

from __future__ import annotations

import signal
from collections.abc import Collection

from sandbox_agent_sandbox.inside.kernel import raw_signals

OWN = tuple(
    map(int, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ))
)
"""What the spawner ignores, and all that comes from it until it is a worker. The last two by Python
itself: a write then fails with EPIPE or EFBIG. signal(7)"""

CHANGED = (*OWN, int(signal.SIGCHLD))
"""What may have another action than the default one in a process that comes from a spawner: init,
the supervisors and the starters change SIGCHLD too."""


def reset_signals(ignored: Collection[int] = (), among: Collection[int] | None = None) -> None:
    """Ignore the signals of `ignored`, give all others their default action, and block none.
    among: those that may have another one, where that is known; None for all.

    An exec keeps what is ignored and what is blocked (signal(7)): under nohup(1), in a background
    job, or in a program that ignores SIGCHLD, so that waitpid(2) would give no status. The mask
    comes last: a signal that is pending meets what was set here.
    """
    if among is None:
        among = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    for number in among:
        action = raw_signals.SIG_IGN if number in ignored else raw_signals.SIG_DFL
        raw_signals.signal(number, action)
    raw_signals.pthread_sigmask(raw_signals.SIG_SETMASK, ())
