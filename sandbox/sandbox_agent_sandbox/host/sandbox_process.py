"""The spawner and the init of one sandbox, as the supervisor's thread holds them.

`SandboxState` says what is to be done, and `SandboxProcess` does it: it starts the spawner, reads
the control socket, and ends what there is. Everything belongs to the supervisor's thread.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from sandbox_agent_ipc.channel import recv_datagram, send_datagram
from sandbox_agent_ipc.codec import check_protocol
from sandbox_agent_ipc.errors import ChannelClosed, DescriptorsLost, IpcError
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
    OverLimit,
    Thaw,
    ToInit,
)
from sandbox_agent_ipc.shortage import explained

from sandbox_agent_sandbox.errors import SandboxBroken, SandboxError, SandboxUnavailable
from sandbox_agent_sandbox.host.call_process import CallProcess
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.descriptors import Descriptor
from sandbox_agent_sandbox.host.disk.sandbox_disk import SandboxDisk
from sandbox_agent_sandbox.host.launch import Launch, launch
from sandbox_agent_sandbox.host.process import CallInit, Keeper, Process
from sandbox_agent_sandbox.host.sandbox_state import SandboxState, State
from sandbox_agent_sandbox.host.spawner.explain import explain, why_failed
from sandbox_agent_sandbox.limits.groups import CallGroup, Counts, SandboxGroups
from sandbox_agent_sandbox.limits.places import own_oom_kills
from sandbox_agent_sandbox.limits.struck import named
from sandbox_agent_sandbox.outcome import LimitMet, Survivor
from sandbox_agent_sandbox.plan import Plan, PlanKind
from sandbox_agent_sandbox.steps import Step

if TYPE_CHECKING:
    from typing import Protocol

    class Asked(Protocol):
        """What init is asked for: the processes of a call, or of one to come."""

        group: CallGroup | None

        @property
        def id(self) -> str: ...
        @property
        def fresh_view(self) -> bool: ...


OnOpen = Callable[[SandboxError | None], object]
"""Called once when the sandbox is built (None) or cannot be, from the supervisor's thread."""

AHEAD = "\0spare "
"""The ids of processes that are made for a call to come begin so, and no call's id does."""

AboutCalls = CallBorn | CallFailed | Frozen | OverLimit
"""Messages of init that are about calls."""


