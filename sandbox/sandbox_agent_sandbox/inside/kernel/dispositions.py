"""What a process does with signals: nothing of it is left to chance, or to who started us."""

from __future__ import annotations

import signal
from collections.abc import Collection


def reset_signals(ignored: Collection[int] = ()) -> None:
    """Ignore the signals of `ignored`, give all others their default action, and block none.

    An exec keeps what is ignored and what is blocked (signal(7)): under nohup(1), in a background
    job, or in a program that ignores SIGCHLD, so that waitpid(2) would give no status. The mask
    comes last: a signal that is pending meets what was set here.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
