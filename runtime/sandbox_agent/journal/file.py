"""Reading and writing `journal.jsonl`. What the lines mean is said in `events`.

Every event is one write(2) to a file that is open for appending: what was written survives
whatever happens to this process. A power cut may take what the kernel had not yet written;
`sync` is for those who care.
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

FILE_NAME = "journal.jsonl"
TORN_SUFFIX = ".torn"
"""What was torn off journals is kept beside them, under their name and this."""

DYING = 0.5
"""Seconds for which a lock may be that of a process which is dying: it lets go of one file after
the other."""
_LOOK_AGAIN = 0.01

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


class _Version(msgspec.Struct):
    """As much of a first line as every version has."""

    event: str
    version: int


_version_decoder = msgspec.json.Decoder(_Version)


def encode(event: AnyEvent) -> bytes:
    """One line, newline included. JSON escapes newlines in text, so a line is an event."""
    return _encoder.encode(event) + b"\n"


class JournalWriter:
    """Appends events to a journal, and keeps it locked until it is closed: a journal has one
    writer. flock(2): the kernel lets go of the lock when this process dies, however it dies.

    create: make the file where there is none. patience: seconds to wait for the lock.

    Before the first event a torn last line is put aside: it was never a complete event, and the
    next one appended to it would make a line that nobody can read. A last line that lacks only its
    newline is complete, and gets it.

    Raises BlockingIOError when somebody else has the lock, OSError from here and from `append`: a
    full or broken disk is the caller's to decide about. After a failed `append` the file holds
    whole events only, and `append` may be tried again.
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
        """All that the file holds. Nobody else adds to it meanwhile."""
        end = os.fstat(self._fd).st_size
        data = bytearray()
        while len(data) < end and (part := os.pread(self._fd, end - len(data), len(data))):
            data += part
        return bytes(data)

    def append(self, event: AnyEvent) -> None:
        """Write one event. Raises OSError when it could not be written as a whole."""
        if self._size < 0:
            self._size = self._mended()
        line = encode(event)
        written = 0
        try:
            # One write unless the disk fills up in the middle; the next then says why.
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            if written:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)

    def sync(self) -> None:
        """Have the kernel write what it holds; fdatasync(2). Blocks: call it off the loop."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def after_fork_in_child(self) -> None:
        """Close the file. The lock belongs to the open file, and stays with the parent."""
        self.close()

    def _mended(self) -> int:
        """The length of the file, which ends with a newline from now on."""
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
    """Whether somebody has the journal open to write. Raises OSError when it cannot be read."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _lock(fd, fcntl.LOCK_SH, DYING)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _lock(fd: int, kind: int, patience: float) -> None:
    """flock(2), which knows no time limit. Raises BlockingIOError when it was not to be had."""
    until = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(_LOOK_AGAIN)


def read_journal(path: Path) -> tuple[AnyEvent, ...]:
    """All complete events of a journal, whichever moment its writer was cut off at.

    Raises JournalError for an unknown version and for a line that is no event, naming the line;
    OSError when the file cannot be read.
    """
    return parse_journal(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """What an ordinary file holds. Raises OSError when it cannot be read, or is none."""
    # Not blocking: a named pipe in its place would have us wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no ordinary file")
    with open(fd, "rb") as file:
        return file.read()


def parse_journal(data: bytes, name: str = FILE_NAME) -> tuple[AnyEvent, ...]:
    """As `read_journal`, of bytes. `name` is for messages."""
    return tuple(_events(data, name))


def _events(data: bytes, name: str) -> Iterator[AnyEvent]:
    lines = data.split(b"\n")
    # What follows the last newline: nothing, a line torn by a crash, or one whose newline alone
    # was not written.
    if not _is_whole(lines[-1]):
        lines.pop()
    for number, line in enumerate(lines, 1):
        if number == 1:
            _check_version(line, name)
        try:
            event = _decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise JournalError(
                f"{name}:{number}: this line is not an event: {error}; the journal is damaged. "
                f"Remove the line and what follows it to go on from before it"
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
            f"{name}:1: the journal has version {first.version}, and this program knows version "
            f"{VERSION}; use the sandbox-agent that wrote it"
        )


def _is_whole(tail: bytes) -> bool:
    """Whether a last line without a newline lacks only that. Events are JSON objects, and no part
    of an object that leaves out its end is one."""
    try:
        msgspec.json.decode(tail, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _complete_length(fd: int) -> int:
    """The length of the file up to and including its last newline."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