class SandboxProcess:
    """One sandbox's spawner and init.

    board_fd: of the cancel board. epoll: watches the descriptors, see
    `on_readable`. on_message: called with init's messages about calls, and their descriptors.
    on_init_ended: called when init and so every process of the sandbox has ended. strike: for a
    limit that all calls in flight have met, from any thread.
    """

    def __init__(
        self,
        board_fd: int,
        deadlines: Deadlines,
        epoll: select.epoll,
        on_message: Callable[[AboutCalls, list[int]], object],
        on_init_ended: Callable[[], object],
        strike: Callable[[LimitMet], object],
    ) -> None:
        self._plan: Plan | None = None
        self._board_fd = board_fd
        self._deadlines = deadlines
        self._epoll = epoll
        self._on_message = on_message
        self._on_init_ended = on_init_ended
        self._strike = strike
        self.disk: SandboxDisk | None = None
        """None until there is a plan."""
        self._freezes = False
        self._groups: SandboxGroups | None = None
        self._launch: Launch | None = None
        self._init: Process | None = None
        self.held_as: type[Process] = CallInit
        """Init and the calls' inits, or what stands in their place."""
        self.state = SandboxState(deadlines)
        self.on_open: OnOpen = _nothing
        self.survivors: tuple[Survivor, ...] = ()

    @property
    def has_init(self) -> bool:
        """Whether init has come and is not proven to have ended."""
        return self._init is not None

    def start(self) -> bool:
        """Start the spawner. Returns False, and the sandbox has failed, when that cannot be."""
        try:
            self._launch = launch()
        except SandboxUnavailable as error:
            self.fail(error)
            return False
        except OSError as error:
            self._fail_at(Step.START, error)
            return False
        self.state.spawner_started()
        self._epoll.register(self._launch.control.fileno(), select.EPOLLIN)
        self._epoll.register(self._launch.pidfd, select.EPOLLIN)
        return True

    def build(self, plan: Plan, built: Plan) -> None:
        """Have the spawner build this. What has failed or was closed before stays so. built: the
        same with room for spares."""
        if self.state.state is not State.WAITING:
            if self.state.failure is not None:  # else it is about to come
                self._report_open(self.state.failure)
            return
        assert self._launch is not None
        self._plan = plan
        self.disk = SandboxDisk(plan, self._strike)
        if plan.kind is PlanKind.NO_NAMESPACES:
            self.held_as = Keeper
        step = Step.GROUPS
        try:
            if built.groups is not None:
                self._groups = SandboxGroups(built.groups, built.limits)
                self._groups.adopt(self._launch.pid)
            step = Step.START
            with suppress(ChannelClosed):  # it has ended, which is read next
                self._launch.send_plan(built, self._board_fd)
        except OSError as error:
            self._fail_at(step, error)
            return
        self.state.plan_sent(time.monotonic())
        if self._freezes:
            self.freeze()

    def _fail_at(self, step: Step, error: OSError) -> None:
        why = why_failed(step, str(error), error.errno or 0)
        self.fail(SandboxUnavailable(f"the sandbox cannot be built: {why}"))

    def begin_call(self, call_process: CallProcess, channels: list[Descriptor]) -> str:
        """Have init make a call's processes. Returns why that cannot be, or ""."""
        return self._begin(call_process, channels, SandboxGroups.enter)

    def begin_spare(self, spare: Asked, channels: list[Descriptor]) -> str:
        """Have init make the processes of a call to come. Returns why that cannot be, or ""."""
        return self._begin(spare, channels, SandboxGroups.enter_ahead)

    def _begin(
        self,
        asked: Asked,
        channels: list[Descriptor],
        enter: Callable[[SandboxGroups], CallGroup],
    ) -> str:
        numbers = [channel.number for channel in channels]
        try:
            if self._groups is not None:
                asked.group = enter(self._groups)
                numbers += asked.group.joins
            else:
                asked.group = CallGroup([], before=Counts(killed=own_oom_kills()))
            self._send(NewCall(asked.id, asked.fresh_view), numbers)
        except (OSError, IpcError) as error:
            return f"init does not take the call: {explained(error)}"
        return ""

    def adopted(self) -> None:
        """A call has what was begun ahead."""
        if self._groups is not None:
            self._groups.adopted()

    def count_afresh(self, group: CallGroup | None) -> None:
        """What was counted so far has nothing to do with what was begun ahead."""
        if group is not None and self._groups is not None:
            self._groups.count_afresh(group)
        elif group is not None:
            group.before = Counts(killed=own_oom_kills())

    def give_back(self, group: CallGroup) -> None:
        """What was begun ahead has ended, and no call had it."""
        if self._groups is not None:
            self._groups.give_back(group)

    def note_limit(self, call_process: CallProcess, over: OverLimit) -> None:
        """Init says that a call is over a limit."""
        assert self._plan is not None
        if over.limit in self._plan.limits.__struct_fields__:
            met = named(self._plan.limits, over.limit, over.what)
            call_process.met += [] if met is None else [met]

    def end_call(self, call_process: CallProcess, *, empty: bool) -> None:
        """A call is over. empty: none of its processes is left."""
        call_process.full = () if self.disk is None else self.disk.met()
        group, call_process.group = call_process.group, None
        if group is not None and self._groups is not None:
            call_process.counts = self._groups.leave(group, empty=empty)
        elif group is not None:
            call_process.counts = Counts(killed=own_oom_kills()).since(group.before)

    def _send(self, message: ToInit, numbers: list[int]) -> None:
        if self._launch is None:
            raise ChannelClosed("there is no spawner")
        send_datagram(self._launch.control, message, numbers)

    def freeze(self) -> bool:
        """Ask init to stop every process. Returns whether it will confirm that: while the sandbox
        is being built there is nothing to stop yet, and init reads this before any call. Before
        the plan nothing is sent: the spawner reads that first."""
        self._freezes = True
        if self.state.state is State.WAITING:
            return False
        with suppress(OSError, IpcError):
            self._send(Freeze(), [])
        return self.has_init and not self.state.is_building

    def thaw(self) -> None:
        """Ask init to continue every process."""
        self._freezes = False
        if self.state.state is State.WAITING:
            return
        with suppress(OSError, IpcError):
            self._send(Thaw(), [])

    def on_readable(self, fd: int, *, to_the_end: bool = False) -> None:
        """Act on a descriptor that epoll found readable. to_the_end: read all that has been sent,
        where a call may have ended of which one of the messages says why."""
        if self._init is not None and fd == self._init.pidfd:
            self._init_ended()
        elif self._launch is not None and fd == self._launch.pidfd:
            # The spawner's last message, or the end of file, is read next. Perhaps neither comes:
            # a process that the embedding program forked while the spawner was started holds the
            # other end of the socket.
            self._epoll.unregister(self._launch.pidfd)
            self.state.spawner_ended(time.monotonic())
        elif self._launch is not None and fd == self._launch.control.fileno():
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            while self._read_message(self._launch) and to_the_end and poll.poll(0):
                pass

    def tick(self, now: float) -> None:
        """Give up on a state that has lasted too long."""
        if self.state.takes_too_long_to_build(now):
            limit = self._deadlines.open
            self.fail(SandboxUnavailable(f"building the sandbox took over {limit:.0f} s"))
        elif self.state.has_no_init_to_come(now):
            self._never_built()
        elif self.state.wants_order(now) and self._init is not None:
            self._init.kill()

    def fail(self, failure: SandboxError) -> None:
        """The sandbox is of no more use: end what there is of it."""
        self.state.fail(failure)
        self.kill()
        self._report_open(self.state.failure)

    def kill(self) -> None:
        """SIGKILL to init, or to the spawner while init has not come."""
        if self._init is not None:
            self._init.kill()
        elif self._launch is not None:
            # The sandbox is still being built. The end of file on the control socket comes when
            # all that hold its other end are gone, or InitBorn comes first. The state waits for
            # either, or for the spawner's own end and then a moment.
            self._launch.kill()

    def end(self) -> bool:
        """End init, at the latest now, and wait. Returns whether the end is proven."""
        self.state.closed(SandboxBroken("the sandbox was closed"))
        if self._init is not None and not self._init.kill_and_wait(self._deadlines.proof):
            self.survivors = self._init.survivors()
        return not self.survivors

    def release(self) -> None:
        """Give everything back, after `end`."""
        if self._init is not None:
            self._init.close()
            self._init = None
        # Its file system takes as long to end as the spawner does.
        if self.disk is not None:
            self.disk.begin_to_close()
        if self._launch is not None:
            self._launch.reap()
        if self._groups is not None:
            self._groups.close()
        if self.disk is not None:
            self.disk.close()
        self._report_open(self.state.failure)

    def _read_message(self, spawner: Launch) -> bool:
        """Act on one message. Returns False when none will come any more."""
        try:
            message, descriptors = recv_datagram(spawner.control, FromInit)
        except (OSError, IpcError) as error:
            born = error.message if isinstance(error, DescriptorsLost) else None
            if isinstance(born, CallBorn) and born.id.startswith(AHEAD):
                # Nobody needs it, and it ends when its channels are closed. Of a call, whose tool
                # may run, nobody could end what has no pidfd: so the sandbox has to end.
                failed = CallFailed(born.id, Step.CALL, os.strerror(errno.EMFILE), errno.EMFILE)
                self._on_message(failed, [])
                return True
            self._epoll.unregister(spawner.control.fileno())
            if self._init is None:
                self._never_built("" if isinstance(error, ChannelClosed) else explained(error))
            elif self.state.failure is None:
                self.fail(SandboxBroken(f"the sandbox's init hung up: {explained(error)}"))
            return False
        if isinstance(message, InitBorn):
            check_protocol(message.protocol, "the sandbox's spawner")
            self._init = (Keeper if self.held_as is Keeper else Process).of(descriptors[:1], 0)
            assert self.disk is not None
            self.disk.born(descriptors[1:], message.area, message.why)
            self._epoll.register(self._init.pidfd, select.EPOLLIN)
            self.state.init_born()
            if self.state.state is not State.INIT_BORN:
                self._init.kill()
        elif isinstance(message, InitHello):
            self._built()
        elif isinstance(message, InitFailed):
            failure = explain(message)
            self.fail(SandboxUnavailable(failure, step=message.step, number=message.number))
        else:
            self._on_message(message, descriptors)
        return True

    def _read_last_messages(self) -> None:
        """Of a spawner that was killed: a call of whose birth it has told goes on without it."""
        assert self._launch is not None
        poll = select.poll()
        poll.register(self._launch.control, select.POLLIN)
        while poll.poll(0):
            try:
                message, descriptors = recv_datagram(self._launch.control, FromInit)
            except (OSError, IpcError):
                return
            if isinstance(message, AboutCalls):
                self._on_message(message, descriptors)

    def _built(self) -> None:
        assert self._init is not None and self.disk is not None
        try:
            self.disk.watch(self._init.pid)
        except RuntimeError as error:
            why = f"the sandbox cannot be built: {explained(error)}"
            self.fail(SandboxUnavailable(why))
            return
        self.state.built()
        self._report_open(None)

    def _never_built(self, why: str = "") -> None:
        """No init has come. why: the reason, if it is not the spawner's death."""
        assert self._launch is not None
        why = why or self._launch.last_words()
        self.fail(SandboxUnavailable(f"the sandbox cannot be built: {why}"))

    def _init_ended(self) -> None:
        assert self._init is not None
        if self.held_as is Keeper:
            self._read_last_messages()
        self._epoll.unregister(self._init.pidfd)
        self._init.close()
        self._init = None
        if self.state.state is not State.CLOSING:
            self.fail(SandboxBroken("the sandbox's init died; its calls died with it"))
        self._on_init_ended()

    def _report_open(self, failure: SandboxError | None) -> None:
        on_open, self.on_open = self.on_open, _nothing
        on_open(failure)


def _nothing(failure: SandboxError | None) -> None:
    pass
