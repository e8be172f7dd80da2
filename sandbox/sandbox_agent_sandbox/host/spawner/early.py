"""A spawner that a command starts in its first moments, so that both import what they need at the
same time.

`exec` forks it: it has one thread then, and nothing in its memory but what Python begins with. The
child forgets the environment and the arguments (see `forked`). `run` starts the program that every
other spawner is, since tools of users are to find a new Python.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` imports enum
import _socket  # `socket` imports selectors and enum
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from sandbox_agent_sandbox.host.spawner.program import command_line


class Early:
    """A spawner that was started by this process's main thread, while that was the only one.

    pid, pidfd: of the spawner. control: the host's end of the control socket. log: where its output
    is. Whoever takes it closes the descriptors.
    """

    def __init__(self, pid: int, pidfd: int, control: int, log: int) -> None:
        self.pid, self.pidfd, self.control, self.log = pid, pidfd, control, log


_early: list[Early] = []

spawners: set[int] = set()
"""The pids of this process's spawners. They end by this process's end, and by no SIGTERM."""


def start_early(*, forked: bool) -> None:
    """Start a spawner now, for the first sandbox that this process makes. `take_early` gives it.

    For the beginning of a command's main thread, which is still alone. forked: as a fork, see
    `forked`; else as a new program. Where it cannot be started, nothing happens: the sandbox starts
    a new one, and says why that fails.
    """
    with suppress(Exception):
        _early.append(_start(_fork if forked else _spawn))


def take_early() -> Early | None:
    """The spawner that was started early, once."""
    return _early.pop() if _early else None


def end_early() -> None:
    """End a spawner that was started early, if no sandbox took it."""
    spawner = take_early()
    if spawner is not None:
        spawners.discard(spawner.pid)
        _end(spawner.pid)
        for fd in (spawner.pidfd, spawner.control, spawner.log):
            os.close(fd)


def _start(begin: Callable[[int, int, int], int]) -> Early:
    """begin: starts it, with its end of the control socket, a pidfd of this process, and the log.
    Returns its pid."""
    opened: list[int] = []
    pid, before = 0, None
    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        opened += (control := ours.detach(), their_control := theirs.detach())
        opened.append(log := os.memfd_create("sandbox-agent-spawner-log", os.MFD_CLOEXEC))
        opened.append(host := os.pidfd_open(os.getpid()))
        if min(opened) <= 2:
            raise OSError("a standard descriptor is closed")
        # As in the thread that starts others: what the process group gets is not for it.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        pid = begin(their_control, host, log)
        opened.append(pidfd := os.pidfd_open(pid))
    except BaseException:
        if pid:
            _end(pid)
        for fd in opened:
            os.close(fd)
        raise
    finally:
        if before is not None:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    spawners.add(pid)
    os.close(their_control)
    os.close(host)
    os.set_blocking(control, False)
    return Early(pid, pidfd, control, log)


def _spawn(control: int, host: int, log: int) -> int:
    """As a new program. Not by posix_spawn(3), where a child that something stops before its exec
    stops this process, too."""
    words = command_line(control, host)
    pid = os.fork()
    if pid == 0:
        try:
            _keep_only(control, host, log)
            for fd in (control, host):
                os.set_inheritable(fd, True)
            os.chdir("/")
            os.execve(words[0], words, {})
        finally:
            os._exit(127)
    return pid


def _fork(control: int, host: int, log: int) -> int:
    """As a fork of this process."""
    words = _arguments_and_environment()
    _import_what_both_need()
    if len(os.listdir("/proc/self/task")) > 1:
        raise OSError("something of the host has started a thread")
    pid = os.fork()
    if pid == 0:
        _be_spawner(control, host, log, words)
    return pid


def _keep_only(control: int, host: int, log: int) -> None:
    """Close all other descriptors of a child."""
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    low = 3
    for fd in sorted((control, host)):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, max(map(int, os.listdir("/proc/self/fd"))) + 1)


def _end(pid: int) -> None:
    os.kill(pid, _signal.SIGKILL)  # a child that nobody has waited for: it is itself
    with suppress(ChildProcessError):  # SIGCHLD was inherited as ignored
        os.waitpid(pid, 0)


def _import_what_both_need() -> None:
    """What takes longest of it. Each import here is one for two processes."""
    from sandbox_agent_sandbox.put_off import import_msgspec, import_socket

    import_msgspec()
    import_socket()
    # The first draws in the messages.
    from sandbox_agent_ipc import channel  # noqa: F401

    from sandbox_agent_sandbox import plan  # noqa: F401


def _arguments_and_environment() -> tuple[int, int, int]:
    """Where they are in memory: the address of the arguments, their end, and the end of the
    environment, which follows. Raises OSError where they could not be overwritten.
    proc_pid_stat(5)"""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    begin, end, environment, last = (int(field) for field in fields[45:49])
    if sys.implementation.name != "cpython" or not 0 < begin < end <= environment < last:
        raise OSError("what this process was started with could not be overwritten")
    return begin, end, last


def _be_spawner(control: int, host: int, log: int, words: tuple[int, int, int]) -> NoReturn:
    """In the child. words: see `_arguments_and_environment`."""
    try:
        _keep_only(control, host, log)
        from sandbox_agent_sandbox.host.spawner.forked import be_spawner

        be_spawner(control, host, words)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        sys.__excepthook__(*sys.exc_info())  # into the log
        sys.stderr.flush()
    finally:
        os._exit(1)
