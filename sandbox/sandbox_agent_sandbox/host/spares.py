"""Spare workers: call processes that are made ahead of need. A call adopts one by a message.

    asked for -> born -> waiting -> adopted -> ended    a call took it, and ends as every call does
             \\       \\       \\----------> ended    it was never needed, or it died

A spare is made as the processes of any call are, behind the same walls, says Ready, and waits on
its inbox. It has nothing of the workspace: it enters the working folder, takes the environment and
imports a tool when a call adopts it. Until then it belongs to no call.

Spares are made when no call has begun or ended for a moment, so that they slow none down, and none
are made once the flag of the run is up.
"""

from __future__ import annotations

import errno
import itertools
import os
import select
import time
from collections import deque
from math import inf

import msgspec
from sandbox_agent_ipc.after_fork import call_after_fork
from sandbox_agent_ipc.codec import encode
from sandbox_agent_ipc.framing import encode_frame
from sandbox_agent_ipc.messages import PROTOCOL, CallBorn, CallFailed, OverLimit, Ready
from sandbox_agent_ipc.shortage import SHORTAGES, explained
from sandbox_agent_ipc.token import RunToken, ancestors

from sandbox_agent_sandbox.call_status import worker_end
from sandbox_agent_sandbox.errors import SandboxError
from sandbox_agent_sandbox.host.call_process import CallProcess
from sandbox_agent_sandbox.host.descriptors import Channels, make_channels
from sandbox_agent_sandbox.host.process import Process
from sandbox_agent_sandbox.host.sandbox_process import AHEAD, OnOpen, SandboxProcess
from sandbox_agent_sandbox.host.sandbox_state import State
from sandbox_agent_sandbox.host.spawner.explain import why_failed
from sandbox_agent_sandbox.limits.groups import CallGroup
from sandbox_agent_sandbox.plan import Plan, PlanKind

MOST = 8
"""Spares of one sandbox. More would hardly be used: a turn's later calls begin while its first ones
are at work."""

PROCESSES = 2
"""Of one spare: the call's init and the worker."""

_MEMORY = 16 << 20
"""Bytes of the memory limit for each spare, which uses a third of that."""

_PAUSE = 0.005
"""Seconds without the begin or the end of a call, before a spare is made. Made at once, it would
share the processor with the call that has taken the one before."""

_LOSSES = 5
"""Spares that may die before a call has taken them. Then no more are made."""

_FULL = 3 / 4
"""The part of this process's descriptors that spares leave alone once it is in use."""

_READY = encode_frame(encode(Ready(PROTOCOL)))
"""What a worker says first."""


