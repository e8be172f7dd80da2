"""A call's supervisor: it stands where the call's init stands in the plans with namespaces.

It is a subreaper, so what the call orphans becomes its child. When it has no child left (ECHILD),
nothing that the call started is alive: that is the proof of death. It says so through an eventfd
that no tool ever holds, and exits. Its end alone proves nothing: who was killed ends too.

It ignores SIGCHLD, so the kernel buries what dies: reaping by hand, it was kept from its orders by
200 processes that fork and exit for ever. Its parent-death signal is SIGCONT, and it polls pidfds
of the host and of the spawner: should it be stopped when one of them dies, it wakes up and ends the
call. SIGKILL as that signal would only make orphans. PR_SET_PDEATHSIG(2const), waitpid(2)
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, NoReturn

from sandbox_agent_sandbox.call_status import STATUS_SIZE, report_failure, report_nothing
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.call_descriptors import CallDescriptors
from sandbox_agent_sandbox.inside.unshared import orders, starter
from sandbox_agent_sandbox.inside.unshared.gate import Gate
from sandbox_agent_sandbox.inside.unshared.orders import Orders
from sandbox_agent_sandbox.inside.unshared.reach import Domain, Reach, nothing_left
from sandbox_agent_sandbox.inside.unshared.seal import Seal
from sandbox_agent_sandbox.inside.unshared.view.broker import Broker
from sandbox_agent_sandbox.inside.walls.descriptors import keep_only
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.steps import Step

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.005
"""Seconds between two looks for the proof, while what was killed dies."""
_AGAIN = 0.05
"""Seconds after which kill(-1) is repeated in a domain. Once is enough, so this is a precaution."""


class Keepers(NamedTuple):
    """Those above a supervisor: pidfds of the host and of the spawner, and their pids.

    outsiders: the pids of those that a supervisor can signal, but for its domain.
    """

    host: int
    spawner: int
    pids: frozenset[int]
    outsiders: tuple[int, ...]


class Charge(NamedTuple):
    """One call, as the spawner hands it to its supervisor.

    channel: to the spawner, see `orders`. proof: the eventfd. mark: see `tag`. own: the folder of
    the call's TMPDIR and HOME.
    """

    plan: Plan
    descriptors: CallDescriptors
    board_fd: int
    keepers: Keepers
    channel: socket.socket
    proof: int
    mark: int
    own: str


def main(charge: Charge) -> NoReturn:
    """Supervise one call. Never returns."""
    status = charge.descriptors.status
    number = -1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.setpgid(0, 0)  # see `spawner`
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGCONT)
        syscalls.set_process_name("sandbox-call")
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        syscalls.shut_itself()
        _Supervisor(charge).supervise()
        os._exit(0)
    except BaseException as error:
        number = getattr(error, "errno", 0) or 0
        with suppress(OSError):
            os.write(2, f"sandbox call: {type(error).__name__}: {error}\n".encode())
    finally:
        # A failure of ours. There is a worker perhaps; what is below this process ends.
        with suppress(BaseException):
            report_failure(status, Step.CALL, max(number, 0))
            _end_all(Reach(None))
            os.eventfd_write(charge.proof, 1)
        os._exit(1)


class _Supervisor:
    def __init__(self, charge: Charge) -> None:
        self._charge = charge
        self._orders = Orders(charge.keepers.pids)
        self._reach = Reach(Domain.enter(charge.keepers.outsiders))
        self._gate: Gate | None = None
        self._starter = self._report = self._poke = -1
        self._from_worker: socket.socket | None = None
        self._is_terminating = self._is_over = False
        self._said = b""
        self._poll = select.poll()
        self._sources: dict[int, Callable[[int], object]] = {}
        keepers = charge.keepers
        self._listen(self._orders.descriptor, self._on_order)
        self._listen(charge.channel.fileno(), self._on_message)
        self._listen(keepers.host, self._on_end)
        self._listen(keepers.spawner, self._on_end)
        call = charge.descriptors
        for_the_worker = (call.inbox, call.outbox, call.wake, call.stdout, call.stderr)
        assert call.ruleset is not None
        self._ruleset = call.ruleset
        more = (*call.groups, self._ruleset)
        keep_only(
            (*self._sources, call.status, charge.proof, charge.board_fd, *for_the_worker, *more)
        )

    def _listen(self, fd: int, heard: Callable[[int], object]) -> None:
        self._sources[fd] = heard
        self._poll.register(fd, select.POLLIN)

    def supervise(self) -> None:
        """Serve the call until it is over, end what is left of it, and prove that."""
        while not self._is_over:
            # After SIGTERM the call goes on until its last process has ended. No event says so.
            alone = self._is_terminating and self._said
            for fd, _ in self._poll.poll(1 if alone else None):
                self._sources[fd](fd)
            if alone and nothing_left():
                break
        _end_all(self._reach)
        status = self._charge.descriptors.status
        if self._said:
            os.write(status, self._said)
        else:
            report_nothing(status)
        os.eventfd_write(self._charge.proof, 1)

    def _start(self) -> None:
        """Fork the starter, and with it the worker."""
        charge, call = self._charge, self._charge.descriptors
        self._report, report = os.pipe()
        poke, self._poke = os.pipe()
        self._from_worker, to_supervisor = socket.socketpair()
        try:
            self._starter = os.fork()
        except OSError as error:
            report_failure(report, Step.CALL, error.errno or 0)
        if self._starter == 0:
            os.close(self._report)
            os.close(self._poke)
            self._from_worker.close()
            signals = self._reach.domain is None
            board = charge.board_fd
            seal = Seal(charge.plan, call, board, charge.mark, to_supervisor, signals, charge.own)
            starter.main(seal, starter.Ends(report, poke, charge.proof), self._reach)
        os.close(report)
        os.close(poke)
        to_supervisor.close()
        self._listen(self._report, self._on_report)
        self._listen(self._from_worker.fileno(), self._on_listener)
        keep_only((*self._sources, self._poke, call.status, charge.proof, self._ruleset))
        os.closerange(0, 3)

    def _on_end(self, fd: int) -> None:
        """The order to end the call, or the end of a keeper."""
        self._is_over = True

    def _on_order(self, fd: int) -> None:
        given = self._orders.read()
        if orders.END in given:
            self._is_over = True
        elif orders.TERMINATE in given:
            self._is_terminating = True
            # CONT after TERM: a stopped process handles SIGTERM only once it runs.
            self._reach.send(signal.SIGTERM)
            self._reach.send(signal.SIGCONT)
            with suppress(OSError):
                os.write(self._poke, starter.POKING)

    def _on_message(self, fd: int) -> None:
        try:
            message = self._charge.channel.recv(1)
        except OSError:
            message = b""
        if message == orders.GO:  # the spawner has told the host of this process
            if self._is_terminating:
                self._is_over = True  # nobody has begun whom SIGTERM could reach
            else:
                self._start()
        elif message == orders.FREEZE:
            self._reach.send(signal.SIGSTOP)
            with suppress(OSError):
                self._charge.channel.send(orders.FROZEN)
        elif message == orders.THAW:
            self._reach.send(signal.SIGCONT)
        elif not message:
            self._is_over = True

    def _on_report(self, fd: int) -> None:
        """The worker has ended, or the starter has, which ends its worker."""
        self._poll.unregister(fd)
        self._said = os.read(fd, STATUS_SIZE)
        if not self._is_terminating or not self._said:
            self._is_over = True

    def _on_listener(self, fd: int) -> None:
        """The worker has shut its gate, or has none."""
        self._poll.unregister(fd)
        assert self._from_worker is not None
        _, descriptors, _, _ = socket.recv_fds(self._from_worker, 1, 1)
        self._from_worker.close()
        for listener in descriptors:
            self._gate = Gate(listener, (self._starter,), self._broker(listener))
            self._listen(listener, self._on_gate)

    def _broker(self, listener: int) -> Broker | None:
        plan = self._charge.plan
        if plan.unshared is None or not plan.unshared.looked_at:
            return None
        return Broker(listener, plan, self._charge.own, self._ruleset)

    def _on_gate(self, fd: int) -> None:
        assert self._gate is not None
        if not self._gate.serve():
            self._poll.unregister(fd)


def _end_all(reach: Reach) -> None:
    """Kill in rounds until nothing is left. What waits at the gate gets no answer any more, and
    SIGKILL ends it there."""
    pause, again = _FIRST_PAUSE, 0.0
    while True:
        now = time.monotonic()
        if reach.domain is None or now >= again:
            reach.kill()
            again = now + _AGAIN
        if nothing_left():
            return
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
