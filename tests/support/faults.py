"""Real faults of the disk: what a command's file operations return, decided by the test.

    with Faults(folder, fate) as faults:
        done = faults.run(person, [...])

The kernel asks about each operation of the command's process: seccomp_unotify(2), see
`under_filter`. Only those on what lies below `folder` are looked at. `fate` gets each, and says
what comes of it: None (it is done), an errno, or `Short` (of a write, only so much).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import under_filter
from identity import Person

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_ASKED = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1
_HERE = -100  # AT_FDCWD


@dataclass(frozen=True)
class Operation:
    """number: counted from 1, of those below the folder. path: what it is done to."""

    number: int
    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.number} {self.name} {os.path.basename(self.path)}"


@dataclass(frozen=True)
class Short:
    """A write that writes so many bytes, and no more."""

    length: int


Fate = Callable[[Operation], "int | Short | None"]


class Faults:
    """seen: the operations so far. struck: those that were not done as they were asked for."""

    def __init__(self, folder: Path, fate: Fate, *, reads: bool = False) -> None:
        self.seen: list[Operation] = []
        self.struck: list[Operation] = []
        self._folder = str(folder)
        self._fate = fate
        self._reads = reads
        self._errors: list[BaseException] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._errors and error is None:
            raise self._errors[0]

    def run(
        self, person: Person, argv: Sequence[str], *, timeout: float = 120, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; kills it after `timeout` seconds."""
        ours, theirs = socket.socketpair()
        script, reads = str(Path(under_filter.__file__)), "reads" if self._reads else "writes"
        wrapped = [sys.executable, "-I", script, str(theirs.fileno()), reads, "--", *argv]
        with ours, person.start(wrapped, pass_fds=(theirs.fileno(),), **options) as process:
            theirs.close()
            ours.settimeout(timeout)
            _, handles, _, _ = socket.recv_fds(ours, 1, 1)
            if not handles:
                out, err = process.communicate(timeout=timeout)
                raise AssertionError(f"the filter was not installed: {out}{err}")
            with self._answering(handles[0], process.pid):
                try:
                    out, err = process.communicate(timeout=timeout)
                except BaseException:
                    process.kill()
                    raise
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    @contextlib.contextmanager
    def _answering(self, listener: int, agent: int) -> Iterator[None]:
        stop = os.eventfd(0)
        thread = threading.Thread(target=self._serve, args=(listener, agent, stop))
        thread.start()
        try:
            yield
        finally:
            os.eventfd_write(stop, 1)
            thread.join()
            os.close(stop)
            os.close(listener)

    def _serve(self, listener: int, agent: int, stop: int) -> None:
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        poller.register(stop, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if stop in ready:
                return
            if ready.get(listener, 0) & select.POLLHUP:
                poller.unregister(listener)  # nobody has the filter any more
                continue
            buffer = bytearray(_ASKED.size)
            try:
                fcntl.ioctl(listener, _RECEIVE, buffer)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue  # it was killed while it asked
                raise
            asked, tid, _, number, _, _, *arguments = _ASKED.unpack(buffer)
            answer = _ANSWER.pack(asked, 0, 0, _CONTINUE)
            try:
                if os.path.exists(f"/proc/{agent}/task/{tid}"):
                    answer = self._decide(asked, tid, number, arguments)
            except BaseException as error:
                self._errors.append(error)
            with contextlib.suppress(OSError):
                fcntl.ioctl(listener, _SEND, answer)

    def _decide(self, asked: int, tid: int, number: int, arguments: list[int]) -> bytes:
        done = _ANSWER.pack(asked, 0, 0, _CONTINUE)
        name = _NAMES[number]
        path = _target(tid, name, arguments)
        if not f"{path}/".startswith(f"{self._folder}/"):
            return done
        operation = Operation(len(self.seen) + 1, name, path)
        self.seen.append(operation)
        fate = self._fate(operation)
        if fate is None:
            return done
        if isinstance(fate, Short):
            if name not in ("write", "pwrite64"):
                return done
            self.struck.append(operation)
            return _ANSWER.pack(asked, _write_part(tid, name, arguments, fate.length), 0, 0)
        self.struck.append(operation)
        return _ANSWER.pack(asked, 0, -fate, 0)


_NAMES = {
    number: name for name, number in under_filter.NUMBERS.get(under_filter.MACHINE, {}).items()
}


def _target(tid: int, name: str, arguments: list[int]) -> str:
    first = arguments[0] & 0xFFFFFFFF
    match name:
        case "rename" | "mkdir" | "unlink":
            return _named(tid, _HERE, arguments[0])
        case "openat" | "mkdirat" | "mknodat" | "unlinkat" | "renameat" | "renameat2":
            return _named(tid, first - (1 << 32) if first >> 31 else first, arguments[1])
    try:
        return os.readlink(f"/proc/{tid}/fd/{first}").removesuffix(" (deleted)")
    except OSError:
        return ""


def _named(tid: int, folder: int, address: int) -> str:
    text = os.fsdecode(_memory(tid, address, 4096).split(b"\0")[0])
    try:
        base = os.readlink(f"/proc/{tid}/cwd" if folder == _HERE else f"/proc/{tid}/fd/{folder}")
    except OSError:
        base = ""
    return os.path.join(base, text)


def _memory(tid: int, address: int, length: int) -> bytes:
    """As much as is mapped there."""
    handle = os.open(f"/proc/{tid}/mem", os.O_RDONLY)
    try:
        data = b""
        while len(data) < length:
            page = 4096 - (address + len(data)) % 4096
            try:
                part = os.pread(handle, min(page, length - len(data)), address + len(data))
            except OSError:
                break
            if not part:
                break
            data += part
        return data
    finally:
        os.close(handle)


def _write_part(tid: int, name: str, arguments: list[int], length: int) -> int:
    data = _memory(tid, arguments[1], min(length, arguments[2]))
    if not data:
        return 0
    # Opened anew with the flags that it has there: /proc/PID/fd is the file itself.
    with open(f"/proc/{tid}/fdinfo/{arguments[0] & 0xFFFFFFFF}") as info:
        flags = int(next(line for line in info if line.startswith("flags:")).split()[1], 8)
    mode = os.O_WRONLY | (flags & os.O_APPEND)
    handle = os.open(f"/proc/{tid}/fd/{arguments[0] & 0xFFFFFFFF}", mode)
    try:
        return os.write(handle, data) if name == "write" else os.pwrite(handle, data, arguments[3])
    finally:
        os.close(handle)
