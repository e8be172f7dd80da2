"""The sandbox's init: pid 1 of its pid namespace. It keeps its capabilities, so it runs no foreign
code.

It builds the mount view. Then it makes one nested pid namespace for each call: the death of a
call's init ends everything that the call started, daemons included. pid_namespaces(7).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, NoReturn

from sandbox_agent_ipc.channel import recv_datagram, send_datagram
from sandbox_agent_ipc.errors import IpcError
from sandbox_agent_ipc.messages import (
    PROTOCOL,
    CallBorn,
    CallFailed,
    Freeze,
    Frozen,
    InitFailed,
    InitHello,
    NewCall,
    OverLimit,
    ToInit,
)

from sandbox_agent_sandbox.inside import call_init
from sandbox_agent_sandbox.inside.kernel import raw_signals, syscalls
from sandbox_agent_sandbox.inside.kernel.call_descriptors import CallDescriptors
from sandbox_agent_sandbox.inside.prepare import prepare_for
from sandbox_agent_sandbox.inside.procs import FreshProc
from sandbox_agent_sandbox.inside.walls.landlock import SharedRuleset
from sandbox_agent_sandbox.inside.walls.mounts import build_root, open_trees
from sandbox_agent_sandbox.inside.walls.network import loopback_up
from sandbox_agent_sandbox.inside.walls.private import Area, fresh_folder, open_area
from sandbox_agent_sandbox.inside.walls.seccomp import make_filter
from sandbox_agent_sandbox.inside.watch import Watch
from sandbox_agent_sandbox.plan import Plan, PlanKind
from sandbox_agent_sandbox.steps import Step

_THAW = {int(signal.SIGCONT)}
_SIGCHLD = int(signal.SIGCHLD)


class HostEnds(NamedTuple):
    """What the host gives a sandbox: the control socket, the cancel board, a pidfd of itself."""

    control: socket.socket
    board_fd: int
    host_fd: int


def main(
    plan: Plan, trees: list[int] | None, area: Area | None, go: int, host: HostEnds
) -> NoReturn:
    """Build the sandbox, and make calls until the host hangs up or dies. Never returns.

    trees: the copied mounts, where root copied them before (see `mounts`). area: what the sandbox
    keeps on the disk. go: a pipe from which init reads one byte before it begins.
    """
    try:
        # Until `go` comes the parent changes, and its end must not kill. But should the last one
        # die while this process is stopped, or about to be, this lets it go on and see that.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGCONT)
        syscalls.set_process_name("sandbox-init")
        if not os.read(go, 1):
            os._exit(1)  # the spawner died
        os.close(go)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # no tool may trace or inspect init
        starters_umask = os.umask(0o022)  # the folders of the view are for the sandbox's user too
        step = Step.NO_NESTING
        try:
            proc = _proc_of(plan.kind)
            proc.forbid_nesting()
            step = Step.COPY
            trees = open_trees(plan) if trees is None else trees
            if area is not None:
                open_area(area)
            step = Step.VIEW
            build_root(plan, trees, area, proc.mount)
            watch = proc.watch(plan, lambda *over: send_datagram(host.control, OverLimit(*over)))
            step = Step.NAME
            syscalls.sethostname("sandbox")
            if plan.network == "none":
                step = Step.LOOPBACK
                loopback_up()
        except OSError as error:
            number, hint = error.errno or 0, str(getattr(error, "hint", ""))
            send_datagram(host.control, InitFailed(PROTOCOL, step, str(error), number, hint))
            os._exit(1)
        os.umask(starters_umask)  # the workers inherit it, and what tools create has it
        send_datagram(host.control, InitHello(PROTOCOL))
        _serve(plan, area, host, watch, proc)
        # All at once, before this process gives its memory back: see `call_init`.
        _signal_all(signal.SIGKILL)
    except BaseException as error:
        os.write(2, f"sandbox init: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


def _proc_of(kind: PlanKind) -> FreshProc:
    if kind is PlanKind.SHARED_PROC:
        from sandbox_agent_sandbox.inside.shared_proc import SharedProc

        return SharedProc()
    return FreshProc()


def _serve(plan: Plan, area: Area | None, host: HostEnds, watch: Watch, proc: FreshProc) -> None:
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    # What each worker loads is made once, here, and inherited.
    rulesets = SharedRuleset(plan.landlock)
    make_filter(plan.system_calls)
    prepare_for(plan)
    gc.collect()
    gc.freeze()
    poll = select.poll()
    for fd in (host.control.fileno(), host.host_fd, wake):
        poll.register(fd, select.POLLIN)
    frozen = more = False
    while True:
        pause = watch.pause()
        ready = poll.poll(0 if more else None if pause is None else pause * 1000)
        if more:
            more = _reap(watch.remove)
        watch.look()
        for fd, _ in ready:
            if fd == host.host_fd:
                return
            if fd == wake:
                os.read(wake, 4096)
                more = _reap(watch.remove)
            else:
                message: ToInit
                try:
                    message, descriptors = recv_datagram(host.control, ToInit)
                except IpcError:
                    return  # the host closed the sandbox, or is gone
                if isinstance(message, NewCall):
                    if frozen:  # the new call waits for SIGCONT, see `_new_call`
                        signal.pthread_sigmask(signal.SIG_BLOCK, _THAW)
                    _new_call(
                        plan,
                        area,
                        message,
                        descriptors,
                        host,
                        own_namespace,
                        watch,
                        rulesets,
                        proc,
                        frozen,
                    )
                    if frozen:
                        signal.pthread_sigmask(signal.SIG_UNBLOCK, _THAW)
                        _signal_all(signal.SIGSTOP)
                elif isinstance(message, Freeze):
                    frozen = True
                    # One kill(2) reaches every process, nested namespaces and their inits
                    # included. No fork escapes it: a pending signal makes fork start over.
                    _signal_all(signal.SIGSTOP)
                    send_datagram(host.control, Frozen())
                else:
                    frozen = False
                    _signal_all(signal.SIGCONT)


def _signal_all(number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(-1, number)


def _reap(ended: Callable[[int], object]) -> bool:
    """Collect what has ended. True when more may be left: a storm of short-lived processes must not
    keep init from its messages. ended: called with each pid."""
    for _ in range(call_init.REAPED_AT_ONCE):
        try:
            pid = os.waitpid(-1, os.WNOHANG)[0]
            if pid == 0:
                return False
            ended(pid)
        except ChildProcessError:
            return False
    return True


def _new_call(
    plan: Plan,
    area: Area | None,
    message: NewCall,
    descriptors: list[int],
    host: HostEnds,
    own_namespace: int,
    watch: Watch,
    rulesets: SharedRuleset,
    proc: FreshProc,
    frozen: bool,
) -> None:
    """Make a call's pid namespace and its init; send the host the pidfd, or why it failed."""
    step = Step.CALL_VIEW
    fresh = None
    try:
        if message.fresh_view and area is not None:
            fresh = fresh_folder(area)
        step = Step.CALL_NAMESPACES
        syscalls.unshare(syscalls.CLONE_NEWPID)
        step = Step.CALL
        try:
            # With folders of its own a call needs rules of its own.
            ruleset = None if message.fresh_view else rulesets.for_a_call()
            given = CallDescriptors.received(descriptors, ruleset)
            child = os.fork()
            if child == 0:
                if frozen:
                    # Init's SIGSTOP may come too late on a busy machine. SIGCONT is blocked, so one
                    # that was sent already counts.
                    signal.sigwait(_THAW)
                signal.set_wakeup_fd(-1)
                raw_signals.signal(_SIGCHLD, raw_signals.SIG_DFL)
                fresh_view = message.fresh_view
                call_init.main(plan, given, host.board_fd, proc, fresh_view=fresh_view, fresh=fresh)
        finally:
            # Without this a second unshare is EINVAL, and the next fork joins the call's namespace.
            syscalls.setns(own_namespace, syscalls.CLONE_NEWPID)
        watch.add(message.id, child)
        pidfd = os.pidfd_open(child)
        send_datagram(host.control, CallBorn(message.id), (pidfd,))
        os.close(pidfd)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", 0) or 0
        send_datagram(host.control, CallFailed(message.id, step, str(error), number))
    finally:
        for fd in descriptors if fresh is None else (*descriptors, fresh):
            os.close(fd)