class Spare:
    """The processes of a call to come.

    id: as init knows it. group: its control groups. process: None until init has made it.
    was_offered: it was ready for a call, and a call may have taken it. died: it is dead since then.
    """

    fresh_view = False

    def __init__(self, number: int, channels: Channels) -> None:
        self.id = f"{AHEAD}{number}"
        self.channels = channels
        self.group: CallGroup | None = None
        self.process: Process | None = None
        self.was_offered = False
        self.died = False
        self.is_adopted = False
        """Whether its process and channels are a call's, which gives them back."""
        call_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Its inbox has no end of file while a forked child holds it open."""
        self.channels.inbox.close()

    def __del__(self) -> None:
        """It was taken, and whoever took it has not adopted it."""
        if not self.is_adopted and self.process is not None:
            self.process.close()

    def close(self) -> None:
        """Give everything back, if no call has taken it. Its worker ends by that."""
        process, self.process = self.process, None
        if process is not None:
            process.close()
        self.channels.inbox.close()
        for end in (*self.channels.host_ends(), *self.channels.worker):
            end.close()


class Spares:
    """The spares of one sandbox. Any thread may call `take`; the rest belongs to the supervisor's.

    sandbox: where they are made. epoll: watches their pidfds. wanted: how many. note: why there are
    fewer than wanted, or "". call_at: when the latest
    call began or ended, in CLOCK_MONOTONIC seconds. Any thread may look at and set these.
    """

    def __init__(self, sandbox: SandboxProcess, epoll: select.epoll, wanted: int) -> None:
        self._sandbox = sandbox
        self._epoll = epoll
        self._asked_for = wanted
        self._wanted = 0
        self._owner: tuple[int, int] | None = None
        self.note = ""
        self._flags: tuple[RunToken, ...] = ()
        self.call_at = 0.0
        self._numbers = itertools.count(1)
        self._asked: dict[str, Spare] = {}
        self._waiting: deque[Spare] = deque()
        self._by_pidfd: dict[int, Spare] = {}
        self._by_outbox: dict[int, Spare] = {}
        self._adopted: dict[str, CallProcess] = {}
        self._losses = 0

    # --- for any thread ------------------------------------------------------------------------

    def follow(self, token: RunToken | None) -> None:
        """A call begins with this token. None is made once its run's is cancelled, also when the
        call is over, until a call of another run begins."""
        self._flags = () if token is None else ancestors(token) or (token,)

    def take(self) -> Spare | None:
        """A spare that waits, which is the caller's from now on; None if there is none."""
        try:
            return self._waiting.popleft()  # one step of the interpreter: one taker for each
        except IndexError:
            return None

    def adopted_by(self, spare: Spare, call_process: CallProcess) -> None:
        """What init says of the spare is about this call."""
        spare.is_adopted = True
        self._adopted[spare.id] = call_process

    def waiting(self) -> list[Spare]:
        """Those that wait now."""
        return list(self._waiting)

    # --- for the supervisor's thread -----------------------------------------------------------

    def prepare(self, plan: Plan) -> Plan:
        """Spares for this plan will be wanted. Returns the plan with room for them in the limit of
        processes, of which tools lose none by them."""
        number, self.note = bounded(self._asked_for, plan)
        self._wanted = number
        self._owner = (plan.identity.outside_uid, plan.identity.outside_gid)
        limits = plan.limits
        if limits.processes is None or not number:
            return plan
        room = limits.processes + PROCESSES * number
        return msgspec.structs.replace(plan, limits=msgspec.structs.replace(limits, processes=room))

    def after_open(self, on_open: OnOpen) -> OnOpen:
        """What tells of the open sandbox, and has the first spare wait for the first call."""

        def opened(failure: SandboxError | None) -> None:
            self.call_at = time.monotonic()
            on_open(failure)

        return opened

    def due(self, *, frozen: bool) -> float:
        """When the next one is to be made; infinity for not before something happens."""
        return self.call_at + _PAUSE if self._may_make(frozen) else inf

    def tick(self, now: float, *, frozen: bool) -> None:
        """Make one, if it is time to."""
        if now >= self.due(frozen=frozen):
            self._make()

    def _may_make(self, frozen: bool) -> bool:
        # One that is adopted counts until its call has ended.
        missing = self._wanted - sum(not spare.died for spare in self._by_pidfd.values())
        if (
            missing <= 0
            or self._asked
            or self._by_outbox
            or frozen
            or self._sandbox.state.state is not State.OPEN
        ):
            return False
        return not any(token.is_cancelled for token in self._flags)

    def _make(self) -> None:
        spare = None
        try:
            channels = make_channels(owner=self._owner, ahead=True)
            spare = Spare(next(self._numbers), channels)
            why = _shortage_of_descriptors(channels)
            why = why or self._sandbox.begin_spare(spare, channels.worker)
        except OSError as error:
            why = explained(error)
        if spare is not None and not why:
            self._asked[spare.id] = spare
            for end in spare.channels.worker:
                end.close()
            return
        if spare is not None:
            self._end(spare)
        self._make_no_more(why)

    def on_message(
        self, message: CallBorn | CallFailed | OverLimit, descriptors: list[int]
    ) -> bool:
        """Init says something. Returns whether it was about a spare that was asked for."""
        spare = self._asked.get(message.id)
        if spare is None or isinstance(message, OverLimit):
            return False
        del self._asked[message.id]
        if isinstance(message, CallFailed):
            self._end(spare)
            self._make_no_more(why_failed(message.step, message.reason, message.number))
            return True
        process = spare.process = self._sandbox.held_as.of(descriptors, message.mark)
        outbox = spare.channels.outbox.number
        self._by_pidfd[process.pidfd] = self._by_outbox[outbox] = spare
        self._epoll.register(process.pidfd, select.EPOLLIN)
        self._epoll.register(outbox, select.EPOLLIN)
        return True

    def call_of(self, spare_id: str) -> CallProcess | None:
        """The call that has adopted it; None while none has."""
        return self._adopted.get(spare_id)

    def on_readable(self, fd: int) -> bool:
        """Perhaps a spare is ready, or has died. Returns whether this was about spares."""
        if fd in self._by_outbox:
            self._is_ready(fd)
            return True
        spare = self._by_pidfd.get(fd)
        if spare is not None:
            self._has_died(spare, fd)
        return spare is not None

    def _is_ready(self, outbox: int) -> None:
        """It has sealed itself and says so, or it has hung up and is about to be seen dead."""
        try:
            said = os.read(outbox, len(_READY) + 1)
        except BlockingIOError:
            return  # what was readable was another descriptor of that number, closed since
        spare = self._by_outbox.pop(outbox)
        self._epoll.unregister(outbox)
        if said == _READY:
            spare.was_offered = True
            self._waiting.append(spare)
        elif spare.process is not None:
            spare.process.discard()

    def _has_died(self, spare: Spare, pidfd: int) -> None:
        if spare.process is None or not spare.process.has_ended:
            return  # as above
        if spare.was_offered:
            try:
                self._waiting.remove(spare)
            except ValueError:
                self._was_taken(spare, pidfd)
                return
        elif self._by_outbox.pop(spare.channels.outbox.number, None) is not None:
            self._epoll.unregister(spare.channels.outbox.number)
        why = self._why_died(spare)
        self._epoll.unregister(pidfd)
        self._forget(pidfd)
        self._end(spare)
        if self._sandbox.state.state is State.OPEN:
            self._losses += 1
            if self._losses >= _LOSSES:
                self._make_no_more(f"{self._losses} of them died before a call needed them{why}")

    def _was_taken(self, spare: Spare, pidfd: int) -> None:
        """It is dead, and was taken this moment. Its taker sees `died` once it has adopted it, or
        never comes so far: a signal handler may have raised in it."""
        spare.died = True
        if spare.id not in self._adopted:  # else this is about the call at the next look
            self._epoll.unregister(pidfd)

    @staticmethod
    def _why_died(spare: Spare) -> str:
        end = worker_end(spare.channels.status.number)
        return "" if end.step is None else f": {why_failed(end.step, '', end.number)}"

    def on_call_ended(self, pidfd: int, *, counted: bool) -> None:
        """A call is over. counted: something was counted in its control groups, which those that
        wait now have nothing to do with."""
        self._forget(pidfd)
        for spare in self.waiting() if counted else ():
            self._sandbox.count_afresh(spare.group)

    def _forget(self, pidfd: int) -> None:
        spare = self._by_pidfd.pop(pidfd, None)
        if spare is not None:
            self._adopted.pop(spare.id, None)

    def _make_no_more(self, why: str) -> None:
        self._wanted = len(self._by_pidfd)
        self.note = self.note or _fewer(self._wanted, self._asked_for, why)

    def _end(self, spare: Spare) -> None:
        if spare.group is not None:
            self._sandbox.give_back(spare.group)
        spare.close()

    @property
    def are_left(self) -> bool:
        """Whether some may be alive, those included that a call has taken."""
        return any(not spare.died for spare in self._by_pidfd.values())

    def kill(self) -> None:
        """The order to end, to those that no call has taken. With namespaces they have ended with
        init."""
        for spare in (*self.waiting(), *self._by_outbox.values()):
            if spare.process is not None and not spare.process.has_ended:
                spare.process.discard()

    def close(self) -> None:
        """Give everything back. The sandbox has ended."""
        while (spare := self.take()) is not None:
            self._end(spare)
        for spare in self._asked.values():
            self._end(spare)
        for spare in self._by_outbox.values():
            self._end(spare)
        self._asked.clear()
        self._by_outbox.clear()
        self._by_pidfd.clear()


def bounded(wanted: int, plan: Plan) -> tuple[int, str]:
    """How many spares a sandbox may have, and why they are fewer than wanted, or ""."""
    if plan.kind is PlanKind.SHARED_PROC:
        # Its cover over other processes would be as old as the spare, see `shared_proc`.
        return 0, ""
    room, memory = MOST, plan.limits.memory
    why = "more would not be used"
    if memory is not None and memory // _MEMORY < min(wanted, MOST):
        room, why = (
            memory // _MEMORY,
            f"limits.memory has no room for more than {memory // _MEMORY}",
        )
    number = max(0, min(wanted, room))
    return number, "" if number == wanted else _fewer(number, wanted, why)


def _fewer(number: int, wanted: int, why: str) -> str:
    return f"spares: {number} of {wanted} spare workers are kept: {why}"


def _shortage_of_descriptors(channels: Channels) -> str:
    """Why no spare may have these; "" if it may. The kernel gives the lowest free number."""
    import resource  # only where there are spares

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    used = max(end.number for end in (*channels.host_ends(), *channels.worker))
    return "" if used < limit * _FULL else str(SHORTAGES[errno.EMFILE])
