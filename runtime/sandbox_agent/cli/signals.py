"""INT, TERM, HUP and TSTP on the command line, and the death of the parent.

Before a run: the command ends at once, by `Stopped`. During one: each signal is handed to the
conversation's `interrupt()`, which takes no lock, so the handler may strike anywhere. After the
recorded end: nothing. The first signal decides the exit code.

Ctrl-Z (TSTP) stops the tools with us, and `fg` continues both. The tools are no part of our
process group, so the terminal would stop only us.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Protocol

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INSIST_SECONDS = 1.0
"""A signal so long after the one that has ended the command, which is still there, kills it. Sooner
it is the same one: a group's, and once more by whoever passes it on."""


class Freezer(Protocol):
    """What can be stopped and continued as a whole: a conversation."""

    def freeze(self) -> object:
        """Stop it. Returns within about a second."""

    def thaw(self) -> object:
        """Continue it."""


class Stopped(BaseException):
    """A signal came before a run was going. Not an Exception: nothing may swallow it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Later:
    """`with` it, a signal before a run ends the command when the block is over, not inside it: an
    exception from a handler would leave a lock held, a thread half started, or a module half
    imported. Main thread only.

    pending: the signal that waits for the end of the block.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.pending: int | None = None

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.depth -= 1
        signum = self.pending
        if signum is not None and not self.depth:
            self.pending = None
            raise Stopped(signum)


class Signals:
    """The handlers of this process. `first`: the signal that decides the exit code, or None.
    later: for what a signal must not end in the middle."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.later = Later()
        self.parent = os.getppid()  # now: later it may be whoever adopted us
        self._interrupt: Callable[[int], None] | None = None
        self._heard = 0
        self._held = False
        self._unclaimed: list[None] = [None]
        self._freezer: Freezer | None = None
        self._freezing = False
        self._ended = False
        self._struck: float | None = None

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

    def check(self) -> None:
        """Raises Stopped if a signal has ended the command, for whoever has caught something else:
        what calls Python from C may make another exception of it."""
        if self._struck is not None and self.first is not None:
            raise Stopped(self.first)

    def hold(self) -> None:
        """From now on a signal waits for `attach`: the run's record is about to be begun, and only
        the run itself can bring it to its end. What the task names is read before that, though,
        and may be on a disk that hangs: whoever insists ends the command all the same."""
        self._interrupt = lambda signum: None
        self._held = True

    def attach(self, interrupt: Callable[[int], None], freezer: Freezer) -> None:
        """From now on a signal calls `interrupt(signum)`; at once, if one has come already.

        freezer: what Ctrl-Z freezes and `fg` thaws.
        """
        self._interrupt = interrupt
        self._held, self._struck = False, None
        self._freezer = freezer
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:  # not in a shell without jobs
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGTSTP, self._stop)
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

    def strike(self, signum: int) -> None:
        """As if the signal had come, from another thread; before a run it waits for the run.

        It and the first signal are one event: what ends a process group strikes the parent and us,
        and whoever is told once has all of the grace period.
        """
        if self._ended:
            return
        if self.first is None:
            self.first = signum
        if self._interrupt is not None and self._claim():
            self._interrupt(signum)

    def _claim(self) -> bool:
        """Whether the caller is the first of the two to come here. One step: list.pop."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        # A second Ctrl-Z while the first freezes is the same: freeze() holds locks.
        if self._freezer is None or self._ended or self._freezing:
            return
        self._freezing = True
        try:
            self._freezer.freeze()
            os.kill(os.getpid(), signal.SIGSTOP)
            # Here we are again: somebody sent SIGCONT.
            self._freezer.thaw()
        finally:
            self._freezing = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._ended:
            return
        if self.first is None:
            self.first = signum
        if self._interrupt is not None:
            self._heard += 1
            if self._heard > 1 or self._claim():
                self._interrupt(signum)
            if self._held:
                self._insist(signum)
        elif self._insist(signum):
            if not self.later.depth:
                raise Stopped(self.first)
            self.later.pending = self.first

    def _insist(self, signum: int) -> bool:
        """Whether this is the first signal; a late one kills."""
        if self._struck is None:
            self._struck = time.monotonic()
            return True
        if time.monotonic() - self._struck > INSIST_SECONDS:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        return False
