"""The spawner: a clean, single-threaded program; the host's ladder thread starts one per sandbox.
It is started before its plan is made, so that its imports cost no time. The plan comes over the
control socket, and says by which kind of plan to go on: this one, or that of `unshared`.

It stays in the host's namespaces as the parent of the sandbox's init. It writes the id maps, which
only a process of the parent user namespace may do. It dies with the host's thread
(PR_SET_PDEATHSIG, which also reaches it while it is stopped). It ignores INT, TERM and HUP: Jenkins
and systemd terminate descendants first, and the ladder decides when work ends, not the spawner.

    host -> spawner -> (builder, gone once init is born) -> init

The builder exists because a pid namespace begins with the *child* of the process that unshared it.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import msgspec
from sandbox_agent_ipc.channel import read_arguments, recv_datagram, send_datagram
from sandbox_agent_ipc.codec import check_protocol
from sandbox_agent_ipc.errors import ChannelClosed
from sandbox_agent_ipc.messages import PROTOCOL, InitBorn, InitFailed, ToSpawner

from sandbox_agent_sandbox import privileges
from sandbox_agent_sandbox.inside import init
from sandbox_agent_sandbox.inside.init import HostEnds
from sandbox_agent_sandbox.inside.kernel import dispositions, syscalls
from sandbox_agent_sandbox.inside.kernel.dispositions import reset_signals
from sandbox_agent_sandbox.inside.kernel.fork_apart import fork_apart
from sandbox_agent_sandbox.inside.walls.idmap import NoUserNamespace
from sandbox_agent_sandbox.inside.walls.mounts import open_trees
from sandbox_agent_sandbox.inside.walls.namespaces import enter_namespaces, switch_user, write_maps
from sandbox_agent_sandbox.inside.walls.oom_score import OWN, be_first_to_die
from sandbox_agent_sandbox.inside.walls.private import Area, make_area, open_area
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.steps import Step

_MAX_PLAN = 64 << 20


class StepFailed(Exception):
    """A step of building the sandbox failed. step, number, hint: what the host reports."""

    def __init__(self, step: Step, error: OSError) -> None:
        super().__init__(str(error))
        self.step = step
        self.number = error.errno or 0
        self.hint = str(getattr(error, "hint", ""))


class _NoKeyring(OSError):
    """No session keyring can be made; with EDQUOT, the user's quota of keys is used up."""

    hint = "remove keys of this user (/proc/key-users), or raise kernel.keys.maxkeys"


def begin(control_fd: int, host_fd: int, prepare: Callable[[], object]) -> tuple[Plan, HostEnds]:
    """For every kind of plan: do what needs none, then wait for it. Exits if the host closes the
    sandbox before, or dies.

    control_fd: an end of the control socket. host_fd: a pidfd of the host. prepare: called once
    what is to be done first is done.
    """
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    syscalls.set_process_name("sandbox-spawner")
    reset_signals(dispositions.OWN)  # the thread that started us blocks all
    be_first_to_die(OWN)
    os.setsid()  # before any fork_apart, whose orphans must not be adopted within this session
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    control = socket.socket(fileno=control_fd)
    for fd in (control_fd, host_fd):
        os.set_inheritable(fd, False)
    prepare()
    gc.freeze()
    gc.enable()
    plan, board_fd = _wait_for_plan(control, host_fd)
    return plan, HostEnds(control, board_fd, host_fd)


