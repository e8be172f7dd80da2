"""The thread that keeps a sandbox's processes: it starts the spawner and sees every end.

One per sandbox. A thread and not the event loop, because an embedder's blocked loop would delay
the ladder; this thread and no other starts the spawner, because a parent-death signal follows the
*thread* that forked (prctl(2)): should this thread die of a bug, the sandbox dies with it.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.channel import recv_datagram, send_datagram
from sandbox_agent_ipc.codec import check_protocol
from sandbox_agent_ipc.errors import ChannelClosed, IpcError
from sandbox_agent_ipc.messages import (
    CallBorn,
    CallFailed,
    Freeze,
    FromInit,
    Frozen,
    InitBorn,
    InitFailed,
    InitHello,
    NewCall,
    Thaw,
)
from sandbox_agent_ipc.shortage import explained

from sandbox_agent_sandbox.errors import SandboxBroken, SandboxError, SandboxUnavailable
from sandbox_agent_sandbox.host.call_process import CallProcess
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.descriptors import Descriptor
from sandbox_agent_sandbox.host.hints import explain
from sandbox_agent_sandbox.host.ladder import Ladder
from sandbox_agent_sandbox.host.launch import Launch, kill_unlaunched, launch
from sandbox_agent_sandbox.host.process import Process
from sandbox_agent_sandbox.outcome import Survivor
from sandbox_agent_sandbox.plan import Plan

_STANDSTILL = 0.5
"""Seconds too late by which this thread knows that all of the program stood still: SIGSTOP, or a
machine that was suspended."""

_CATCHING_UP = 2.0
"""Seconds after a standstill, in which what was said meanwhile is read."""


class Supervisor:
    """Starts, watches and ends one sandbox and its calls. Any thread may call its methods."""

    def __init__(
        self, plan: Plan, board_fd: int, *, grace: float, term: float, deadlines: Deadlines
    ) -> None:
        self.deadlines = deadlines
        self._plan = plan
        self._board_fd = board_fd
        self._grace = grace
        self._term = term
        self._orders: deque[Callable[[float], None]] = deque()
        self._bell = Descriptor(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._lives: dict[str, CallProcess] = {}
        self._by_pidfd: dict[int, CallProcess] = {}
        self._idle = threading.Condition()
        self._active = 0
        self._epoll = select.epoll()
        self._launch: Launch | None = None
        self._init: Process | None = None
        self._opened_by: float | None = None
        self._orphaned_by: float | None = None
        self._on_open: Callable[[SandboxError | None], None] | None = None
        self._closing: float | None = None
        self._frozen_at: float | None = None
        self._frozen = threading.Event()
        self._failure: SandboxError | None = None
        self.survivors: tuple[Survivor, ...] = ()
        self._thread = threading.Thread(target=self._main, name="sandbox-agent ladder", daemon=True)

    # --- what others ask for ---------------------------------------------------------------

    def open(self, on_open: Callable[[SandboxError | None], None]) -> None:
        """Build the sandbox. `on_open(error or None)` is called from the supervisor's thread."""
        self._on_open = on_open
        self._thread.start()

    @property
    def failure(self) -> SandboxError | None:
        """Why the sandbox can take no more calls, or None."""
        return self._failure

    def start(self, life: CallProcess, channels: list[Descriptor], timeout: float | None) -> None:
        """Make a call's processes. `life.on_ended` is called from the supervisor's thread.

        channels: the descriptors of NewCall in their order. timeout: seconds from now.
        """
        with self._idle:
            self._active += 1
        now = time.monotonic()
        life.ladder = self._ladder(life, self._grace, self._term, now)
        life.ladder.time_out_at(None if timeout is None else now + timeout)
        self._lives[life.id] = life
        self._order(lambda now: self._start(life, channels, now))

    def join(
        self,
        life: CallProcess,
        session: CallProcess,
        *,
        grace: float,
        term: float,
        silence: float | None,
    ) -> None:
        """Make `life` a request to a session: its ladder acts on the session's process.

        silence: seconds until its time is up, unless `prolong` is called before. It ends with
        `leave`, or with the session.
        """
        with self._idle:
            self._active += 1
        now = time.monotonic()
        life.within, life.process = session, session.process
        life.ladder = self._ladder(life, grace, term, now)
        life.ladder.time_out_at(None if silence is None else now + silence)
        self._lives[life.id] = life

        def order(now: float) -> None:
            if life.id not in self._lives:
                return
            if session.id in self._lives:
                life.ladder.birth(now)
            else:
                self._ended(life, proven=True)

        self._order(order)

    def prolong(self, life: CallProcess, silence: float) -> None:
        """Something was heard of a request: its time begins anew."""
        self._order(lambda now: life.ladder.prolong(now + silence))

    def leave(self, life: CallProcess) -> None:
        """A session has done what a request asked for."""

        def order(now: float) -> None:
            if life.id in self._lives:
                self._ended(life, proven=True)

        self._order(order)

    def cancel(self, call_id: str, reason: CancelReason) -> bool:
        """Flag one call, now, in the calling thread; the rungs follow. No lock is taken."""
        life = self._lives.get(call_id)
        if life is None:
            return False
        at = time.monotonic()
        # Before the flag, so that what comes of that cannot overtake it; heard after it, so that
        # the worker which it wakes does not have to share its processor with us.
        self._orders.append(lambda now: life.ladder.flag(at))
        life.flag(reason)
        self._ring()
        return True

    def escalate(self, call_id: str | None = None) -> None:
        """Every call in flight, or this one alone, straight to TERM once it is flagged. No lock is
        taken."""

        def order(now: float) -> None:
            for life in self._all():
                if call_id is None or life.id == call_id:
                    life.ladder.escalate(now)

        self._order(order)

    def finish(self, life: CallProcess) -> None:
        """The worker has sent its last message."""
        self._order(lambda now: life.ladder.finish(now))

    def abort(self, life: CallProcess, why: str) -> None:
        """The worker broke the protocol: SIGKILL."""

        def order(now: float) -> None:
            life.failure = life.failure or why
            life.ladder.abort(now)

        self._order(order)

    def freeze(self, limit: float) -> bool:
        """Stop every process of the sandbox; `thaw` continues them.

        Blocks, at most for `limit` seconds; returns whether init has confirmed it. Meanwhile the
        ladder goes on: what is killed dies. While the sandbox is being built there is nothing to
        stop yet: init will find the order before it hears of any call.
        """
        self._frozen_at = time.monotonic()
        self._frozen.clear()

        def order(now: float) -> None:
            self._tell_init(Freeze())
            if self._opened_by is not None or self._init is None:
                self._frozen.set()

        self._order(order)
        return self._frozen.wait(limit)

    def thaw(self) -> None:
        """Continue every process. The calls' times are prolonged by how long they stood still."""

        def order(now: float) -> None:
            since, self._frozen_at = self._frozen_at, None
            if since is not None:
                for life in self._all():
                    life.ladder.shift(now - since)
            self._tell_init(Thaw())

        self._order(order)

    def give_up(self) -> None:
        """End the whole sandbox: something in it can be reached in no other way."""
        self._order(lambda now: self._fail(SandboxBroken("init does not make a call's processes")))

    def wait_idle(self, timeout: float | None) -> bool:
        """Block until no call is in flight; False when `timeout` seconds were not enough."""
        with self._idle:
            return self._idle.wait_for(lambda: self._active == 0, timeout)

    def close(self) -> tuple[Survivor, ...]:
        """End the sandbox and everything in it; block until that is proven or given up."""
        if self._thread.ident is None:
            return ()
        self._order(self._close)
        self._thread.join(self.deadlines.launch)
        while self._thread.is_alive():
            # It hears of nothing before its spawner has been started.
            if self._launch is None and self._thread.native_id is not None:
                kill_unlaunched(self._thread.native_id)
            self._thread.join(self.deadlines.launch)
        self._bell = Descriptor(-1)  # now, and not when the collector comes by
        return self.survivors

    def _ladder(self, life: CallProcess, grace: float, term: float, now: float) -> Ladder:
        return Ladder(life, grace=grace, term=term, deadlines=self.deadlines, now=now)

    def _all(self) -> list[CallProcess]:
        # One step of the interpreter: other threads add calls at any moment.
        return list(self._lives.values())

    def _order(self, order: Callable[[float], None]) -> None:
        # deque.append and eventfd_write are safe in signal handlers that interrupt either.
        self._orders.append(order)
        self._ring()

    def _ring(self) -> None:
        bell = self._bell  # held while it is written to, see Descriptor
        with suppress(OSError, ValueError):  # ValueError: closed, and nobody is left to hear it
            os.eventfd_write(bell.number, 1)

    # --- the thread ------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            # The embedder's signals are for the embedder's threads.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            self._epoll.register(self._bell.number, select.EPOLLIN)
            self._opened_by = time.monotonic() + self.deadlines.open
            try:
                self._launch = launch(self._plan, self._board_fd)
            except OSError as error:
                why = f"the sandbox's spawner cannot be started: {explained(error)}"
                self._fail(SandboxUnavailable(why))
                return
            self._epoll.register(self._launch.control.fileno(), select.EPOLLIN)
            self._epoll.register(self._launch.pidfd, select.EPOLLIN)
            while not self._over():
                self._step()
        except Exception as error:
            # A handshake of another version, or a bug. Either way the sandbox ends with us.
            self._failure = self._failure or SandboxBroken(f"the sandbox was given up: {error}")
            if not isinstance(error, IpcError):
                raise
        finally:
            self._bury()

    def _over(self) -> bool:
        """Closing, and nothing left that could still be proven to end."""
        if self._closing is None:
            return False
        if time.monotonic() >= self._closing + self.deadlines.proof:
            return True
        return not self._by_pidfd and self._init is None and self._opened_by is None

    def _step(self) -> None:
        deadlines = [life.ladder.deadline for life in self._all()]
        deadlines += [self._opened_by, self._orphaned_by]
        if self._closing is not None:
            deadlines.append(self._closing + self.deadlines.proof)
        due = min((time for time in deadlines if time is not None), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        for fd, _ in self._epoll.poll(-1 if wait is None else wait):
            if fd == self._bell.number:
                with suppress(BlockingIOError):
                    os.eventfd_read(fd)
            elif fd in self._by_pidfd:
                self._obey()  # a flag that was up before the end is part of the story
                if fd in self._by_pidfd:
                    self._ended(self._by_pidfd[fd], proven=True)
            elif self._init is not None and fd == self._init.pidfd:
                self._init_ended()
            elif self._launch is not None and fd == self._launch.pidfd:
                self._spawner_ended()
            else:
                self._hear()
        now = time.monotonic()
        if due is not None and now > due + _STANDSTILL:
            self._catch_up(now)
        self._obey()
        self._tick(time.monotonic())

    def _catch_up(self, now: float) -> None:
        """Nobody has listened for a while: that a session's request was silent, or a sandbox not
        built, is not known yet."""
        for life in self._all():
            times_out = life.ladder.times_out
            if life.within is not None and times_out is not None and times_out <= now:
                life.ladder.prolong(now + _CATCHING_UP)
        if self._opened_by is not None:
            self._opened_by = max(self._opened_by, now + _CATCHING_UP)

    def _obey(self) -> None:
        while self._orders:
            self._orders.popleft()(time.monotonic())

    def _tick(self, now: float) -> None:
        if self._opened_by is not None and now >= self._opened_by:
            self._fail(
                SandboxUnavailable(f"building the sandbox took over {self.deadlines.open:.0f} s")
            )
        if self._orphaned_by is not None and now >= self._orphaned_by:
            self._orphaned_by = None
            if self._init is None:
                self._never_built()
        for life in self._all():
            if life.ladder.times_out is not None and now >= life.ladder.times_out:
                life.flag(CancelReason.TIMEOUT)
                life.ladder.flag(now)
            if life.ladder.tick(now):
                self._ended(life, proven=False)

    def _start(self, life: CallProcess, channels: list[Descriptor], now: float) -> None:
        if life.id not in self._lives:
            return  # the sandbox's end was seen before this order, and took the call along
        if self._failure is not None or self._closing is not None or self._launch is None:
            life.failure = str(self._failure or "the sandbox was closed")
            self._ended(life, proven=True)
            return
        try:
            numbers = [channel.number for channel in channels]
            send_datagram(self._launch.control, NewCall(life.id), numbers)
        except (OSError, IpcError) as error:
            life.failure = f"init does not take the call: {error}"
            self._ended(life, proven=True)

    def _tell_init(self, message: Freeze | Thaw) -> None:
        if self._launch is not None:
            with suppress(OSError, IpcError):
                send_datagram(self._launch.control, message)

    def _hear(self) -> None:
        """Read one message of the spawner or init."""
        assert self._launch is not None
        try:
            message, descriptors = recv_datagram(self._launch.control, FromInit)
        except (OSError, IpcError) as error:
            self._epoll.unregister(self._launch.control.fileno())
            if self._init is None:
                self._never_built("" if isinstance(error, ChannelClosed) else str(error))
            elif self._failure is None:
                self._fail(SandboxBroken(f"the sandbox's init hung up: {error}"))
            return
        if isinstance(message, InitBorn):
            check_protocol(message.protocol, "the sandbox's spawner")
            self._init = Process(descriptors[0])
            self._epoll.register(self._init.pidfd, select.EPOLLIN)
            if self._closing is not None:
                self._opened_by = None
                self._init.kill()
        elif isinstance(message, InitHello):
            self._opened_by = None
            self._opened(None)
        elif isinstance(message, Frozen):
            self._frozen.set()
        elif isinstance(message, InitFailed):
            self._fail(SandboxUnavailable(explain(message)))
        else:
            self._call_news(message, descriptors)

    def _spawner_ended(self) -> None:
        """Its last message, or the end of file, is read next. Neither may come: somebody whom the
        embedder forked while the spawner was started holds the other end of the socket."""
        assert self._launch is not None
        self._epoll.unregister(self._launch.pidfd)
        if self._init is None and self._opened_by is not None:
            self._orphaned_by = time.monotonic() + self.deadlines.orphan

    def _never_built(self, why: str = "") -> None:
        """No init has come. why: where it is not for the spawner's death."""
        assert self._launch is not None
        why = why or f"the sandbox's spawner died: {self._launch.last_words()}"
        self._fail(SandboxUnavailable(why))

    def _call_news(self, message: CallBorn | CallFailed, descriptors: list[int]) -> None:
        life = self._lives.get(message.id)
        if isinstance(message, CallFailed):
            if life is not None:
                life.failure = f"its processes could not be made: {message.reason}"
                self._ended(life, proven=True)
            return
        if life is None:
            os.close(descriptors[0])
            return
        life.process = Process(descriptors[0])
        self._by_pidfd[life.process.pidfd] = life
        self._epoll.register(life.process.pidfd, select.EPOLLIN)
        life.ladder.birth(time.monotonic())

    def _ended(self, life: CallProcess, *, proven: bool) -> None:
        life.ladder.end(time.monotonic(), proven=proven)
        if life.process is not None and not proven:
            life.survivors = life.process.survivors()
        del self._lives[life.id]
        if life.process is not None and life.within is None:
            for request in self._all():
                if request.within is life:
                    request.failure = "its session has ended"
                    self._ended(request, proven=proven)
            self._epoll.unregister(life.process.pidfd)
            del self._by_pidfd[life.process.pidfd]
            os.close(life.process.pidfd)
        life.slot.release(proven)
        with self._idle:
            self._active -= 1
            self._idle.notify_all()
        life.on_ended()

    def _init_ended(self) -> None:
        assert self._init is not None
        self._epoll.unregister(self._init.pidfd)
        os.close(self._init.pidfd)
        self._init = None
        if self._closing is None:
            self._fail(SandboxBroken("the sandbox's init died; its calls died with it"))
        for life in self._all():
            if life.process is None:  # asked for, never born
                life.failure = (
                    life.failure or "the sandbox died before the call's processes were made"
                )
                self._ended(life, proven=True)

    def _close(self, now: float) -> None:
        if self._closing is None:
            self._closing = now
            for life in self._all():
                life.flag(CancelReason.CLOSED)
            if self._init is not None:
                self._opened_by = None
                self._init.kill()
            elif self._launch is not None:
                # Still being built. The end of file on the control socket comes when all who
                # hold its other end are gone, or InitBorn comes first: `_over` waits for either,
                # or for the spawner's own end and then a moment.
                self._launch.kill()

    def _fail(self, failure: SandboxError) -> None:
        """The sandbox is of no more use: end what there is of it."""
        self._opened_by = self._orphaned_by = None
        self._failure = self._failure or failure
        if self._init is not None:
            self._init.kill()
        elif self._launch is not None:
            self._launch.kill()
        self._opened(failure)

    def _opened(self, failure: SandboxError | None) -> None:
        on_open, self._on_open = self._on_open, None
        if on_open is not None:
            on_open(failure)

    def _bury(self) -> None:
        """The thread's last act: nothing of the sandbox stays, and nobody waits for it in vain."""
        self._failure = self._failure or SandboxBroken("the sandbox was closed")
        if self._init is not None and not self._init.kill_and_wait(self.deadlines.proof):
            self.survivors = self._init.survivors()
        for life in self._all():
            life.failure = life.failure or "the sandbox is gone"
            if life.id in self._lives:  # else a session before it in the list has taken it along
                self._ended(life, proven=not self.survivors)
        if self._init is not None:
            os.close(self._init.pidfd)
            self._init = None
        if self._launch is not None:
            self._launch.bury()
        self._epoll.close()
        self._opened(self._failure)
