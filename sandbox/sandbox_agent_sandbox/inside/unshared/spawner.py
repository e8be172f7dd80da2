"""The spawner of a sandbox without namespaces: it makes a supervisor for each call.

It is what spawner and init are in the other plans, and talks to the host in init's place. It is a
subreaper above the supervisors. Should one of them die before it has proven the end of its call,
the call's processes become children of the spawner, which kills them and then gives the proof.

Its own children are made by `fork_unnoticed`. So a plain waitid(2) tells whether there is an orphan
of some call, whatever other calls are doing.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

import msgspec
from sandbox_agent_ipc.channel import recv_datagram, send_datagram
from sandbox_agent_ipc.errors import IpcError
from sandbox_agent_ipc.messages import (
    PROTOCOL,
    CallBorn,
    CallFailed,
    Freeze,
    Frozen,
    InitBorn,
    InitFailed,
    InitHello,
    NewCall,
    OverLimit,
    Thaw,
    ToInit,
)

from sandbox_agent_sandbox.inside.init import HostEnds
from sandbox_agent_sandbox.inside.kernel import dispositions, syscalls
from sandbox_agent_sandbox.inside.kernel.call_descriptors import CallDescriptors
from sandbox_agent_sandbox.inside.kernel.dispositions import reset_signals
from sandbox_agent_sandbox.inside.prepare import prepare_for
from sandbox_agent_sandbox.inside.spawner import StepFailed, leave_keyring
from sandbox_agent_sandbox.inside.unshared import orders, supervisor
from sandbox_agent_sandbox.inside.unshared.counting import with_room
from sandbox_agent_sandbox.inside.unshared.kernel import WALL, fork_unnoticed
from sandbox_agent_sandbox.inside.unshared.orders import Orders, pid_behind
from sandbox_agent_sandbox.inside.unshared.reach import kill_children, no_orphan_left
from sandbox_agent_sandbox.inside.unshared.supervisor import Charge, Keepers
from sandbox_agent_sandbox.inside.unshared.tag import Marks, reap_orphans
from sandbox_agent_sandbox.inside.unshared.view.owned import Owned
from sandbox_agent_sandbox.inside.unshared.view.places import Own
from sandbox_agent_sandbox.inside.unshared.view.rules import make_ruleset
from sandbox_agent_sandbox.inside.walls.descriptors import keep_only
from sandbox_agent_sandbox.inside.walls.private import Area
from sandbox_agent_sandbox.inside.walls.seccomp import make_filter
from sandbox_agent_sandbox.inside.watch import Watch
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.steps import Step

_REAPING = 0.5
"""Seconds in which a start ends what earlier sandboxes have left."""
_AGAIN = 0.05
"""Seconds after which the order to end is repeated."""

_LAST_REAPING = 0.2
"""Seconds that are left for that when the sandbox ends. A short run would leave it undone."""
_SWEEP_PAUSE = 0.001
_LONGEST_SWEEP_PAUSE = 0.02


def main(plan: Plan, host: HostEnds) -> NoReturn:
    """Serve one sandbox until the host hangs up or dies. `inside.spawner` has begun."""
    control, board_fd, host_fd = host
    reset_signals(dispositions.CHANGED)
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    syscalls.shut_itself()
    owned: Owned | None = None
    try:
        step = Step.KEYRING
        leave_keyring()
        step = Step.PRIVATE
        own = Own(plan)
        step = Step.VIEW
        owned = Owned(plan)
        calls = _Calls(plan, board_fd, host_fd, control, own)
        step = Step.INIT
        _say_born(control, own.area)
    except (OSError, StepFailed) as error:
        number, hint = getattr(error, "errno", 0) or 0, str(getattr(error, "hint", ""))
        if isinstance(error, StepFailed):
            step, number = error.step, error.number
        if owned is not None:
            owned.give_back()
        send_datagram(control, InitFailed(PROTOCOL, step, str(error), number, hint))
        sys.exit(1)
    make_filter(plan.system_calls)
    prepare_for(plan)
    gc.collect()
    gc.freeze()
    # From the first call on its end must not be the end of what it keeps. Until then it is SIGKILL.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGCONT)
    try:
        send_datagram(control, InitHello(PROTOCOL))
        calls.reaper = _reap_apart()
        calls.serve()
    except IpcError:
        pass  # the host has gone
    except Exception as error:
        os.write(2, f"sandbox spawner: {type(error).__name__}: {error}\n".encode())
    calls.end()
    owned.give_back()
    os._exit(0)


def _reap_apart() -> int:
    """End what earlier sandboxes have left, in a process of its own: to look at all processes takes
    a while. Returns its pid; 0 for none."""
    try:
        pid = fork_unnoticed()
    except OSError:
        return 0
    if pid == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            syscalls.set_process_name("sandbox-reaper")
            keep_only(())
            reap_orphans(_REAPING)
        finally:
            os._exit(0)
    return pid


def _say_born(control: socket.socket, area: Area) -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        send_datagram(control, InitBorn(PROTOCOL, area.path, area.why), (pidfd, area.lock))
    finally:
        os.close(pidfd)


class _Call(msgspec.Struct):
    """One call. pid, pidfd: of its supervisor. proof: the eventfd that says that it is over.

    channel: to the supervisor. waits: the supervisor has not begun, for the sandbox stands still.
    freezing: it has not confirmed yet that its call stands still.
    """

    id: str
    pid: int
    pidfd: int
    proof: int
    channel: socket.socket
    waits: bool = False
    freezing: bool = False
    is_orphaned: bool = False

    @property
    def is_proven(self) -> bool:
        poll = select.poll()
        poll.register(self.proof, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self.channel.close()
        os.close(self.pidfd)
        os.close(self.proof)


class _Calls:
    """The calls of a sandbox, and their supervisors."""

    def __init__(
        self, plan: Plan, board_fd: int, host_fd: int, control: socket.socket, own: Own
    ) -> None:
        self._plan = with_room(plan)
        self._own = own
        self._ruleset = make_ruleset(plan, own.shared)
        self._board_fd = board_fd
        self._host_fd = host_fd
        self._control = control
        self._marks = Marks()
        pids = frozenset({pid_behind(host_fd), os.getpid()})
        self._keepers = Keepers(host_fd, os.pidfd_open(os.getpid()), pids, (os.getpid(),))
        self._orders = Orders({pid_behind(host_fd)})
        self._calls: dict[int, _Call] = {}
        proc = os.open("/proc", os.O_RDONLY | os.O_CLOEXEC)
        self._watch = Watch(plan, self._tell, proc, own=())
        self.reaper = 0
        self._is_frozen = self._is_confirming = False
        self._pause = _SWEEP_PAUSE
        self._poll = select.poll()
        for fd in (control.fileno(), host_fd, self._orders.descriptor):
            self._poll.register(fd, select.POLLIN)

    def _tell(self, *over: str) -> None:
        send_datagram(self._control, OverLimit(*over))

    def serve(self) -> None:
        """Make calls until the host gives the order to end, hangs up, or dies."""
        while True:
            ready = self._look(self._watch.pause())
            self._watch.look()
            if self._host_fd in ready:
                return
            if self._orders.descriptor in ready and orders.END in self._orders.read():
                return
            if self._control.fileno() in ready and not self._hear():
                return

    def end(self) -> None:
        """End all calls, and wait until each of them is proven to have ended."""
        for fd in (self._control.fileno(), self._host_fd, self._orders.descriptor):
            self._poll.unregister(fd)
        self._is_confirming = False  # nobody may be there to be told
        for call in self._calls.values():
            orders.send(call.pidfd, orders.END)
        if self.reaper:
            select.select([os.pidfd_open(self.reaper)], [], [], _LAST_REAPING)
            os.kill(self.reaper, signal.SIGKILL)
            os.waitpid(self.reaper, WALL)
            self.reaper = 0
        while self._calls:
            self._look(_AGAIN)
            for call in self._calls.values():  # one that was stopped after it has not followed it
                orders.send(call.pidfd, orders.END)

    def _look(self, pause: float | None) -> set[int]:
        """Wait for something to happen, and do what concerns the calls. Returns what is readable of
        the rest."""
        if any(call.is_orphaned for call in self._calls.values()):
            pause = self._pause if pause is None else min(pause, self._pause)
            self._pause = min(self._pause * 1.5, _LONGEST_SWEEP_PAUSE)
        else:
            self._pause = _SWEEP_PAUSE
        ready = {fd for fd, _ in self._poll.poll(None if pause is None else pause * 1000)}
        if self.reaper and os.waitpid(self.reaper, os.WNOHANG | WALL)[0]:
            self.reaper = 0
        for call in list(self._calls.values()):
            if call.channel.fileno() in ready:
                self._on_channel(call)
            if call.pidfd in ready:
                self._on_end(call)
        self._sweep()
        return ready

    def _on_channel(self, call: _Call) -> None:
        """The answer to `FREEZE`, or the end of the supervisor."""
        try:
            is_over = not call.channel.recv(1)
        except OSError:
            is_over = True
        if is_over:
            self._poll.unregister(call.channel)
        call.freezing = False
        self._confirm()

    def _on_end(self, call: _Call) -> None:
        """A supervisor has ended. Its orphans, if it has left any, are ours by now."""
        self._poll.unregister(call.pidfd)
        with suppress(OSError):
            os.waitpid(call.pid, os.WNOHANG | WALL)
        call.is_orphaned = True

    def _sweep(self) -> None:
        """Kill what supervisors have left, and give the proof for their calls."""
        gone = [call for call in self._calls.values() if call.is_orphaned]
        if not gone:
            return
        unproven = [call for call in gone if not call.is_proven]
        if unproven:
            kill_children([call.pid for call in self._calls.values() if not call.is_orphaned])
        # A call whose supervisor died after that look has to wait for the next one.
        if unproven and not no_orphan_left():
            gone = [call for call in gone if call not in unproven]
            unproven = []
        for call in unproven:
            os.eventfd_write(call.proof, 1)
        for call in gone:
            del self._calls[call.pid]
            self._watch.remove(call.pid)
            with suppress(KeyError):
                self._poll.unregister(call.channel)
            call.close()
        if gone:
            self._confirm()

    def _hear(self) -> bool:
        """Read a message of the host. False when it has hung up."""
        message: ToInit
        try:
            message, descriptors = recv_datagram(self._control, ToInit)
        except IpcError:
            return False
        if isinstance(message, NewCall):
            self._begin(message, descriptors)
        elif isinstance(message, Freeze):
            self._is_frozen = self._is_confirming = True
            self._to_all(orders.FREEZE)
            self._confirm()
        elif isinstance(message, Thaw):
            self._is_frozen = self._is_confirming = False
            self._to_all(orders.THAW)
        return True

    def _to_all(self, order: bytes) -> None:
        for call in self._calls.values():
            if call.waits:  # it has not begun: it begins now, or stays so
                if order == orders.THAW:
                    call.waits = False
                    self._say(call, orders.GO)
            else:
                call.freezing = self._say(call, order) and order == orders.FREEZE

    @staticmethod
    def _say(call: _Call, order: bytes) -> bool:
        try:
            return call.channel.send(order) == len(order)
        except OSError:
            return False  # it has ended

    def _confirm(self) -> None:
        if self._is_confirming and not any(call.freezing for call in self._calls.values()):
            self._is_confirming = False
            send_datagram(self._control, Frozen())

    def _begin(self, message: NewCall, descriptors: list[int]) -> None:
        """Make a call's supervisor, and let it begin once the host has been told of it."""
        opened: list[int] = []
        step = Step.CALL
        try:
            given = CallDescriptors.received(descriptors)
            proof = os.eventfd(0)
            opened.append(proof)
            own, ruleset = self._own.shared, self._ruleset
            if message.fresh_view:
                step = Step.CALL_VIEW
                own = self._own.fresh()
                ruleset = make_ruleset(self._plan, own)
                descriptors.append(ruleset)
                step = Step.CALL
            given = given._replace(ruleset=ruleset)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                opened.append(ours.detach())
                mark = self._marks.new()
                keepers, board_fd = self._keepers, self._board_fd
                pid = self._fork(
                    Charge(self._plan, given, board_fd, keepers, theirs, proof, mark, own),
                    opened[1],
                )
            opened.append(os.pidfd_open(pid))
            call = _Call(
                message.id, pid, opened[2], proof, socket.socket(fileno=opened[1]), self._is_frozen
            )
            self._calls[pid] = call
            opened.clear()
            self._poll.register(call.pidfd, select.POLLIN)
            self._poll.register(call.channel, select.POLLIN)
            self._watch.add(message.id, pid)
            send_datagram(self._control, CallBorn(message.id, mark), (proof, call.pidfd))
            if not self._is_frozen:
                self._say(call, orders.GO)
        except (OSError, ValueError) as error:
            number = getattr(error, "errno", 0) or 0
            send_datagram(self._control, CallFailed(message.id, step, str(error), number))
        finally:
            for fd in (*descriptors, *opened):
                os.close(fd)

    @staticmethod
    def _fork(charge: Charge, ours: int) -> int:
        pid = fork_unnoticed()
        if pid == 0:
            # What other calls have open is closed by the supervisor and by the worker. The other
            # end of its own channel must be closed now: else it would not see its end.
            os.close(ours)
            supervisor.main(charge)
        # On both sides, since either may come first. Should this process die while the child is
        # stopped, the kernel continues an orphaned group: see `fork_apart`.
        with suppress(OSError):
            os.setpgid(pid, pid)
        return pid
