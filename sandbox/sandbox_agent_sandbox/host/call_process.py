"""One call's processes, from the host's side, and the set of those that are in flight."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from sandbox_agent_ipc.board import Slot
from sandbox_agent_ipc.cancel_reason import CancelReason

from sandbox_agent_sandbox.call_status import WorkerEnd, worker_end
from sandbox_agent_sandbox.host.descriptors import Descriptor
from sandbox_agent_sandbox.host.ladder import Ladder
from sandbox_agent_sandbox.host.process import Process
from sandbox_agent_sandbox.limits.groups import CallGroup, Counts
from sandbox_agent_sandbox.outcome import LimitMet, Rung, Survivor


class CallProcess:
    """The record of one call, from its request to the proof of its end.

    session: for a request to a session, the session's own call process; the two share a process.
    fresh_view: see `CallRequest`. group: the control groups that it is in. counts: what they
    counted. met: the limits that it met meanwhile.
    full: what is, or may be, full at its end. end: how its worker ended.

    Any thread may call `flag` at any time. All else belongs to the supervisor's thread until
    `on_ended` is called. From then on nothing changes any more.
    """

    def __init__(
        self,
        id: str,
        slot: Slot,
        wake: Descriptor,
        status: Descriptor,
        on_ended: Callable[[], object],
        abort_sandbox: Callable[[], object],
        fresh_view: bool = False,
    ) -> None:
        self.id = id
        self.slot = slot
        self.wake = wake
        self.status = status
        self.on_ended = on_ended
        self.abort_sandbox = abort_sandbox
        self.session: CallProcess | None = None
        self.fresh_view = fresh_view
        self._process: Process | None = None
        self.ladder: Ladder
        self.survivors: tuple[Survivor, ...] = ()
        self.failure = ""
        self.group: CallGroup | None = None
        self.counts = Counts()
        self.met: list[LimitMet] = []
        self.full: tuple[LimitMet, ...] = ()
        self.end = WorkerEnd()

    @property
    def process(self) -> Process | None:
        """The call's init, once the host knows it. That of a request is its session's, which may
        become known later: a worker says itself that it serves, and init tells of its birth."""
        return self._process if self.session is None else self.session.process

    @process.setter
    def process(self, process: Process | None) -> None:
        self._process = process

    def flag(self, reason: CancelReason) -> None:
        """Change the word and wake the worker. No lock: safe in signal handlers."""
        self.slot.cancel(reason)
        wake = self.wake  # held while it is written to, see Descriptor
        with suppress(OSError):  # full, or closed: no process is left that could be woken
            os.write(wake.number, b"!")
        # Linux queues the reader of a pipe on the processor of its writer, because it assumes that
        # the writer will sleep. The worker runs first then: it sees the flag a fifth sooner.
        os.sched_yield()

    def shift(self, seconds: float) -> None:
        """Its processes stood still for so long: what is due, and what it sees, comes later."""
        self.ladder.shift(seconds)
        self.slot.shift_deadline(seconds)

    def prepare(self) -> None:
        """Import what signals to its processes need, before they are needed."""
        if self.process is not None:
            self.process.prepare()

    def dismiss(self) -> None:
        """The worker has given its result, and with that the call is over: see `Process`. Unless
        all have got SIGTERM: then each may take its time. From any thread."""
        process = self.process
        if process is not None and Rung.TERM not in self.ladder.rungs:
            process.dismiss()

    def terminate(self) -> None:
        """SIGTERM to the call's init, if there is one yet."""
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """End its processes by SIGKILL, see `CallInit`. If there is none yet, the sandbox has to be
        ended."""
        if self.process is not None:
            self.process.kill()
        else:
            self.abort_sandbox()

    def close(self) -> None:
        """The sandbox is closed. The order to end comes before init's SIGKILL: see `CallInit`."""
        self.flag(CancelReason.CLOSED)
        if self.process is not None:
            self.process.kill()

    def insist(self) -> None:
        """SIGKILL to an init that has not followed the order to end."""
        if self.process is not None:
            self.process.insist()

    @property
    def has_ended(self) -> bool:
        """Whether none of its processes is left, or none was made."""
        return self.process is None or self.process.has_ended

    def find_survivors(self, process: Process) -> bool:
        """Name what is left of it, after a wait. Returns whether its end is proven by now: a list
        without names alone is no proof."""
        self.survivors = process.survivors()
        return not self.survivors and process.has_ended

    def close_descriptors(self) -> None:
        """Keep how the worker ended, as far as its init reported before it died, and close the
        descriptors now. Their owners refer to each other in a circle, which the garbage collector
        may find late, or never."""
        if self.status.number >= 0:
            self.end = worker_end(self.status.number)
        self.wake = self.status = Descriptor(-1)


class InFlight:
    """The calls of a sandbox that are not over, by id. Any thread may add and look. The thread
    of the supervisor takes out. To look takes no lock: signal handlers do it."""

    def __init__(self) -> None:
        self._calls: dict[str, CallProcess] = {}
        self._changed = threading.Condition()
        self._active = 0

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._calls

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, call_id: str) -> CallProcess | None:
        """The call of this id, or None."""
        return self._calls.get(call_id)

    def all(self) -> list[CallProcess]:
        """All of them now."""
        # One step of the interpreter: other threads add calls at any moment.
        return list(self._calls.values())

    def birth(self, call_process: CallProcess, now: float) -> None:
        """The call's init exists now: for the ladder of the call, and of its requests."""
        for one in self.all():
            if call_process in (one, one.session):
                one.ladder.birth(now)

    def add(self, call_process: CallProcess) -> None:
        """A call begins."""
        with self._changed:
            self._active += 1
        self._calls[call_process.id] = call_process

    def take_out(self, call_process: CallProcess) -> bool:
        """Nobody finds it any more. Returns False when that has been done before. `is_over` comes
        later, once all that it held is given back."""
        return self._calls.pop(call_process.id, None) is not None

    def is_over(self) -> None:
        """A call that was taken out is over: tell who waits."""
        with self._changed:
            self._active -= 1
            self._changed.notify_all()

    def wait_until_over(self, timeout: float | None, call_id: str | None = None) -> bool:
        """Block until none, or not this one, is there. False after `timeout` seconds."""
        with self._changed:
            if call_id is not None:
                return self._changed.wait_for(lambda: call_id not in self._calls, timeout)
            return self._changed.wait_for(lambda: self._active == 0, timeout)
