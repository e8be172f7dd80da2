"""What one run writes into the journal, and what it does when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.errors import SandboxError

from sandbox_agent.journal.events import AnyEvent, CancelRequested, Stamp
from sandbox_agent.journal.recorder import Recorder
from sandbox_agent.run.stop_decision import StopDecision

E = TypeVar("E", bound=AnyEvent)


class RunJournal:
    """Records for one run. A journal that cannot be written stops the run.

    over: set when the run's last event is written. trouble: the first thing that failed.
    """

    def __init__(self, recorder: Recorder, stopping: StopDecision) -> None:
        self.recorder = recorder
        self.stopping = stopping
        self.state = recorder.state
        self.over = threading.Event()
        self.trouble: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._noted: set[str | None] = set()

    def record(self, kind: type[E], /, **fields: Any) -> E | None:
        """Write an event. None when that failed: the run is being stopped then. None also once it
        is over: whatever was left behind has nothing more to say."""
        if self.over.is_set():
            return None
        try:
            return self.recorder.add(kind, **fields)
        except OSError as error:
            self.fail(error, f"the journal cannot be written: {error}")
            return None

    def fail(self, error: BaseException, why: str = "") -> None:
        """Something that the run needs has failed: stop it, and say so in its end."""
        if self.trouble is None:
            self.trouble = error
            if isinstance(error, OSError | SandboxError):
                # It will live as long as the result, and its frames would keep a whole sandbox's
                # descriptors open with it. Its text says all; only a bug needs the frames.
                error.with_traceback(None)
        self.stopping.stop(CancelReason.FAILED, why or str(error))

    def note_stop(self) -> None:
        """Write once that, why and when the run was stopped. The decision itself was made where
        no file can be written: in a signal handler, perhaps."""
        reason = self.stopping.token.reason
        if reason is not None and None not in self._noted and not self.over.is_set():
            self._noted.add(None)
            self.record(CancelRequested, stamp=self.stopping.stamp, reason=reason.value)

    def note_cancelled_call(self, call_id: str, stamp: Stamp) -> None:
        """Write once that one call was cancelled, if it has not ended meanwhile."""
        call = self.state.calls.get(call_id)
        if call is not None and call.ended is None and call_id not in self._noted:
            self._noted.add(call_id)
            reason = CancelReason.CANCEL_CALL.value
            self.record(CancelRequested, stamp=stamp, reason=reason, call=call_id)

    def soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the run's loop call something. From any thread and from signal handlers."""
        with contextlib.suppress(RuntimeError):  # The loop is closed; nobody is left to wake.
            self._loop.call_soon_threadsafe(callback, *arguments)
