"""Reads and writes `journal.jsonl`. `events` says what the lines mean.

Every event is one write(2) to a file that is open for appending, so a written event survives
whatever happens to this process. A power cut may take what the kernel has not yet written to the
disk; `sync` prevents that.

A disk that becomes full must not cost a run its end. So the writer keeps room behind the end of
the journal: blocks that the file system has reserved for this file (see `room`). When it gets no
more room, it says so in `shortage`, while what it has still suffices for the end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import msgspec
from sandbox_agent_ipc.after_fork import call_after_fork

from sandbox_agent.errors import JournalError
from sandbox_agent.journal import room
from sandbox_agent.journal.events import VERSION, AnyEvent, JournalOpened

JOURNAL_FILE = "journal.jsonl"
TORN_SUFFIX = ".torn"
"""Incomplete last lines of a journal are kept beside it, in a file with its name and this."""

LOCK_PATIENCE = 0.5
"""Seconds to wait for a lock whose holder may be dying: the kernel closes its files one by one."""
_LOCK_PAUSE = 0.01

ROOM = 128 * 1024
"""Bytes that are kept free behind the journal's end, for the last events of a run."""
_STEP = 256 * 1024
"""Bytes beyond that which are reserved at once, so that most events need no reservation."""

_PART = 1 << 20
"""Bytes that are read from a journal at once."""

ReadPart = Callable[[int, int], bytes]
"""Reads so many bytes (the second number) from an offset (the first). Fewer at the end."""

_encoder = msgspec.json.Encoder()


@cache
def _decoder() -> msgspec.json.Decoder[AnyEvent]:
    """Made when a journal is read: that takes some ms."""
    return msgspec.json.Decoder(AnyEvent)


class _Version(msgspec.Struct):
    """The part of a first line that every version has."""

    event: str
    version: int


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

    room: bytes that are kept free behind the end of the file. shortage: the error of the file
    system when it has no more room for this journal; else None. What was reserved before is still
    there.

    Raises BlockingIOError if another process has the lock. This and `append` raise OSError. A
    write that fails is tried once more. After a failed `append` the file holds whole events only,
    and `append` may be tried again.
    """

    def __init__(self, path: Path, *, create: bool = True, patience: float = 0.0) -> None:
        self.path = path
        self.room = ROOM
        self.shortage: OSError | None = None
        self._size = -1  # -1: not looked at yet
        self._is_torn = False  # a failed write may have left a part behind `_size`
        self._room_until = 0
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._fd = os.open(path, flags, 0o600)
        try:
            _lock(self._fd, fcntl.LOCK_EX, patience)
        except BaseException:
            self.close()
            raise
        call_after_fork(self)

    @property
    def size(self) -> int:
        """The length of the file, in bytes."""
        return os.fstat(self._fd).st_size

    def read_part(self, offset: int, length: int) -> bytes:
        """A part of the file. No other process changes it, because it is locked. Works after
        `close` too, as long as the file has its path. Raises OSError."""
        if self._fd >= 0:
            return os.pread(self._fd, length, offset)
        with open(self.path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def append(self, event: AnyEvent) -> None:
        """Write one event. Raises OSError if it was not written as a whole."""
        line = encode(event)
        try:
            self._write(line)
        except OSError:
            self._write(line)  # A disk may fail once, or be full for a moment.
        self._keep_room()

    def check_place(self) -> None:
        """Raises OSError if the journal has not its path any more: then nobody finds the run."""
        try:
            there = os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except (FileNotFoundError, NotADirectoryError):
            there = False
        if not there:
            raise OSError(errno.ENOENT, _MOVED, str(self.path))

    @property
    def has_room(self) -> bool:
        """Whether there is reserved room behind the end of the file."""
        return self._room_until > 0

    def give_back_room(self) -> None:
        """Free the room. `append` reserves it again."""
        if self.has_room and self._fd >= 0:
            self._room_until = 0
            room.give_back(self._fd)

    def sync(self) -> None:
        """Have the kernel write all data to the disk: fdatasync(2). Blocks, so do not call it in
        the event loop."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self.has_room:
            room.give_back(fd)
        # What close(2) may report, on NFS, is too late for anybody to act on.
        with contextlib.suppress(OSError):
            os.close(fd)

    def after_fork_in_child(self) -> None:
        """Close the file. The lock belongs to the open file, and stays with the parent."""
        self._room_until = 0  # It is the parent's, too.
        self.close()

    def _write(self, line: bytes) -> None:
        if self._size < 0:
            self._size = self._complete_last_line()
        self._check_end()
        written = 0
        try:
            # One write, unless the disk becomes full in the middle: the next write says so.
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            # Whatever the error says, something may have been written.
            self._is_torn = True
            with contextlib.suppress(OSError):
                self._check_end()
            raise
        self._size += len(line)

    def _check_end(self) -> None:
        """Make sure that the next event goes behind the last one. Raises OSError."""
        state = os.fstat(self._fd)
        if not state.st_nlink:
            raise OSError(errno.ENOENT, _MOVED, str(self.path))
        if self._is_torn and state.st_size > self._size:
            os.ftruncate(self._fd, self._size)
            self._room_until = 0
        elif state.st_size != self._size:
            raise OSError(errno.EIO, "another program changed its length", str(self.path))
        self._is_torn = False

    def _keep_room(self) -> None:
        if self._room_until - self._size >= self.room:
            return
        wanted = self.room + _STEP
        try:
            if room.reserve(self._fd, self._size, wanted):
                self._room_until = self._size + wanted
            self.shortage = None
        except OSError as error:
            self.shortage = error

    def _complete_last_line(self) -> int:
        """Make the file end with a newline. Returns its length."""
        end = os.fstat(self._fd).st_size
        whole = complete_length(self.read_part, end)
        tail = os.pread(self._fd, end - whole, whole)
        if is_whole(tail):
            return end + os.write(self._fd, b"\n")
        if tail:
            aside = self.path.with_name(self.path.name + TORN_SUFFIX)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            with open(os.open(aside, flags, 0o600), "wb") as file:
                file.write(tail + b"\n")
            os.ftruncate(self._fd, whole)
        return whole


