"""Starts the spawner: a program of its own, with as little of the host's state as possible."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
from sandbox_agent_ipc.channel import big_arguments, send_datagram
from sandbox_agent_ipc.messages import PROTOCOL, Build
from sandbox_agent_ipc.shortage import shortage_in

from sandbox_agent_sandbox.host.descriptors import Descriptor
from sandbox_agent_sandbox.host.process import Process
from sandbox_agent_sandbox.host.spawner.early import spawners, take_early
from sandbox_agent_sandbox.host.spawner.program import command_line
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.steps import Step

_FOLLOW_LIMIT = 0.25
"""Seconds in which a spawner exits after its init."""


class Launch:
    """A running spawner: its process, the control socket, and its output. wait: reaps it, and
    waits for its end if need be."""

    def __init__(
        self,
        pid: int,
        pidfd: Descriptor,
        control: socket.socket,
        log: Descriptor,
        wait: Callable[[], object],
    ) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._handle = Process(pidfd.number)
        self.control = control
        self._log = log
        self._wait = wait

    @property
    def pidfd(self) -> int:
        """Readable once the spawner has ended."""
        return self._pidfd.number

    def send_plan(self, plan: Plan, board_fd: int) -> None:
        """Say what to build. The spawner reads this before anything else. board_fd: of the cancel
        board. Raises OSError, and ChannelClosed if it has ended."""
        # In a file, for it may be longer than a datagram. It is sealed, like every such file.
        plan_file = Descriptor(big_arguments(msgspec.msgpack.encode(plan)))
        send_datagram(self.control, Build(PROTOCOL), [plan_file.number, board_fd])

    def last_words(self) -> str:
        """Why the spawner died, by the last line that it wrote; of a traceback, the exception."""
        size = os.fstat(self._log.number).st_size
        text = os.pread(self._log.number, 4000, max(0, size - 4000)).decode(errors="replace")
        lines = text.strip().splitlines()
        fatal = (line for line in lines if line.startswith("Fatal Python error"))
        said = next(fatal, lines[-1] if lines else "")
        short = next(filter(None, map(shortage_in, [*reversed(lines[-3:]), said])), None)
        if short is not None:
            return f"cannot {Step.START}: {short}"
        if said:
            return f"the sandbox's spawner died: {said}"
        name = self._death_signal()
        if not name:
            return "the sandbox's spawner died and left no message"
        hint = "look for who sent it"
        if name == "SIGKILL":
            hint += ", or whether memory ran out (dmesg)"
        elif name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"):
            hint = "Python failed: look for low limits (ulimit -d, -s, -v) or a damaged Python"
        return f"the sandbox's spawner was ended by {name}; hint: {hint}"

    def _death_signal(self) -> str:
        """The signal that ended the spawner, or "". It is not reaped here: see `reap`."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with suppress(OSError):
            end = os.waitid(os.P_PIDFD, self._pidfd.number, flags)
            if end is not None and end.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
                return signal.Signals(end.si_status).name
        return ""

    def kill(self) -> None:
        """SIGKILL to the spawner and to the processes that it started, before init has come.

        A process that it starts at this very moment waits for the spawner, reads an end of file,
        and exits.
        """
        self._handle.kill_tree(_FOLLOW_LIMIT)

    def reap(self) -> None:
        """Wait for the spawner, which exits after its init. Kill it if it is stopped or stuck."""
        with suppress(OSError):
            self.control.close()
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        if not ended.poll(_FOLLOW_LIMIT * 1000):
            self._handle.kill()
        spawners.discard(self.pid)
        self._wait()
        self._log.close()
        self._pidfd = Descriptor(-1)


def kill_before_exec(thread: int) -> None:
    """SIGKILL to a spawner that a thread is still starting. thread: its native id.

    A spawner that is stopped between fork and exec blocks `launch` for as long as it is stopped.
    vfork(2). No handle of it exists yet, but it is the thread's only child. If the kernel does not
    list children (CONFIG_PROC_CHILDREN), nothing happens.
    """
    children = Path(f"/proc/self/task/{thread}/children")
    with suppress(OSError):
        for pid in map(int, children.read_text().split()):
            pidfd = Descriptor(os.pidfd_open(pid))
            # If it is still listed, the pidfd is of this very child: no other code reaps it.
            if str(pid) in children.read_text().split():
                signal.pidfd_send_signal(pidfd.number, signal.SIGKILL)
            pidfd.close()


def launch() -> Launch:
    """A spawner that waits for its plan: the one that was started early, or a new one. Call this
    from a thread that will outlive it. Raises OSError."""
    early = take_early()
    if early is None:
        return _launch()
    control = socket.socket(fileno=early.control)
    ends = Descriptor(early.pidfd), control, Descriptor(early.log)
    return Launch(early.pid, *ends, partial(_reap, early.pid))


def _launch() -> Launch:
    # Here, since a command that has started its spawner early needs none of it.
    import subprocess

    ours, their_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs = Descriptor(their_end.detach())
    try:
        ours.setblocking(False)  # a stopped init must not block the ladder
        log = Descriptor(os.memfd_create("sandbox-agent-spawner-log", os.MFD_CLOEXEC))
        host = Descriptor(os.pidfd_open(os.getpid()))
        process = subprocess.Popen(
            command_line(theirs.number, host.number),
            stdin=subprocess.DEVNULL,
            stdout=log.number,
            stderr=log.number,
            env={},
            cwd="/",
            pass_fds=(theirs.number, host.number),
        )
        spawners.add(process.pid)
        try:
            pidfd = Descriptor(os.pidfd_open(process.pid))
        except OSError:  # no descriptor is left
            spawners.discard(process.pid)
            process.kill()
            process.wait()
            raise
        return Launch(process.pid, pidfd, ours, log, process.wait)
    except BaseException:
        ours.close()
        raise
    finally:
        # Else this copy of the spawner's end would keep the end of file from coming.
        theirs.close()


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # the embedding program ignores SIGCHLD, or reaps all
        os.waitpid(pid, 0)
