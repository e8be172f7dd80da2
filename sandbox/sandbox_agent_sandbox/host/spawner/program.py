"""The program that a spawner is: its command line, and one that is started before anything else.

Python runs isolated (-I) and without `site` (-S): no environment variable, no user module and no
.pth file of the host has an effect on the processes outside the walls.

This module imports next to nothing: while `exec` imports the rest, the spawner does, too.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` imports enum
import _socket  # `socket` imports selectors and enum
import os
from contextlib import suppress

from sandbox_agent_ipc.errors import SandboxAgentError

from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.interpreter import interpreter, parent_death_prefix

BOOT = (
    # PR_SET_PDEATHSIG comes first: until then this process would outlive the host.
    "import ctypes; ctypes.CDLL(None).prctl(1, 9); "
    # A host that died before that sends no signal any more. Its pidfd, the last argument, shows it.
    "import select, sys; host = select.poll(); host.register(int(sys.argv[-1]), select.POLLIN); "
    "host.poll(0) and sys.exit(); "
    "import os; os.chdir('/'); "
    "sys.path[:0] = sys.argv.pop(1).split(chr(0x3a)); "
    # What is imported stays, so looking for garbage meanwhile finds none. `begin` turns it on.
    "import gc; gc.disable(); "
    "from sandbox_agent_sandbox import put_off; "
    "put_off.import_msgspec(); put_off.import_traceback(); "
    """
from sandbox_agent_sandbox.inside import spawner
plan, host = spawner.begin(sys.argv[1:])
if plan.kind == spawner.PlanKind.NO_NAMESPACES:
    from sandbox_agent_sandbox.inside.unshared import spawner
spawner.main(plan, host)
"""
)


def command_line(control: int, host: int) -> list[str]:
    """Starts a spawner. control: its end of the control socket. host: a pidfd of this process."""
    python = [*parent_death_prefix(), interpreter(), "-I", "-S", "-X", "utf8", "-c", BOOT]
    return [*python, ":".join(import_roots()), str(control), str(host)]


class Early:
    """A spawner that was started by this process's main thread, while that was the only one.

    pid, pidfd: of the spawner. control: the host's end of the control socket. log: where its output
    is. Whoever takes it closes the descriptors.
    """

    def __init__(self, pid: int, pidfd: int, control: int, log: int) -> None:
        self.pid, self.pidfd, self.control, self.log = pid, pidfd, control, log


_early: list[Early] = []


def start_early() -> None:
    """Start a spawner now, for the first sandbox that this process makes. `take_early` gives it.

    For the beginning of a command's main thread, which is still alone. Where it cannot be started,
    nothing happens: the sandbox starts one, and says why that fails.
    """
    with suppress(OSError, SandboxAgentError):
        _early.append(_start())


def take_early() -> Early | None:
    """The spawner that was started early, once."""
    return _early.pop() if _early else None


def end_early() -> None:
    """End a spawner that was started early, if no sandbox took it."""
    spawner = take_early()
    if spawner is not None:
        os.kill(spawner.pid, _signal.SIGKILL)  # a child that nobody has waited for: it is itself
        with suppress(ChildProcessError):  # SIGCHLD was inherited as ignored
            os.waitpid(spawner.pid, 0)
        for fd in (spawner.pidfd, spawner.control, spawner.log):
            os.close(fd)


def _start() -> Early:
    opened: list[int] = []
    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        opened += (control := ours.detach(), their_control := theirs.detach())
        opened.append(log := os.memfd_create("sandbox-agent-spawner-log", os.MFD_CLOEXEC))
        opened.append(host := os.pidfd_open(os.getpid()))
        if min(opened) <= 2:
            raise OSError("a standard descriptor is closed")
        handed_on = [fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_handed_on(fd)]
        passed = max(opened) + 1, max(opened) + 2
        command = command_line(*passed)
        pid = os.posix_spawn(
            command[0],
            command,
            {},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in handed_on if fd > 2),
                (os.POSIX_SPAWN_DUP2, their_control, passed[0]),
                (os.POSIX_SPAWN_DUP2, host, passed[1]),
            ],
            # As in the thread that starts others: what the process group gets is not for it.
            setsigmask=_signal.valid_signals(),
        )
        opened.append(pidfd := os.pidfd_open(pid))
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    os.close(their_control)
    os.close(host)
    os.set_blocking(control, False)
    return Early(pid, pidfd, control, log)


def _is_handed_on(fd: int) -> bool:
    """Whether a program that is started would have it."""
    try:
        return os.get_inheritable(fd)
    except OSError:  # of the listing itself
        return False