_MOVED = "it was removed, renamed or replaced while the run was going"


def in_use(path: Path, patience: float = LOCK_PATIENCE) -> bool:
    """Whether a process has the journal open to write. patience: seconds to wait for one that may
    be dying. Raises OSError if it cannot be read."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _lock(fd, fcntl.LOCK_SH, patience)
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


def open_regular_file(path: Path) -> int:
    """A descriptor of a regular file, to read. Raises OSError if it is not one."""
    # O_NONBLOCK: opening a named pipe would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no ordinary file")
    return fd


def read_regular_file(path: Path) -> bytes:
    """The content of a regular file. Raises OSError if it is not one or cannot be read."""
    with open(open_regular_file(path), "rb") as file:
        return file.read()


def read_journal(path: Path) -> tuple[AnyEvent, ...]:
    """All complete events of a journal. It may end at any byte.

    Raises JournalError for another version and for a line that is not an event, and names the line.
    Raises OSError if the file cannot be read.
    """
    fd = open_regular_file(path)
    try:
        size = os.fstat(fd).st_size
        read = read_from(fd)
        return tuple(line.event for line in read_lines(read, size, str(path)))
    finally:
        os.close(fd)


def read_from(fd: int) -> ReadPart:
    """Reads parts of an open file."""
    return lambda offset, length: os.pread(fd, length, offset)


def parse_journal(data: bytes, name: str = JOURNAL_FILE) -> tuple[AnyEvent, ...]:
    """As `read_journal`, of bytes. `name` is for messages."""

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    return tuple(line.event for line in read_lines(read, len(data), name))


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line of a journal. number: counted from 1. offset, length: where it is, in bytes."""

    number: int
    offset: int
    length: int
    event: AnyEvent


def read_lines(read: ReadPart, size: int, name: str) -> Iterator[Line]:
    """The complete lines of the first `size` bytes of a journal, one after the other, so that the
    memory for one suffices. name: for messages. Raises as `read_journal`."""
    for number, (offset, line) in enumerate(split_lines(read, size), 1):
        if number == 1:
            check_version(line, name)
        event = decode_line(line, name, number)
        if isinstance(event, JournalOpened) is not (number == 1):
            raise JournalError(f"{name}:{number}: a `journal` event belongs in the first line only")
        yield Line(number, offset, len(line), event)


def split_lines(read: ReadPart, size: int) -> Iterator[tuple[int, bytes]]:
    """Each complete line of the first `size` bytes, with its offset."""
    done = at = 0
    begun: list[bytes] = []  # parts of a line whose end is not read yet
    while done < size and (part := read(done, min(_PART, size - done))):
        done += len(part)
        *lines, last = part.split(b"\n")
        if lines:
            lines[0] = b"".join((*begun, lines[0]))
            begun = []
            for line in lines:
                yield at, line
                at += len(line) + 1
        begun.append(last)
    # After the last newline comes nothing, a line that a crash cut off, or a line of which only the
    # newline is missing.
    tail = b"".join(begun)
    if is_whole(tail):
        yield at, tail


def decode_line(line: bytes, name: str, number: int) -> AnyEvent:
    """The event of a line. Raises JournalError if it is not one."""
    try:
        return _decoder().decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise damaged(name, number, f"this line is not an event: {error}") from None


def damaged(name: str, number: int, what: str) -> JournalError:
    """The error about one line of a journal."""
    return JournalError(
        f"{name}:{number}: {what}; the journal is damaged\n"
        f"  hint: to go on from before it, remove this line and all lines after it"
    )


def check_version(line: bytes, name: str) -> None:
    """Raises JournalError if a first line is not that of a journal of this version."""
    try:
        first = msgspec.json.decode(line, type=_Version)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        first = None
    if first is None or first.event != "journal":
        raise JournalError(f"{name}:1: this is not a journal of sandbox-agent")
    if first.version != VERSION:
        raise JournalError(
            f"{name}:1: the journal has version {first.version}; this sandbox-agent reads version "
            f"{VERSION}\n"
            f"  hint: nothing is released yet: start the run anew, or use the version that wrote it"
        )


def is_whole(tail: bytes) -> bool:
    """Whether a last line without a newline lacks nothing else. Events are JSON objects, and an
    object without its end is not JSON."""
    try:
        msgspec.json.decode(tail, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def complete_length(read: ReadPart, size: int) -> int:
    """The length of the file up to its last newline, which is included."""
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = read(start, end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
