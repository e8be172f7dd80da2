"""Starts the spawner: a program of its own, with as little of the host's state as possible."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec
from sandbox_agent_ipc.channel import big_arguments, send_datagram
from sandbox_agent_ipc.messages import PROTOCOL, Build, InitFailed
from sandbox_agent_ipc.shortage import SHORTAGES, shortage_in

from sandbox_agent_sandbox.host.descriptors import Descriptor
from sandbox_agent_sandbox.host.process import Process
from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.interpreter import interpreter, parent_death_prefix
from sandbox_agent_sandbox.plan import Plan, PlanKind
from sandbox_agent_sandbox.steps import Step

_BEGIN = (
    # PR_SET_PDEATHSIG comes first: until then this process would outlive the host.
    "import ctypes; ctypes.CDLL(None).prctl(1, 9); "
    # A host that died before that sends no signal any more. Its pidfd, the last argument, shows it.
    "import select, sys; host = select.poll(); host.register(int(sys.argv[-1]), select.POLLIN); "
    "host.poll(0) and sys.exit(); "
    "sys.path[:0] = sys.argv.pop(1).split(chr(0x3a)); "
    # What is imported stays, so looking for garbage meanwhile finds none. `begin` turns it on.
    "import gc; gc.disable(); "
    "from sandbox_agent_sandbox import put_off; "
    "put_off.import_msgspec(); put_off.import_traceback(); "
)
_BOOT = f"""{_BEGIN}
from sandbox_agent_sandbox.inside import spawner
plan, host = spawner.begin(sys.argv[1:])
if plan.kind == "{PlanKind.NO_NAMESPACES}":
    from sandbox_agent_sandbox.inside.unshared import spawner
spawner.main(plan, host)
"""

_FOLLOW_LIMIT = 0.25
"""Seconds in which a spawner exits after its init."""


class Launch:
    """A running spawner: its process, the control socket, and its output."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, log: Descriptor
    ) -> None:
        self._process = process
        self.pid = process.pid
        self._pidfd = Descriptor(os.pidfd_open(process.pid))
        self._handle = Process(self._pidfd.number)
        self.control = control
        self._log = log

    @property
    def pidfd(self) -> int:
        """Readable once the spawner has ended."""
        return self._pidfd.number

    def send_plan(self, plan: Plan) -> None:
        """Say what to build. The spawner reads this before anything else. Raises OSError, and
        ChannelClosed if it has ended."""
        # In a file, for it may be longer than a datagram. It is sealed, like every such file.
        plan_file = Descriptor(big_arguments(msgspec.msgpack.encode(plan)))
        send_datagram(self.control, Build(PROTOCOL), [plan_file.number])

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
        try:
            self._process.wait(_FOLLOW_LIMIT)
        except subprocess.TimeoutExpired:
            self._handle.kill()
            self._process.wait()
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


def launch(board_fd: int) -> Launch:
    """Start the spawner, which waits for its plan. Call this from a thread that will outlive it.
    Raises OSError.

    Python runs isolated (-I) and without `site` (-S): no environment variable, no user module and
    no .pth file of the host has an effect on the processes outside the walls.
    """
    ours, their_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs = Descriptor(their_end.detach())
    try:
        ours.setblocking(False)  # a stopped init must not block the ladder
        log = Descriptor(os.memfd_create("sandbox-agent-spawner-log", os.MFD_CLOEXEC))
        host = Descriptor(os.pidfd_open(os.getpid()))
        passed = (theirs.number, board_fd, host.number)
        command = [*parent_death_prefix(), interpreter(), "-I", "-S", "-X", "utf8", "-c", _BOOT]
        process = subprocess.Popen(
            [*command, ":".join(import_roots()), *map(str, passed)],
            stdin=subprocess.DEVNULL,
            stdout=log.number,
            stderr=log.number,
            env={},
            cwd="/",
            pass_fds=passed,
        )
        try:
            return Launch(process, ours, log)
        except OSError:  # no descriptor is left for its pidfd
            process.kill()
            process.wait()
            raise
    except BaseException:
        ours.close()
        raise
    finally:
        # Else this copy of the spawner's end would keep the end of file from coming.
        theirs.close()


