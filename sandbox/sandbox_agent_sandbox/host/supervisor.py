"""The thread that starts, watches and ends a sandbox's processes.

One per sandbox, because a blocked event loop of the embedding program would delay the ladder. It
starts the spawner, because a parent-death signal follows the *thread* that forked (prctl(2)):
should this thread die of a bug, the sandbox dies with it.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from math import inf

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.errors import IpcError
from sandbox_agent_ipc.messages import CallFailed, Frozen, OverLimit
from sandbox_agent_ipc.shortage import explained, start_thread

from sandbox_agent_sandbox.errors import SandboxBroken, SandboxError
from sandbox_agent_sandbox.host.call_process import CallProcess
from sandbox_agent_sandbox.host.command_queue import CallOrders, Command
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.descriptors import Descriptor
from sandbox_agent_sandbox.host.ladder import Ladder
from sandbox_agent_sandbox.host.launch import kill_before_exec
from sandbox_agent_sandbox.host.sandbox_process import AboutCalls, OnOpen, SandboxProcess
from sandbox_agent_sandbox.host.sandbox_state import State
from sandbox_agent_sandbox.host.spares import Spare, Spares
from sandbox_agent_sandbox.host.spawner.explain import why_failed
from sandbox_agent_sandbox.limits.groups import Counts
from sandbox_agent_sandbox.outcome import Survivor
from sandbox_agent_sandbox.plan import Plan

_STANDSTILL = 0.5
"""Seconds. A wake-up so much too late means that the program stood still (SIGSTOP, suspend)."""

_PATIENCE = 0.05
"""Seconds that others wait for this thread; to start a process takes 3 ms."""

_CATCHING_UP = 2.0
"""Seconds after a standstill in which messages that came meanwhile are read."""


class Supervisor(CallOrders):
    """Starts, watches and ends one sandbox and its calls. Any thread may call its methods.

    board_fd: of the cancel board. grace, term: seconds from the flag to SIGTERM, and from there to
    SIGKILL. spares: how many are wanted. Raises OSError when there is no descriptor left.
    """

    def __init__(
        self, board_fd: int, *, grace: float, term: float, deadlines: Deadlines, spares: int
    ) -> None:
        super().__init__(deadlines)
        self._grace = grace
        self._term = term
        self._by_pidfd: dict[int, CallProcess] = {}
        self._epoll = select.epoll()
        told = self._on_message, self._on_init_ended, self.strike
        self._sandbox = SandboxProcess(board_fd, deadlines, self._epoll, *told)
        self.spares = Spares(self._sandbox, self._epoll, spares)
        self._frozen = threading.Event()
        self._frozen_at: float | None = None
        self._told = threading.Event()
        self._thread = threading.Thread(target=self._main, name="sandbox-agent ladder", daemon=True)

    # --- for any thread ----------------------------------------------------------------------

    def launch(self) -> None:
        """Start the spawner, which waits for the plan. It is waited for: who goes on at once takes
        Python's lock from the thread that starts it. Raises RuntimeError if it cannot start."""
        start_thread(self._thread)
        self._told.wait(_PATIENCE)

    def open(self, plan: Plan, on_open: OnOpen) -> None:
        """Begin to build the sandbox, after `launch`; wait as there. It may call on_open twice."""
        self._sandbox.on_open = self.spares.after_open(on_open)
        self._told.clear()
        self._commands.add(lambda now: self._sandbox.build(plan, self.spares.prepare(plan)))
        self._commands.add(lambda _: self._told.set())
        if self._sandbox.state.state is State.CLOSED:
            # Perhaps the thread ended before it saw the command, and has nothing to report to.
            on_open(self.failure)
        else:
            self._told.wait(_PATIENCE)

    @property
    def failure(self) -> SandboxError | None:
        """Why the sandbox takes no more calls, or None."""
        return self._sandbox.state.failure

    @property
    def no_image(self) -> str:
        """Why /tmp is a folder, where it was planned as a file system of a fixed size; or ""."""
        disk = self._sandbox.disk
        return "" if disk is None else disk.no_image

    def start(
        self, call_process: CallProcess, channels: list[Descriptor], timeout: float | None
    ) -> None:
        """Make a call's processes. `on_ended` is called from the supervisor's thread.

        channels: of NewCall in their order, closed here as soon as init has its own: while the host
        holds the worker's ends, no end of file comes. timeout: seconds from now.
        """
        now = time.monotonic()
        call_process.ladder = self._ladder(call_process, self._grace, self._term, now)
        call_process.ladder.time_out_at(None if timeout is None else now + timeout)
        self._add(call_process, lambda now: self._start(call_process, channels))

    def adopt(self, call_process: CallProcess, spare: Spare, timeout: float | None) -> None:
        """Make a spare's processes those of a call, which may have its message from then on.

        Call `look_after` once it has been sent. timeout: seconds from now.
        """
        now = self.spares.call_at = time.monotonic()
        process = call_process.process = spare.process
        assert process is not None
        call_process.group = spare.group
        call_process.ladder = self._ladder(call_process, self._grace, self._term, now)
        call_process.ladder.time_out_at(None if timeout is None else now + timeout)
        call_process.ladder.birth(now)
        self.spares.adopted_by(spare, call_process)
        self._by_pidfd[process.pidfd] = call_process
        self._add(call_process, lambda now: self._adopted(call_process, spare), wake=spare.died)

    def join(
        self,
        request: CallProcess,
        session: CallProcess,
        *,
        grace: float,
        term: float,
        silence: float | None,
    ) -> None:
        """Add a request to a session, until `leave`: its ladder acts on the session's process.
        silence: seconds after which it times out, unless `prolong` is called before."""
        now = time.monotonic()
        request.session = session
        request.ladder = self._ladder(request, grace, term, now)
        request.ladder.time_out_at(None if silence is None else now + silence)
        request.ladder.birth(now)

        def join(now: float) -> None:
            if session.id not in self._calls:
                self._end_call(request, proven=True)

        self._add(request, join, wake=False)
        # The end of a session that is still among them ends the request, too.
        is_there = session.id in self._calls
        self._commands.wake_for(request.ladder.deadline if is_there else now)

    def leave(self, request: CallProcess) -> None:
        """End a request that its session has answered."""
        self._commands.add(lambda now: self._end_call(request, proven=True))

    def freeze(self, limit: float) -> bool:
        """Stop every process of the sandbox, until `thaw`. Blocks for at most `limit` seconds.

        Returns whether init has confirmed it. The ladder goes on meanwhile: what is killed dies.
        While the sandbox is being built, init reads the message before that of any call.
        """
        self._frozen_at = time.monotonic()
        self._frozen.clear()

        def freeze(now: float) -> None:
            if not self._sandbox.freeze():
                self._frozen.set()

        self._commands.add(freeze)
        return self._frozen.wait(limit)

    def thaw(self) -> None:
        """Continue every process. The calls' times are prolonged by how long they stood still."""

        def thaw(now: float) -> None:
            since, self._frozen_at = self._frozen_at, None
            if since is not None:
                for call_process in self._calls.all():
                    call_process.shift(now - since)
            self._sandbox.thaw()

        self._commands.add(thaw)

    def give_up(self) -> None:
        """End the whole sandbox: one of its calls can be ended in no other way."""
        why = "init does not make a call's processes"
        self._commands.add(lambda now: self._sandbox.fail(SandboxBroken(why)))

    def begin_close(self, wait: float) -> None:
        """After `launch`: begin what `close` waits for, and wait so many seconds at most."""
        self._commands.add(self._close)
        self._thread.join(wait)

    def close(self) -> tuple[Survivor, ...]:
        """End the sandbox and everything in it; block until that is proven or given up."""
        if self._thread.ident is None:  # never opened, or no thread could be started
            self._commands.close()
            self._epoll.close()
            return ()
        self.begin_close(self.deadlines.launch)
        while self.kill_stopped_spawner():
            self._thread.join(self.deadlines.launch)
        self._commands.close()
        return self._sandbox.survivors

    def kill_stopped_spawner(self) -> bool:
        """SIGKILL to a spawner that is still between fork and exec, if there is one: stopped there,
        it stops the supervisor's thread, too (vfork(2)). Returns whether that thread is there."""
        is_there, thread = self._thread.is_alive(), self._thread.native_id
        if is_there and self._sandbox.state.state is State.STARTING and thread is not None:
            kill_before_exec(thread)
        return is_there

    def _ladder(self, call_process: CallProcess, grace: float, term: float, now: float) -> Ladder:
        return Ladder(call_process, grace=grace, term=term, deadlines=self.deadlines, now=now)

    def _add(self, call_process: CallProcess, command: Command, *, wake: bool = True) -> None:
        self._calls.add(call_process)
        self._commands.add(command, wake=wake)
        if self._sandbox.state.state is State.CLOSED:
            # Perhaps the thread ended before it saw the call, and nothing will run the command.
            call_process.failure = "the sandbox was closed"
            self._end_call(call_process, proven=call_process.has_ended)

    # --- the thread ------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            # The signals of the embedding program are for its own threads.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            self._epoll.register(self._commands.fd, select.EPOLLIN)
            started = self._sandbox.start()
            self._told.set()
            if started:
                while not self._is_done():
                    self._step()
        except Exception as error:
            # A handshake of another version, no memory, or a bug. The sandbox ends with us.
            self._sandbox.state.fail(SandboxBroken(f"the sandbox was given up: {explained(error)}"))
            if not isinstance(error, IpcError | MemoryError):
                raise
        finally:
            self._told.set()
            self._clean_up()

    def _is_done(self) -> bool:
        """Whether it is closing, and nothing is left that could still be proven to end."""
        is_left = self._by_pidfd or self.spares.are_left or self._sandbox.has_init
        is_over = self._sandbox.state.state is State.CLOSING and not is_left
        return is_over or self._sandbox.state.has_no_proof_to_come(time.monotonic())

    def _step(self) -> None:
        due = self._commands.sleep_until(self._next_due)
        wait = -1 if due == inf else max(0.0, due - time.monotonic())
        # Messages of init come first: they may say why a call has ended.
        events = sorted(self._epoll.poll(wait), key=lambda event: event[0] in self._by_pidfd)
        for fd, _ in events:
            if fd == self._commands.fd:
                self._commands.clear_wake()
            elif fd in self._by_pidfd:
                self._commands.run()  # a flag that was set before the end belongs to the outcome
                call_process = self._by_pidfd.get(fd)
                # Its number may have been that of another descriptor when epoll looked.
                if call_process is not None and call_process.has_ended:
                    self._end_call(call_process, proven=True)
            elif not self.spares.on_readable(fd):
                self._sandbox.on_readable(fd, to_the_end=events[-1][0] in self._by_pidfd)
        now = time.monotonic()
        if now > due + _STANDSTILL:
            self._catch_up(now)
        self._commands.run()
        self._tick(time.monotonic())

    def _next_due(self) -> float:
        deadlines = [call_process.ladder.deadline for call_process in self._calls.all()]
        due = min((time for time in deadlines if time is not None), default=inf)
        return min(due, self._sandbox.state.deadline, self.spares.due(frozen=self._is_frozen))

    @property
    def _is_frozen(self) -> bool:
        return self._frozen_at is not None

    def _catch_up(self, now: float) -> None:
        """After a standstill, messages that came meanwhile are read first: of sessions, of init."""
        for request in self._calls.all():
            times_out = request.ladder.times_out
            if request.session is not None and times_out is not None and times_out <= now:
                request.ladder.prolong(now + _CATCHING_UP)
        self._sandbox.state.catch_up(now + _CATCHING_UP)

    def _tick(self, now: float) -> None:
        self._sandbox.tick(now)
        self.spares.tick(now, frozen=self._is_frozen)
        for call_process in self._calls.all():
            times_out = call_process.ladder.times_out
            if times_out is not None and now >= times_out:
                call_process.flag(CancelReason.TIMEOUT)
                call_process.ladder.flag(now)
            if call_process.ladder.tick(now):
                self._end_call(call_process, proven=False)

    def _start(self, call_process: CallProcess, channels: list[Descriptor]) -> None:
        self.spares.call_at = time.monotonic()
        if call_process.id in self._calls:  # else the sandbox's end was seen first, and ended it
            why = str(self.failure or "the sandbox was closed")
            if self._sandbox.state.state is State.OPEN:
                why = self._sandbox.begin_call(call_process, channels)
            if why:
                call_process.failure = why
                self._end_call(call_process, proven=True)
        for channel in channels:
            channel.close()

    def _adopted(self, call_process: CallProcess, spare: Spare) -> None:
        self._sandbox.adopted()
        if spare.died:  # before that, so nothing looks at it any more
            self._end_call(call_process, proven=True)

    def _on_message(self, message: AboutCalls, descriptors: list[int]) -> None:
        if isinstance(message, Frozen):
            self._frozen.set()
            return
        if self.spares.on_message(message, descriptors):
            return
        call_process = self._calls.get(message.id) or self.spares.call_of(message.id)
        if call_process is None:
            for descriptor in descriptors:
                os.close(descriptor)
        elif isinstance(message, OverLimit):
            self._sandbox.note_limit(call_process, message)
        elif isinstance(message, CallFailed):
            call_process.failure = why_failed(message.step, message.reason, message.number)
            self._end_call(call_process, proven=True)
        else:
            call_process.process = self._sandbox.held_as.of(descriptors, message.mark)
            self._by_pidfd[call_process.process.pidfd] = call_process
            self._epoll.register(call_process.process.pidfd, select.EPOLLIN)
            self._calls.birth(call_process, time.monotonic())

    def _end_call(self, call_process: CallProcess, *, proven: bool) -> None:
        """Give everything of a call back. Idempotent; proven: its namespace is empty."""
        if not self._calls.take_out(call_process):
            return
        process = call_process.process
        if process is not None and not proven:
            proven = call_process.find_survivors(process)
        call_process.ladder.end(time.monotonic(), proven=proven)
        if process is not None and call_process.session is None:
            for request in self._calls.all():
                if request.session is call_process:
                    request.failure = "its session has ended"
                    self._end_call(request, proven=proven)
            with suppress(ValueError, OSError):  # the thread that had it open has ended
                self._epoll.unregister(process.pidfd)
            del self._by_pidfd[process.pidfd]
        self._sandbox.end_call(call_process, empty=proven)
        self.spares.call_at = time.monotonic()
        if process is not None and call_process.session is None:
            counted = call_process.counts != Counts()
            self.spares.on_call_ended(process.pidfd, counted=counted)
            process.close()
        call_process.slot.release(proven)
        call_process.close_descriptors()
        self._calls.is_over()
        call_process.on_ended()

    def _on_init_ended(self) -> None:
        """Calls that were asked for will never be born. The others have ended with init; without
        namespaces their supervisors end them now."""
        self.spares.kill()
        for call_process in self._calls.all():
            if call_process.process is None:
                why = "the sandbox died before the call's processes were made"
                call_process.failure = call_process.failure or why
                self._end_call(call_process, proven=True)
            elif not call_process.has_ended:
                call_process.ladder.abort(time.monotonic())

    # --- the end -----------------------------------------------------------------------------

    def _close(self, now: float) -> None:
        if self._sandbox.state.close(now):
            for call_process in self._calls.all():
                call_process.close()
            self._sandbox.kill()

    def _clean_up(self) -> None:
        """The thread's last act: nothing of the sandbox stays, and nothing waits for it in vain."""
        proven = self._sandbox.end()
        for call_process in self._calls.all():
            call_process.failure = call_process.failure or "the sandbox is gone"
            self._end_call(call_process, proven=proven and call_process.has_ended)
        self.spares.close()
        self._sandbox.release()
        self._epoll.close()
