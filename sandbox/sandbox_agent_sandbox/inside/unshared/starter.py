"""A call's starter: the parent of its worker, which it waits for.

The supervisor ignores SIGCHLD, so that the kernel buries what dies, and a storm of short-lived
processes cannot keep it from an order. So it gets no status from waitpid(2), and this process does.

It is also the last that can end the call: should the supervisor die, it kills what is left.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import NamedTuple, NoReturn

from sandbox_agent_sandbox.call_status import report_failure, report_status
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.unshared.reach import Reach
from sandbox_agent_sandbox.inside.unshared.seal import Seal, others
from sandbox_agent_sandbox.inside.unshared.tag import marked
from sandbox_agent_sandbox.inside.walls.descriptors import keep_only
from sandbox_agent_sandbox.inside.worker.main import POKE, POKE_INTERVAL, run_worker
from sandbox_agent_sandbox.steps import Step

POKING = b"p"
"""From the supervisor: SIGTERM was sent, and the worker may not have noticed it."""

_LAST_LOOK = 0.002
_PATIENCE = 5.0


class Ends(NamedTuple):
    """report: the write end of the pipe for the worker's status. orders: the read end of another
    one, which is at its end when the supervisor is. proof: see `spawner`."""

    report: int
    orders: int
    proof: int


def main(seal: Seal, ends: Ends, reach: Reach) -> NoReturn:
    """Fork the worker, wait for it, report its status. Never returns."""
    try:
        # SIGCONT, so that a stopped starter wakes up and sees that its supervisor is gone.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGCONT)
        syscalls.set_process_name("sandbox-starter")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            worker = os.fork()
        except OSError as error:
            report_failure(ends.report, Step.CALL, error.errno or 0)
            os._exit(1)
        if worker == 0:
            call = seal.descriptors
            run_worker(seal.plan, call, seal.board_fd, seal.put_on, others, seal.move)
        keep_only(ends)
        os.closerange(0, 3)
        if _wait(worker, ends.orders):
            report_status(ends.report, os.waitpid(worker, 0)[1])
        else:
            _end_the_call(seal.mark, ends.proof, reach)
    finally:
        os._exit(0)


def _wait(worker: int, orders: int) -> bool:
    """Wait for the worker's end. False if the supervisor ended first."""
    pidfd = os.pidfd_open(worker)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(orders, select.POLLIN)
    poking = False
    while True:
        ready = {fd for fd, _ in poll.poll(POKE_INTERVAL * 1000 if poking else None)}
        if pidfd in ready:
            return True
        if orders in ready:
            if not os.read(orders, 1):
                return False
            poking = True
            # It may have begun after SIGTERM was sent to all. It acts on the first one only.
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
        elif poking:
            with suppress(ProcessLookupError):
                os.kill(worker, POKE)


def _end_the_call(mark: int, proof: int, reach: Reach) -> None:
    """Kill the call, whose supervisor is gone. The spawner does that too, if it is still there, and
    ends this process with the call.

    In the domain all of the call gets SIGKILL in one step, so nothing new begins after it, and what
    has the mark can be counted.
    """
    if reach.domain is None:
        return
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        reach.kill()
        if mark and not marked(mark):
            os.eventfd_write(proof, 1)
            return
        time.sleep(_LAST_LOOK)
