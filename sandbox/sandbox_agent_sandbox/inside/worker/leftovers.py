"""The processes that are still there when a call's tool has returned.

The call ends with its tool, and then its pid namespace is killed. But what still holds the call's
output may be about to finish: bash waits neither for `>(gzip > file)` nor for `command &`. So those
processes get a moment, and what ends with the call is reported.
"""

from __future__ import annotations

import gc
import io
import os
import select
import sys
import time
from collections.abc import Callable, Container
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sandbox_agent_ipc.token import CallToken

if TYPE_CHECKING:
    from threading import Thread

PATIENCE = 2.0
"""Seconds that the holders of the call's output get at most."""

_LOOK = 0.05
"""Seconds between two looks: a daemon may close its output and stay."""

_NAMED = 8
"""How many processes are named."""

_NAME = 100
"""Bytes of a command that are reported."""

_EXEC = 0.05
"""Seconds for processes in the middle of execve(2): their arguments cannot be read yet."""

_HELPERS = (
    b"from multiprocessing.resource_tracker import",
    b"from multiprocessing.forkserver import",
)
"""Python's own helpers, which end with the process that started them: the worker."""


def wait(token: CallToken, others: Callable[[], list[int]]) -> tuple[tuple[str, ...], int]:
    """Wait until no other process of this call holds its output, at most PATIENCE, and no longer
    than the call's own time or the flag allows. others: finds them.

    Returns the commands of the processes that are left, at most _NAMED of them, and their number.
    """
    left_over = others()
    if not left_over:
        return (), 0
    left, outputs = _patience(token), _outputs()
    while left_over:
        holder = next((pid for pid in left_over if _holds(pid, outputs)), None)
        if holder is None or left <= 0 or token.is_cancelled:
            break
        begin = time.monotonic()
        _wait_a_little(holder)
        # A standstill of all processes (SIGSTOP) costs one look.
        left -= min(time.monotonic() - begin, 2 * _LOOK)
        left_over = others()
    until = time.monotonic() + _EXEC
    commands = [_command(pid, until) for pid in left_over[:_NAMED]]
    return tuple(command for command in commands if command), len(left_over)


def finish_python(token: CallToken, own: Container[int]) -> None:
    """What the interpreter does at its end, and this process does not, for a Python tool: wait for
    its threads, here PATIENCE at most, and flush what they printed and the files it left open.

    own: this process's own descriptors, which are no files of the tool.
    """
    begin, left, threading = time.monotonic(), _patience(token), sys.modules.get("threading")
    going = _threads(threading) if threading is not None and not token.is_cancelled else []
    if going:
        while going and not token.is_cancelled and time.monotonic() - begin < left:
            going[0].join(_LOOK)
            going = [thread for thread in going if thread.is_alive()]
        flush_streams()
    if going:
        names = ", ".join(ascii(thread.name)[1:-1][:_NAME] for thread in going[:_NAMED])
        threads = "1 thread was" if len(going) == 1 else f"{len(going)} threads were"
        _say(f"{threads} still at work when the tool returned, and ended with the call: {names}")
    kinds = {io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom}
    failed: set[int] = set()  # a text file has a buffered one, which comes before it or after it
    for one in gc.get_objects() if _has_files(own) else ():  # which takes some milliseconds
        if type(one) in kinds:
            number = -1
            try:
                if not one.closed and (number := one.fileno()) > 2 and number not in failed:
                    one.flush()
            except io.UnsupportedOperation:
                pass  # it has no descriptor
            except (OSError, ValueError) as error:
                failed.add(number)
                _say(f"what the tool wrote to {one.name!r} is lost: {error}")


def flush_streams() -> None:
    """Write out what a Python tool has printed. Once the host has the result, it may end this
    process at any moment."""
    # A tool can put any object in their place.
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    for stream in {id(stream): stream for stream in streams}.values():
        try:
            if hasattr(stream, "flush") and not getattr(stream, "closed", False):
                stream.flush()
        except Exception as error:
            _say(f"what the tool printed is lost: {type(error).__name__}")


