"""INT, TERM and HUP on the command line.

Before a run: the command ends at once, by `Stopped`. During one: each signal is handed to the
conversation's `interrupt()`, which takes no lock, so the handler may strike anywhere. After the
recorded end: nothing. The first signal decides the exit code.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal came before a run was going. Not an Exception: nothing may swallow it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Signals:
    """The handlers of this process. `first`: the signal that decides the exit code, or None."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._interrupt: Callable[[int], None] | None = None
        self._ended = False

    def install(self) -> None:
        """Takes INT and TERM even when inherited as ignored, as background jobs of scripts have
        INT; an ignored HUP stays ignored, which is what nohup(1) asks for. All are unblocked: a
        mask is inherited as well."""
        for signum in HANDLED:
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
                # Another thread than the main one cannot: an embedder that calls `main` so.
                with contextlib.suppress(ValueError):
                    signal.signal(signum, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def attach(self, interrupt: Callable[[int], None]) -> None:
        """From now on a signal calls `interrupt(signum)`; at once, if one has come already."""
        self._interrupt = interrupt
        if self.first is not None:
            interrupt(self.first)

    def end(self) -> None:
        """The end is recorded: from now on a signal changes nothing.

        Ignored rather than handled, because the interpreter's own end puts handled signals back
        to their defaults, and a late one would then kill us by signal.
        """
        self._ended = True
        for signum in HANDLED:
            if signal.getsignal(signum) == self._handle:
                with contextlib.suppress(ValueError):
                    signal.signal(signum, signal.SIG_IGN)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._ended:
            return
        again = self.first is not None
        if not again:
            self.first = signum
        if self._interrupt is not None:
            self._interrupt(signum)
        elif not again:
            raise Stopped(signum)
