"""The spawner: exec'ed clean by the host's ladder thread, one per sandbox, single-threaded.

It stays in the host's namespaces as the parent of the sandbox's init, writes the id maps (only a
process of the parent user namespace may), and dies with the host's thread (PR_SET_PDEATHSIG, which
also reaches it while it is stopped). It ignores INT, TERM and HUP: Jenkins and systemd terminate
descendants first, and the ladder, not the spawner, decides when work ends.

    host -> spawner -> (builder, gone once init is born) -> init

The builder exists because a pid namespace begins with the *child* of whoever unshared it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from typing import NoReturn

import msgspec
from sandbox_agent_ipc.channel import send_datagram
from sandbox_agent_ipc.messages import PROTOCOL, InitBorn, InitFailed

from sandbox_agent_sandbox.inside import init
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.fork_apart import fork_apart

# What workers use is imported before the first fork: afterwards every process shares its pages.
from sandbox_agent_sandbox.inside.walls.idmap import NoUserNamespace
from sandbox_agent_sandbox.inside.walls.mounts import open_trees
from sandbox_agent_sandbox.inside.walls.namespaces import become, enter_namespaces, write_maps
from sandbox_agent_sandbox.inside.worker import invoke  # noqa: F401
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.steps import Step

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StepFailed(Exception):
    """A step of building the sandbox failed; `step` is told to the host."""

    def __init__(self, step: Step, error: BaseException) -> None:
        super().__init__(str(error))
        self.step = step


def main(arguments: list[str]) -> None:
    """Build one sandbox and wait for its end.

    arguments: four inherited descriptors: the plan (a file), the control socket, the cancel
    board, a pidfd of the host.
    """
    plan_fd, control_fd, board_fd, host_fd = (int(argument) for argument in arguments)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    syscalls.set_process_name("sandbox-spawner")
    signal.pthread_sigmask(signal.SIG_SETMASK, set())  # the thread that started us blocks all
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.setsid()  # before any fork_apart, whose orphans nobody's session may then adopt
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    control = socket.socket(fileno=control_fd)
    for fd in (plan_fd, control_fd, board_fd, host_fd):
        os.set_inheritable(fd, False)
    with os.fdopen(plan_fd, "rb") as file:
        plan = msgspec.msgpack.decode(file.read(), type=Plan)
    gc.collect()
    gc.freeze()
    try:
        init_pid = _give_birth(plan, control, board_fd, host_fd)
    except StepFailed as failure:
        send_datagram(control, InitFailed(PROTOCOL, failure.step, str(failure)))
        sys.exit(1)
    control.close()
    os.close(board_fd)
    _outlive(init_pid, host_fd)


def _give_birth(plan: Plan, control: socket.socket, board_fd: int, host_fd: int) -> int:
    """Make the sandbox's init and let it go on once the host holds its pidfd."""
    try:
        trees = open_trees(plan) if os.geteuid() == 0 else None
    except NoUserNamespace as error:
        raise StepFailed(Step.NAMESPACES, error) from error
    except OSError as error:
        raise StepFailed(Step.COPY, error) from error
    told, maps, go = os.pipe(), os.pipe(), os.pipe()
    builder = fork_apart()
    if builder == 0:
        for fd in (told[0], maps[1], go[1]):
            os.close(fd)
        _builder(plan, trees, told[1], maps[0], go[0], control, board_fd, host_fd)
    os.close(told[1])
    os.close(maps[0])
    os.close(go[0])
    for tree in trees or ():
        os.close(tree)
    said = os.read(told[0], 4096)
    if said != b"unshared":
        os.waitpid(builder, 0)
        raise StepFailed(Step.NAMESPACES, OSError(said.decode() or "the builder died"))
    try:
        write_maps(builder, plan.identity)
    except OSError as error:
        os.close(maps[1])
        os.waitpid(builder, 0)
        raise StepFailed(Step.MAPS, error) from error
    os.write(maps[1], b"x")
    said = os.read(told[0], 4096)
    if not said.isdigit():
        os.waitpid(builder, 0)
        raise StepFailed(Step.INIT, OSError(said.decode() or "the builder died"))
    init_pid = int(said)
    pidfd = os.pidfd_open(init_pid)
    # Once the builder is reaped, init's parent is this process (a subreaper), and only then may
    # init set its parent-death signal: set earlier, it would fire at the builder's own exit.
    os.close(maps[1])
    os.waitpid(builder, 0)
    send_datagram(control, InitBorn(PROTOCOL), (pidfd,))
    os.close(pidfd)
    os.write(go[1], b"x")
    for fd in (told[0], go[1]):
        os.close(fd)
    return init_pid


def _die_with_parent() -> None:
    """Again after each change of credentials, which takes it back. PR_SET_PDEATHSIG(2const)."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _builder(
    plan: Plan,
    trees: list[int] | None,
    told: int,
    maps: int,
    go: int,
    control: socket.socket,
    board_fd: int,
    host_fd: int,
) -> NoReturn:
    """Enter the namespaces, fork init, report its pid, wait to be let go."""
    try:
        enter_namespaces(plan.network)
        _die_with_parent()
        os.write(told, b"unshared")
        if not os.read(maps, 1):
            os._exit(1)
        become(plan.identity)
        _die_with_parent()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.close(maps)
            init.main(plan, trees, go, control, board_fd, host_fd)
        os.write(told, str(pid).encode())
        os.read(maps, 1)  # the spawner holds a pidfd of init by now
    except OSError as error:
        os.write(told, f"failed: {error}".encode())
    finally:
        os._exit(0)


def _outlive(init_pid: int, host_fd: int) -> None:
    """Wait for init's end, or the host's: the host's death takes init along (its PDEATHSIG)."""
    pidfd = os.pidfd_open(init_pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(host_fd, select.POLLIN)
    poll.poll()
    ready = {fd for fd, _ in poll.poll(0)}
    if host_fd not in ready:
        os.waitpid(init_pid, 0)
    os._exit(0)