def _wait_for_plan(control: socket.socket, host_fd: int) -> tuple[Plan, int]:
    """The plan and the cancel board."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(host_fd, select.POLLIN)
    ready = {fd for fd, _ in poll.poll()}
    if host_fd in ready:
        os._exit(0)
    try:
        message, descriptors = recv_datagram(control, ToSpawner)
    except ChannelClosed:
        os._exit(0)
    check_protocol(message.protocol, "the sandbox's host")
    plan_fd, board_fd = descriptors
    data = read_arguments(plan_fd, _MAX_PLAN)
    os.close(plan_fd)
    return msgspec.msgpack.decode(data, type=Plan), board_fd


def main(plan: Plan, host: HostEnds) -> NoReturn:
    """Build one sandbox and wait for its end."""
    try:
        leave_keyring()
        init_pid = _start_init(plan, host)
    except StepFailed as failed:
        _report(host, failed)
    except OSError as error:
        _report(host, StepFailed(Step.INIT, error))
    except MemoryError:
        _report(host, StepFailed(Step.INIT, OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))))
    host.control.close()
    os.close(host.board_fd)
    _wait_for_end(init_pid, host.host_fd)


def _report(host: HostEnds, failed: StepFailed) -> NoReturn:
    """Tell the host what failed, and exit. A builder that waits reads an end of file, and exits."""
    message = InitFailed(PROTOCOL, failed.step, str(failed), failed.number, failed.hint)
    send_datagram(host.control, message)
    sys.exit(1)


def leave_keyring() -> None:
    """Tools must not reach the keys of the starter's session. session-keyring(7)

    Where keyctl(2) is not there (ENOSYS) or refused (EPERM, as in most containers), it is so for
    tools too.
    """
    try:
        syscalls.join_new_session_keyring()
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
            raise StepFailed(Step.KEYRING, _NoKeyring(error.errno, error.strerror)) from error


def _start_init(plan: Plan, host: HostEnds) -> int:
    """Make the sandbox's init, and let it go on once the host holds its pidfd."""
    try:
        area = make_area(plan.private, plan.identity)
    except OSError as error:
        raise StepFailed(Step.PRIVATE, error) from error
    try:
        copies = os.geteuid() == 0 and privileges.has(privileges.SYS_ADMIN)
        trees = open_trees(plan) if copies else None
        if trees is not None and area is not None:
            open_area(area)
    except NoUserNamespace as error:
        raise StepFailed(Step.NAMESPACES, error) from error
    except OSError as error:
        raise StepFailed(Step.COPY, error) from error
    report, maps, go = os.pipe(), os.pipe(), os.pipe()
    builder = fork_apart()
    if builder == 0:
        for fd in (report[0], maps[1], go[1]):
            os.close(fd)
        _build(plan, trees, area, host, report=report[1], maps=maps[0], go=go[0])
    os.close(report[1])
    os.close(maps[0])
    os.close(go[0])
    for tree in trees or ():
        os.close(tree)
    if area is not None and area.tree >= 0:
        os.close(area.tree)
    said = os.read(report[0], 4096)
    if said != b"unshared":
        os.waitpid(builder, 0)
        raise StepFailed(Step.NAMESPACES, _error_in(said))
    try:
        write_maps(builder, plan.identity)
    except OSError as error:
        os.close(maps[1])
        os.waitpid(builder, 0)
        raise StepFailed(Step.MAPS, error) from error
    os.write(maps[1], b"x")
    said = os.read(report[0], 4096)
    if not said.isdigit():
        os.waitpid(builder, 0)
        raise StepFailed(Step.INIT, _error_in(said))
    init_pid = int(said)
    pidfd = os.pidfd_open(init_pid)
    # Once the builder is reaped, init's parent is this process (a subreaper), and only then may
    # init set its parent-death signal: set earlier, it would fire at the builder's own exit.
    os.close(maps[1])
    os.waitpid(builder, 0)
    if area is None:
        send_datagram(host.control, InitBorn(PROTOCOL), (pidfd,))
    else:
        born = InitBorn(PROTOCOL, area.path, area.why)
        send_datagram(host.control, born, (pidfd, area.lock))
        # Init and the host have it now. The last of them to close it ends the file system, which
        # takes longer than the end of this process: so the host does that meanwhile.
        os.close(area.lock)
    os.close(pidfd)
    with suppress(BrokenPipeError):  # init has died: the host sees that by its pidfd
        os.write(go[1], b"x")
    for fd in (report[0], go[1]):
        os.close(fd)
    return init_pid


def _die_with_parent() -> None:
    """Again after each change of credentials, which clears it. PR_SET_PDEATHSIG(2const)."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _build(
    plan: Plan,
    trees: list[int] | None,
    area: Area | None,
    host: HostEnds,
    *,
    report: int,
    maps: int,
    go: int,
) -> NoReturn:
    """The builder: enter the namespaces, fork init, and report its pid.

    report: a pipe to the spawner. maps: a pipe from the spawner: one byte when the id maps are
    written, its end when the spawner holds a pidfd of init. go: for init.
    """
    try:
        _die_with_parent()
        enter_namespaces(plan.network)
        _die_with_parent()
        os.write(report, b"unshared")
        if not os.read(maps, 1):
            os._exit(1)
        switch_user(plan.identity)
        _die_with_parent()
        pid = os.fork()
        if pid == 0:
            os.close(report)
            os.close(maps)
            init.main(plan, trees, area, go, host)
        os.write(report, str(pid).encode())
        os.read(maps, 1)  # the end of file: the spawner holds a pidfd of init
    except OSError as error:
        os.write(report, f"failed {error.errno or 0} {error.strerror or error}".encode())
    finally:
        os._exit(0)


def _error_in(said: bytes) -> OSError:
    """The error that the builder reported. If it died without a word, it was killed."""
    _, number, text = said.decode().split(maxsplit=2) if said else ("", "0", "the builder died")
    return OSError(int(number), text)


def _wait_for_end(init_pid: int, host_fd: int) -> NoReturn:
    """Wait for the end of init or of the host. At the host's end, init's PDEATHSIG kills init."""
    pidfd = os.pidfd_open(init_pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(host_fd, select.POLLIN)
    poll.poll()
    ready = {fd for fd, _ in poll.poll(0)}
    if host_fd not in ready:
        os.waitpid(init_pid, 0)
    os._exit(0)