def _patience(token: CallToken) -> float:
    if token.deadline is None:
        return PATIENCE
    return min(PATIENCE, token.deadline - time.monotonic() - 2 * _LOOK)


def _has_files(own: Container[int]) -> bool:
    """Whether a file is open, in any way but as one of the standard streams."""
    try:
        open_now = os.listdir("/proc/self/fd")
    except OSError:
        return True  # the tool has used up the descriptors, or has lowered their limit
    for fd in open_now:
        if int(fd) <= 2 or int(fd) in own:
            continue
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if not target.startswith(("pipe:", "socket:", "anon_inode:", "/memfd:", "/proc/")):
                return True
    return False


def _threads(threading: ModuleType) -> list[Thread]:
    """Those that the interpreter waits for, without idle threads of a pool."""
    for kind in ("thread", "process"):
        pools = sys.modules.get(f"concurrent.futures.{kind}")
        if pools is not None:
            # It tells the pools to end, and joins their threads.
            with suppress(RuntimeError, MemoryError):  # no thread can be started any more
                threading.Thread(target=pools._python_exit, daemon=True).start()
    me = threading.current_thread()
    return [one for one in threading.enumerate() if one is not me and not one.daemon]


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"sandbox-agent: {text}\n".encode(errors="backslashreplace"))


def _outputs() -> set[bytes]:
    """The names of this process's output pipes: b"pipe:[123]". A tool may have closed them."""
    names = set()
    for fd in (1, 2):
        with suppress(OSError):
            names.add(os.readlink(b"/proc/self/fd/%d" % fd))
    return {name for name in names if name.startswith(b"pipe:")}


def _wait_a_little(pid: int) -> None:
    """Until the process ends, at most _LOOK seconds. pid: as /proc shows it, which may be that of
    an outer pid namespace; NSpid ends with the one of this process's namespace."""
    try:
        status = _read(pid, "status").partition(b"NSpid:")[2].partition(b"\n")[0]
        pidfd = os.pidfd_open(int(status.split()[-1]))
    except (OSError, IndexError):
        return  # it has ended
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_LOOK * 1000)
    os.close(pidfd)


def others() -> list[int]:
    """The processes of this call's pid namespace, by pid. Not its init, this worker, and Python's
    helpers; not a zombie, which has ended already. pid_namespaces(7)"""
    mine = (1, os.getpid())
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        # The tool has used up this process's descriptors, or has lowered their limit. Its result
        # counts all the same.
        return []
    return [pid for pid in sorted(pids) if pid not in mine and is_counted(pid)]


def is_counted(pid: int) -> bool:
    """Whether a process is alive, and no helper of Python."""
    status = _read(pid, "stat")
    # The command in brackets may hold anything. proc_pid_stat(5)
    fields = status.rpartition(b")")[2].split()
    # With its first thread alone ended it has more of them.
    if not fields or (fields[0] in (b"Z", b"X") and int(fields[17]) < 2):
        return False
    command = _read(pid, "cmdline")
    return not any(helper in command for helper in _HELPERS)


def _holds(pid: int, outputs: set[bytes]) -> bool:
    """Whether a descriptor of the process is the call's output. Compared by name: stat(2) could
    hang on what a tool has opened."""
    folder = b"/proc/%d/fd/" % pid
    with suppress(OSError):  # it has ended, or may not be looked at
        for fd in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(folder + fd) in outputs:
                    return True
    return False


def _command(pid: int, until: float) -> str:
    """The command of a process. Without arguments it is in the middle of execve(2) or has removed
    them: wait for them until that time, then take its name. proc_pid_cmdline(5)"""
    while not (data := _read(pid, "cmdline")) and is_counted(pid) and time.monotonic() < until:
        time.sleep(0.001)
    data = data or _read(pid, "comm")
    words = data.replace(b"\0", b" ").strip()
    return words[:_NAME].decode(errors="replace")


def _read(pid: int, name: str) -> bytes:
    """The beginning of a file of the process in /proc; empty when it has ended."""
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)
