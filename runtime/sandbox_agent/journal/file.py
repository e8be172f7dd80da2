"""Reads and writes `journal.jsonl`. `events` says what the lines mean.

Every event is one write(2) to a file that is open for appending, so a written event survives
whatever happens to this process. A power cut may take what the kernel has not yet written to the
disk; `sync` prevents that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from sandbox_agent_ipc.after_fork import call_after_fork

from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import VERSION, AnyEvent, JournalOpened

JOURNAL_FILE = "journal.jsonl"
TORN_SUFFIX = ".torn"
"""Incomplete last lines of a journal are kept beside it, in a file with its name and this."""

LOCK_PATIENCE = 0.5
"""Seconds to wait for a lock whose holder may be dying: the kernel closes its files one by one."""
_LOCK_PAUSE = 0.01

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


class _Version(msgspec.Struct):
    """The part of a first line that every version has."""

    event: str
    version: int


_version_decoder = msgspec.json.Decoder(_Version)


def encode(event: AnyEvent) -> bytes:
    """One line, newline included. JSON escapes newlines in text, so a line is an event."""
    return _encoder.encode(event) + b"\n"


class JournalWriter:
    """Appends events to a journal, and keeps it locked until it is closed: a journal has one
    writer. flock(2): the kernel releases the lock when this process dies, however it dies.

    create: make the file if it is not there. patience: seconds to wait for the lock.

    Before the first event is written, an incomplete last line is moved to a file beside the
    journal: it was never an event, and the next event appended to it would be unreadable. A last
    line that lacks only its newline is complete, and gets the newline.

    Raises BlockingIOError if another process has the lock. This and `append` raise OSError, for
    instance for a full disk. After a failed `append` the file holds whole events only, and `append`
    may be tried again.
    """

    def __init__(self, path: Path, *, create: bool = True, patience: float = 0.0) -> None:
        self.path = path
        self._size = -1
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._fd = os.open(path, flags, 0o600)
        try:
            _lock(self._fd, fcntl.LOCK_EX, patience)
        except BaseException:
            self.close()
            raise
        call_after_fork(self)

    def read(self) -> bytes:
        """The content of the file. No other process changes it, because it is locked."""
        end = os.fstat(self._fd).st_size
        data = bytearray()
        while len(data) < end and (part := os.pread(self._fd, end - len(data), len(data))):
            data += part
        return bytes(data)

    def append(self, event: AnyEvent) -> None:
        """Write one event. Raises OSError if it was not written as a whole."""
        if self._size < 0:
            self._size = self._complete_last_line()
        line = encode(event)
        written = 0
        try:
            # One write, unless the disk becomes full in the middle: the next write says so.
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            if written:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)

    def sync(self) -> None:
        """Have the kernel write all data to the disk: fdatasync(2). Blocks, so do not call it in
        the event loop."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def after_fork_in_child(self) -> None:
        """Close the file. The lock belongs to the open file, and stays with the parent."""
        self.close()

    def _complete_last_line(self) -> int:
        """Make the file end with a newline. Returns its length."""
        end = os.fstat(self._fd).st_size
        whole = _complete_length(self._fd)
        tail = os.pread(self._fd, end - whole, whole)
        if _is_whole(tail):
            return end + os.write(self._fd, b"\n")
        if tail:
            aside = self.path.with_name(self.path.name + TORN_SUFFIX)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            with open(os.open(aside, flags, 0o600), "wb") as file:
                file.write(tail + b"\n")
            os.ftruncate(self._fd, whole)
        return whole


def in_use(path: Path) -> bool:
    """Whether a process has the journal open to write. Raises OSError if it cannot be read."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _lock(fd, fcntl.LOCK_SH, LOCK_PATIENCE)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _lock(fd: int, kind: int, patience: float) -> None:
    """flock(2) with a time limit. Raises BlockingIOError if the lock was not free in time."""
    until = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(_LOCK_PAUSE)


def read_journal(path: Path) -> tuple[AnyEvent, ...]:
    """All complete events of a journal. It may end at any byte.

    Raises JournalError for another version and for a line that is not an event, and names the line.
    Raises OSError if the file cannot be read.
    """
    return parse_journal(read_regular_file(path), str(path))


def read_regular_file(path: Path) -> bytes:
    """The content of a regular file. Raises OSError if it is not one or cannot be read."""
    # O_NONBLOCK: opening a named pipe would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no ordinary file")
    with open(fd, "rb") as file:
        return file.read()


def parse_journal(data: bytes, name: str = JOURNAL_FILE) -> tuple[AnyEvent, ...]:
    """As `read_journal`, of bytes. `name` is for messages."""
    return tuple(_events(data, name))


def _events(data: bytes, name: str) -> Iterator[AnyEvent]:
    lines = data.split(b"\n")
    # After the last newline comes nothing, a line that a crash cut off, or a line of which only the
    # newline is missing.
    if not _is_whole(lines[-1]):
        lines.pop()
    for number, line in enumerate(lines, 1):
        if number == 1:
            _check_version(line, name)
        try:
            event = _decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise JournalError(
                f"{name}:{number}: this line is not an event: {error}; the journal is damaged\n"
                f"  hint: to go on from before it, remove this line and all lines after it"
            ) from None
        if isinstance(event, JournalOpened) is not (number == 1):
            raise JournalError(f"{name}:{number}: a `journal` event belongs in the first line only")
        yield event


def _check_version(line: bytes, name: str) -> None:
    try:
        first = _version_decoder.decode(line)
    except (msgspec.MsgspecError, ValueError):
        first = None
    if first is None or first.event != "journal":
        raise JournalError(f"{name}:1: this is not a journal of sandbox-agent")
    if first.version != VERSION:
        raise JournalError(
            f"{name}:1: the journal has version {first.version}; this sandbox-agent reads version "
            f"{VERSION}\n"
            f"  hint: nothing is released yet: start the run anew, or use the version that wrote it"
        )


def _is_whole(tail: bytes) -> bool:
    """Whether a last line without a newline lacks nothing else. Events are JSON objects, and an
    object without its end is not JSON."""
    try:
        msgspec.json.decode(tail, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _complete_length(fd: int) -> int:
    """The length of the file up to its last newline, which is included."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
