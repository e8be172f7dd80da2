"""A call's init: pid 1 of the call's own pid namespace. It holds no capability and no descriptor
but the status pipe, and runs no foreign code.

Its death proves that the call has ended: the kernel kills everything in the namespace, and makes
the pidfd readable only when the namespace is empty. pid_namespaces(7), pidfd_open(2).
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import NoReturn

from sandbox_agent_sandbox.call_status import END_ORDER, report_failure, report_status
from sandbox_agent_sandbox.inside.kernel import raw_signals, syscalls
from sandbox_agent_sandbox.inside.kernel.call_descriptors import CallDescriptors
from sandbox_agent_sandbox.inside.procs import FreshProc
from sandbox_agent_sandbox.inside.walls.capabilities import drop_capabilities
from sandbox_agent_sandbox.inside.walls.descriptors import keep_as_0
from sandbox_agent_sandbox.inside.walls.mounts import renew_private_folders
from sandbox_agent_sandbox.inside.walls.oom_score import OF_TOOLS, shut_be_first_to_die
from sandbox_agent_sandbox.inside.worker.main import POKE, POKE_INTERVAL, run_worker
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.steps import Step

_ASKED = {int(signal.SIGTERM), int(END_ORDER)}
_HANDLED = {*_ASKED, int(signal.SIGCHLD)}

_FOREVER = 365 * 86400.0

REAPED_AT_ONCE = 32
"""Processes that are collected between two looks at signals and messages."""

_BREATH = 0.005
"""Seconds between two such looks while there are more to collect. Without this pause a storm of
short-lived processes makes init use up its share of the processor. The kernel then lets init wait
for its turn to end, and the others end only after it. sched(7), pid_namespaces(7)"""


def main(
    plan: Plan,
    descriptors: CallDescriptors,
    board_fd: int,
    proc: FreshProc,
    *,
    fresh_view: bool,
    fresh: int | None,
) -> NoReturn:
    """Fork the worker, then reap until the call is over. Never returns.

    fresh: the /tmp of the fresh view, where it is on the disk.
    """
    step: Step | None = Step.CALL_NAMESPACES
    try:
        # Blocked from the start: an early SIGTERM waits until it can be passed on.
        raw_signals.pthread_sigmask(raw_signals.SIG_SETMASK, _HANDLED)
        syscalls.set_process_name("sandbox-call")
        if descriptors.groups:
            step = Step.CALL_GROUPS
            for group in descriptors.groups:
                os.write(group, b"0")  # this process: it is its only thread. cgroups(7)
                os.close(group)
            step = Step.CALL_NAMESPACES
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
        step = Step.CALL_PROC
        proc.renew()
        if fresh_view:
            step = Step.CALL_VIEW
            renew_private_folders(plan, fresh)
        step = Step.CALL
        shut_be_first_to_die(OF_TOOLS)
        worker = os.fork()
        step = None  # there is a worker, whose status counts
        if worker == 0:
            run_worker(plan, descriptors, board_fd, others=proc.others)
        keep_as_0(descriptors.status)
        drop_capabilities()
        _reap_until_over(worker, 0)
    except BaseException as error:
        with suppress(OSError):
            if step is not None:
                report_failure(descriptors.status, step, getattr(error, "errno", 0) or 0)
            os.write(2, f"sandbox call: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


def _reap_until_over(worker: int, status_pipe: int) -> None:
    """Exit when the worker ends, or, after a SIGTERM, when the namespace's last process ends.

    Staying gives children that handle SIGTERM time to finish; leaving would kill them.
    """
    terminating = reaped = more = False
    poked = time.monotonic()
    while True:
        poking = terminating and not reaped
        pause = _BREATH if more else POKE_INTERVAL if poking else _FOREVER
        info = signal.sigtimedwait(_ASKED if more else _HANDLED, pause)
        if poking and time.monotonic() - poked >= POKE_INTERVAL:
            poked = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(worker, POKE)
        # si_pid is 0 only for a sender outside this namespace: a tool's own signal is ignored.
        asked = info.si_signo if info is not None and info.si_pid == 0 else None
        if asked == END_ORDER:
            # All at once, before this process gives its memory back. For that it needs locks that
            # every fork of a storm takes, and the kernel kills the others only after it.
            with suppress(ProcessLookupError):  # no other process is left
                os.kill(-1, signal.SIGKILL)
            os._exit(1)
        if asked == signal.SIGTERM:
            terminating = True
            # CONT after TERM: a stopped process handles SIGTERM only once it runs.
            for number in (signal.SIGTERM, signal.SIGCONT):
                with suppress(ProcessLookupError):
                    os.kill(-1, number)
        more = True
        for _ in range(REAPED_AT_ONCE):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if pid == 0:
                more = False
                break
            if pid == worker:
                reaped = True
                report_status(status_pipe, status)
                if not terminating:
                    os._exit(0)
