"""Commands: each starts in its own process group, gets SIGINT at the flag, and is waited for
without polling.

By posix_spawn(3) and not subprocess: it resets dispositions and mask in the child, reports a failed
exec as an errno, and spares every call the import of subprocess.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import msgspec
from sandbox_agent_ipc.shortage import is_shortage
from sandbox_agent_ipc.token import LOST_WAKE_PAUSE, CallToken, Cancelled, CancelToken

from sandbox_agent_sandbox.inside.worker.tool_result import (
    CannotStart,
    CommandCancelled,
    ToolError,
    ToolResult,
    encode_argument,
)

_MAX_ARGUMENT = 128 * 1024
"""Bytes. MAX_ARG_STRLEN: execve(2) refuses a single argument of this length, its NUL included."""

_SCRIPT_FD = 9
"""The descriptor of a command that is too long for an argument: the highest that any sh accepts."""

_RESET = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}

_SHIELDED = frozenset(signal.valid_signals()) - {
    signal.SIGTERM,  # of the ladder
    signal.SIGURG,  # the poke after it
    signal.SIGCHLD,
    signal.SIGCONT,
    *(signal.SIGKILL, signal.SIGSTOP),
    # Faults of this process, and limits that it is over.
    *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV),
    *(signal.SIGSYS, signal.SIGTRAP, signal.SIGXCPU, signal.SIGXFSZ),
}
"""What cannot reach the worker while it waits for a command: `kill -INT -1` and `kill -HUP $PPID`
of the command would end the worker before it has reported. system(3) ignores SIGINT and SIGQUIT for
the same reason."""

Seconds = Annotated[float, msgspec.Meta(gt=0)]


def shell(
    command: str,
    timeout: Seconds | None = None,
    stdin: str | None = None,
    *,
    token: CancelToken,
) -> ToolResult:
    """Run a shell command with bash in the working folder; you get its output and exit status.

    Every call is a new shell: `cd` and variables do not last. When the call ends, all processes
    that it started are ended too, those in the background included.

    Args:
        command: The command, as for `bash -c`.
        timeout: Seconds after which the command is stopped.
        stdin: Text for the command's standard input, which is empty otherwise.
    """
    # The host reads `timeout` from the arguments and sets the ladder's timer: what runs in here
    # could stop a timer in here.
    if not command.strip():
        raise ToolError("command is empty; give a shell command, for instance `ls -l`")
    script = encode_argument("command", command)
    if b"\0" in script:
        raise ToolError(
            f"command has a NUL byte at offset {script.index(0)}, which no command can hold; "
            "write the bytes with printf '\\0' in the command, or to a file"
        )
    _check_cwd()
    inherited = {0: _stdin_file(stdin)}
    try:
        if len(script) >= _MAX_ARGUMENT:
            inherited[_SCRIPT_FD] = _memfd_with("command", script)
            script = f". /proc/self/fd/{_SCRIPT_FD}".encode()
        return _run(lambda: _start_shell(script, inherited), token)
    finally:
        for fd in inherited.values():
            os.close(fd)


def exec_argv(argv: list[str], cwd: str | None = None, *, token: CancelToken) -> ToolResult:
    """Run one program with its arguments, without a shell; found in PATH. Its standard input is the
    worker's own.

    As in sh, the exit status is 127 for a program that is not there and 126 for one that cannot be
    executed, with a message on standard error.

    Args:
        argv: The program and its arguments.
        cwd: The folder that it begins in; by default the working folder.
    """
    if not argv or not argv[0]:
        raise ToolError("argv is empty; its first item is the program")
    arguments = [encode_argument("argv", item) for item in argv]
    if any(b"\0" in item for item in arguments):
        raise ToolError("argv has an item with a NUL byte, which no argument can hold")
    if cwd is not None:
        _change_folder(cwd)
    null = _stdin_file(None)

    def start() -> int:
        pid = _spawn(arguments, {})
        # The command alone holds its standard input: whoever fills it gets EPIPE once the command
        # has closed it.
        os.dup2(null, 0)
        return pid

    try:
        return _run(start, token)
    except OSError as error:
        if is_shortage(error):
            raise CannotStart(argv[0], error) from error
        os.write(2, f"{argv[0]}: {os.strerror(error.errno or 0)}\n".encode(errors="replace"))
        status = 127 if error.errno == errno.ENOENT else 126
        return ToolResult("", is_error=True, exit_status=status)
    finally:
        os.close(null)


class _Child(msgspec.Struct):
    """A started command, the leader of its process group.

    pidfd: readable once it has ended. None if no descriptor was free: the command already runs
    when it is opened, and may have lowered its worker's limit (`prlimit --pid $PPID --nofile=0`).
    interrupted: its group has got SIGINT.
    """

    pid: int
    pidfd: int | None
    interrupted: bool = False

    def interrupt(self) -> None:
        """SIGINT to its group, once: a second one could end a command that is tidying up."""
        if self.interrupted:
            return
        self.interrupted = True
        # The group's id cannot be reused yet: its leader is not reaped.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGINT)


def _run(start: Callable[[], int], token: CancelToken) -> ToolResult:
    """Start a command and wait for its end, not for that of its background processes.

    Raises CommandCancelled when SIGTERM came meanwhile, after the command has ended. The signals in
    _SHIELDED stay blocked: what the command sent must not strike afterwards.
    """
    cancelled: Cancelled | None = None
    child: _Child | None = None
    # SIGTERM's handler raises. It must not do so between the fork and our record of the child.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SHIELDED | {signal.SIGTERM})
    try:
        pid = start()
        pidfd = None
        with suppress(OSError):
            pidfd = os.pidfd_open(pid)
        child = _Child(pid, pidfd)
    finally:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        except Cancelled as reason:
            if child is None:
                raise
            cancelled = reason
    while True:
        try:
            _wait_for_exit(child, token)
            # Nor may it raise before waitpid(2) has returned the status.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            break
        except Cancelled as reason:
            # SIGTERM has gone to every process in the namespace. The command may be cleaning up.
            # If this worker left, the command would die with its namespace. So wait for its end,
            # or for the SIGKILL that ends the namespace.
            cancelled = reason
    status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    if child.pidfd is not None:
        os.close(child.pidfd)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    except Cancelled as reason:
        cancelled = reason
    if cancelled is not None:
        raise CommandCancelled(cancelled.reason, status) from cancelled
    return ToolResult("", is_error=status != 0, exit_status=status)


def _wait_for_exit(child: _Child, token: CancelToken) -> None:
    """Sleep until the command ends. At the flag its process group gets SIGINT, as from Ctrl-C."""
    if child.pidfd is None:
        _wait_without_descriptors(child, token)
        return
    poller = select.poll()
    poller.register(child.pidfd, select.POLLIN)
    wake = token.wake_fd if isinstance(token, CallToken) else -1
    if wake >= 0:
        poller.register(wake, select.POLLIN)
    pause: float | None = None
    while True:
        try:
            ready = {fd for fd, _ in poller.poll(pause)}
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # RLIMIT_NOFILE is now lower than the number of descriptors to look at. poll(2)
            _wait_without_descriptors(child, token)
            return
        if child.pidfd in ready:
            return
        if wake in ready:
            # The wake pipe is never drained, so it would stay readable.
            poller.unregister(wake)
        pause = LOST_WAKE_PAUSE * 1000
        if token.is_cancelled:
            pause = None
            child.interrupt()


def _wait_without_descriptors(child: _Child, token: CancelToken) -> None:
    """As `_wait_for_exit`, by SIGCHLD, and by a look at the flag every LOST_WAKE_PAUSE seconds: a
    wake-up through a descriptor cannot be waited for."""
    # A blocked signal is kept although its default is to be ignored. sigtimedwait(2)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if token.is_cancelled:
                child.interrupt()
            signal.sigtimedwait({signal.SIGCHLD}, LOST_WAKE_PAUSE)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _start_shell(script: bytes, inherited: dict[int, int]) -> int:
    try:
        return _spawn([b"bash", b"-c", script], inherited)
    except FileNotFoundError:
        pass
    except OSError as error:
        if is_shortage(error):
            raise CannotStart("bash", error) from error
        raise ToolError(f"bash cannot be started: {error.strerror}") from error
    try:
        return _spawn([b"sh", b"-c", script], inherited)
    except OSError as error:
        if is_shortage(error):
            raise CannotStart("sh", error) from error
        raise ToolError(
            f"neither bash nor sh can be started ({error.strerror}); "
            f"PATH is {os.environ.get('PATH', 'not set')!r}"
        ) from error


def _spawn(argv: list[bytes], inherited: dict[int, int]) -> int:
    """posix_spawnp(3) as a new process group's leader. inherited: its descriptor -> ours."""
    os.close(os.dup(0))  # the pidfd of a command that runs needs a free descriptor
    return os.posix_spawnp(
        argv[0],
        argv,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in inherited.items()],
        setpgroup=0,
        # Python ignores SIGPIPE and SIGXFSZ, and the mask holds what `_run` blocks. The command
        # must have neither: `yes | head` would fail, and SIGTERM would not end it.
        setsigmask=[],
        setsigdef=_RESET,
    )


def _stdin_file(text: str | None) -> int:
    if text is None:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    return _memfd_with("stdin", encode_argument("stdin", text))


def _memfd_with(name: str, data: bytes) -> int:
    """A memfd that holds data, positioned at its start: it needs no writer and cannot deadlock."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError as error:
        os.close(fd)
        raise ToolError(
            f"{name} of {len(data)} bytes cannot be stored: {error.strerror}"
        ) from error
    return fd


def _change_folder(folder: str) -> None:
    try:
        os.chdir(encode_argument("cwd", folder))
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise ToolError(f"cannot enter {folder!r}: {what}") from error


def _check_cwd() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise ToolError(
            f"the working folder does not exist any more ({error.strerror}); create it first"
        ) from error