_FORBIDDEN = (
    "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1; on Ubuntu 24.04 and later"
    " kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that allows"
    " unshare"
)
_TOO_MANY = (
    "raise the limits of namespaces, which may be 0: sysctl -w user.max_user_namespaces=15000, and"
    " the other user.max_*_namespaces"
)
_KERNEL = "use a kernel with user, mount, pid, net, ipc, uts and cgroup namespaces"
_PROC = "in a container, unmask /proc (docker: --security-opt systempaths=unconfined)"
_OLD = "use Linux 5.12 or newer"
_GROUPS = (
    "let this user write its control groups (cgroup.max.descendants, memory.max), or leave"
    " limits.memory to init: run as an ordinary user"
)
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EDQUOT, errno.ECHILD)

_HINTS: dict[tuple[Step, int], str] = {
    (Step.NAMESPACES, errno.EPERM): _FORBIDDEN,
    (Step.NAMESPACES, errno.EACCES): _FORBIDDEN,
    (Step.NAMESPACES, errno.ENOSPC): _TOO_MANY,
    (Step.NAMESPACES, errno.EUSERS): _TOO_MANY,
    (Step.NAMESPACES, errno.EINVAL): _KERNEL,
    (Step.NAMESPACES, errno.ENOSYS): _KERNEL,
    (Step.MAPS, errno.EPERM): _FORBIDDEN,
    (Step.MAPS, errno.EACCES): _FORBIDDEN,
    (Step.NO_NESTING, errno.EACCES): _PROC,
    (Step.NO_NESTING, errno.EPERM): _PROC,
    (Step.NO_NESTING, errno.EROFS): _PROC,
    (Step.NO_NESTING, errno.ENOENT): _PROC,
    (Step.COPY, errno.ENOSPC): _TOO_MANY,
    (Step.COPY, errno.ENOSYS): _OLD,
    (Step.COPY, errno.EPERM): (
        "root needs CAP_SYS_ADMIN over its mount namespace (in a container: --privileged); run as"
        " an ordinary user where root has not"
    ),
    (Step.COPY, errno.EACCES): "take that path out of the policy, or let this user read it",
    (Step.COPY, errno.ENOENT): "it was there a moment ago: run again",
    (
        Step.COPY,
        errno.EINVAL,
    ): "take that path out of the policy: its mount is locked",
    (Step.VIEW, errno.ENOENT): "it was there a moment ago: run again",
    (Step.VIEW, errno.EPERM): _PROC,
    (Step.VIEW, errno.ENOSYS): _OLD,
    (Step.VIEW, errno.ENOSPC): "raise sandbox.limits.tmp, or the number of mounts (fs.mount-max)",
    (Step.GROUPS, errno.EACCES): _GROUPS,
    (Step.GROUPS, errno.EPERM): _GROUPS,
    (Step.GROUPS, errno.ENOSPC): _GROUPS,
    (Step.CALL_GROUPS, errno.ENODEV): "something removed its control group: run again",
    (Step.CALL_NAMESPACES, errno.ENOSPC): _TOO_MANY,
    (Step.CALL_NAMESPACES, errno.EUSERS): _TOO_MANY,
    (Step.CALL_PROC, errno.EPERM): _PROC,
}
"""The hint for what a host refuses, by step and errno. What a host has run out of is in SHORTAGES;
ENOSPC has a meaning of its own at each step. unshare(2), mount(2), mount_setattr(2)."""


def why_failed(step: str, reason: str, number: int, hint: str = "") -> str:
    """What a failed step means, with the one hint that is right for it, where there is one.

    number: the errno, 0 for none. hint: where the step itself knows better.
    """
    if number in _SCARCE and not hint:
        return f"cannot {step}: {SHORTAGES[number]}"
    reason = reason.removeprefix(f"[Errno {number}] ") or os.strerror(number)
    with suppress(ValueError):  # a step of another version
        hint = hint or _HINTS.get((Step(step), number), "")
    if hint is _TOO_MANY:  # and not what strerror(3) says of ENOSPC and EUSERS
        reason = "too many namespaces"
    return f"cannot {step}: {reason}; hint: {hint}" if hint else f"cannot {step}: {reason}"


def explain(failed: InitFailed) -> str:
    """The message for a sandbox that could not be built."""
    why = why_failed(failed.step, failed.reason, failed.number, failed.hint)
    more = (
        "" if failed.number in _SCARCE else " (`sandbox-agent doctor` shows what this host can do)"
    )
    return f"the sandbox cannot be built: {why}{more}"
