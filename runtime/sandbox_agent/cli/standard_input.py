"""Standard input for the command of `exec`, through a pipe that a thread of this process fills.

The command never gets the descriptor itself: it could open the file behind it for writing. The pipe
is filled only when it is empty, and what the command leaves in it stays in the source. So in
`while read line; do sandbox-agent exec -- true; done < list` the loop reads every line. How this is
done depends on the source:

- file: read at an offset. The file's own position follows what the command has read.
- pipe: tee(2) copies and does not consume.
- stream socket: recv(2) with MSG_PEEK does not consume.
- terminal: one line is read ahead. In the background it is not read, because read(2) would stop
  this process with SIGTTIN. Nor is it read while it is not in line mode: the keys are for the pager
  that has changed the mode.
- anything else: one piece is read ahead.

The flags of the descriptor stay as they are: O_NONBLOCK is shared with everyone who has it open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import stat
import struct
import termios
import threading
from abc import ABC, abstractmethod
from contextlib import suppress

from sandbox_agent_ipc.shortage import start_thread
from sandbox_agent_sandbox.host.descriptors import Descriptor, pipe

_PIECE = 4096
"""Bytes. A pipe of one page can be written to only when it is empty: pipe(7)."""

_LARGE_PIECE = 65536

_SHORT, _LONG = 0.0001, 0.05
"""Seconds between looks at a pipe of several pages that has to become empty."""

_LOOK_AGAIN = 0.2
"""Seconds between looks at whether the terminal may be read."""

_LOCAL_FLAGS = 3
"""Their place in what tcgetattr gives: termios(3)."""

_JOIN_SECONDS = 1.0
"""After this time a read that blocks is left behind. Another process took what was to be read."""

_SPLICE_F_NONBLOCK = 2


class StandardInput:
    """Passes one descriptor on. Make it, start it, stop it, once each; pause it between these.

    read_end: for the command; None if there is nothing to read. error: why reading failed, or None.
    typed: bytes of a terminal that were read ahead and that the command did not read.
    """

    def __init__(self, fd: int = 0) -> None:
        self.error: OSError | None = None
        self.typed = 0
        self.read_end: Descriptor | None = None
        self._thread: threading.Thread | None = None
        kind = _kind_of(fd)
        if kind is None:
            return
        self.read_end, write_end = pipe()
        # Inside, /dev/stdin opens the pipe anew: as another user, if the agent is root.
        os.fchmod(self.read_end.number, 0o444)
        os.set_blocking(write_end.number, False)
        self._source = kind(fd, write_end)
        self._pause, self._over = Descriptor(os.eventfd(0, os.EFD_CLOEXEC)), threading.Event()
        self._room, self._input = select.poll(), select.poll()
        for poll, event in ((self._room, select.POLLOUT), (self._input, 0)):
            poll.register(self._pause.number, select.POLLIN)
            poll.register(write_end.number, event)
        self._input.register(fd, select.POLLIN)
        self._thread = threading.Thread(target=self._work, name="standard input", daemon=True)

    def start(self) -> None:
        """Begins to read. The command has its end of the pipe by now; this process closes its own,
        so that it notices when the command closes the pipe."""
        if self._thread is not None and self.read_end is not None:
            self.read_end.close()
            start_thread(self._thread)

    def pause(self) -> None:
        """Reads no more. The command does not find the end of its input: it would take a part for
        the whole."""
        if self._thread is not None:
            os.eventfd_write(self._pause.number, 1)

    def stop(self) -> None:
        """Ends the reading, after the end of the command. What it has not read stays."""
        if self._thread is not None and self._thread.is_alive():
            self._over.set()
            self.pause()
            self._thread.join(_JOIN_SECONDS)

    def _work(self) -> None:
        # The process may be put into the background between a look at the terminal and read(2).
        # With the signal blocked, read(2) then fails with EIO.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
        source = self._source
        try:
            while self._has_room() and self._has_input():
                with suppress(BlockingIOError):  # another process took what was there
                    if not source.fill():
                        source.end()
                        break
            source.settle()
            self._over.wait()
        except BrokenPipeError:  # the command does not read any more
            pass
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # a socket that listens: there is nothing to read
                self.error = error
        finally:
            with suppress(OSError):
                source.settle()
                if isinstance(source, _Terminal) and source.write_end.number >= 0:
                    self.typed = _bytes_in(source.write_end)
            source.close()

    def _has_room(self) -> bool:
        """Waits until the pipe can be written to. False once `pause` was called."""
        found = dict(self._room.poll())
        if self._pause.number in found:
            return False
        return self._check_reader(found)

    def _has_input(self) -> bool:
        """Waits until the source can be read. False once `pause` was called."""
        while seconds := self._source.wait():
            if self._pauses(seconds):
                return False
        self._source.settle()
        found = dict(self._input.poll())
        return self._pause.number not in found and self._check_reader(found)

    def _check_reader(self, found: dict[int, int]) -> bool:
        """Raises BrokenPipeError if the command has closed the pipe."""
        if found.get(self._source.write_end.number, 0) & select.POLLERR:
            raise BrokenPipeError(errno.EPIPE, "the pipe has no reader")
        return True

    def _pauses(self, seconds: float) -> bool:
        """Waits for `pause`, so many seconds at most."""
        poll = select.poll()
        poll.register(self._pause.number, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


class _Source(ABC):
    """What is read, and the write end of the pipe. All but `fill` must not block."""

    def __init__(self, fd: int, write_end: Descriptor) -> None:
        self.fd = fd
        self.write_end = write_end
        fcntl.fcntl(write_end.number, fcntl.F_SETPIPE_SZ, _PIECE)

    @abstractmethod
    def fill(self) -> bool:
        """Puts a piece into the pipe. Called when the pipe can be written to and the source can be
        read. Returns False at the end of the source."""

    def settle(self) -> None:
        """Consumes what the command has read, if `fill` did not."""
        return

    def wait(self) -> float:
        """How many seconds to wait until one asks again whether the source may be read; 0: it
        may."""
        return 0

    def end(self) -> None:
        """Closes the pipe: the command finds the end after what is still in it."""
        self.write_end.close()

    def close(self) -> None:
        """Gives the descriptors back."""
        self.write_end.close()

    def _write(self, data: bytes) -> int:
        return os.write(self.write_end.number, data) if data else 0


class _Plain(_Source):
    """A source that can only be read."""

    def fill(self) -> bool:
        return self._write(os.read(self.fd, _PIECE)) > 0


class _Terminal(_Plain):
    def wait(self) -> float:
        # It is not the terminal of this session, so it sends no SIGTTIN; or it has hung up.
        with suppress(OSError, termios.error):
            is_in_line_mode = termios.tcgetattr(self.fd)[_LOCAL_FLAGS] & termios.ICANON
            if not is_in_line_mode or os.tcgetpgrp(self.fd) != os.getpgrp():
                return _LOOK_AGAIN
        return 0

    def fill(self) -> bool:
        try:
            return super().fill()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            if self.wait():
                raise BlockingIOError from None
            return False  # the terminal has hung up


class _File(_Source):
    def __init__(self, fd: int, write_end: Descriptor) -> None:
        # Not of one page: a file is read at any offset, however much is in the pipe.
        self.fd, self.write_end = fd, write_end
        self._begin = os.lseek(fd, 0, os.SEEK_CUR)
        self._written = self._consumed = 0
        self._rest = write_end

    def fill(self) -> bool:
        data = os.pread(self.fd, _LARGE_PIECE, self._begin + self._written)
        self._written += self._write(data)
        return bool(data)

    def settle(self) -> None:
        read = self._written - _bytes_in(self._rest) - self._consumed
        if read:  # from where it is now: others may have the file open, and have moved on
            os.lseek(self.fd, read, os.SEEK_CUR)
            self._consumed += read

    def end(self) -> None:
        # Without a write end, a read end tells what is left in the pipe.
        name = f"/proc/self/fd/{self.write_end.number}"
        self._rest = Descriptor(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        self.write_end.close()

    def close(self) -> None:
        super().close()
        self._rest.close()


class _Peeked(_Source):
    """A source that shows what comes next without consuming it."""

    _ahead = 0

    def fill(self) -> bool:
        self._ahead = self._peek()
        return self._ahead > 0

    def settle(self) -> None:
        if not self._ahead:
            return
        unread = _bytes_in(self.write_end)
        read, self._ahead = self._ahead - unread, unread
        with suppress(BlockingIOError):  # another process has consumed it meanwhile
            while read > 0 and (taken := self._consume(read)):
                read -= taken

    @abstractmethod
    def _peek(self) -> int:
        """Copies a piece into the pipe. Returns its length."""

    @abstractmethod
    def _consume(self, count: int) -> int:
        """Consumes so many bytes at most. Returns how many."""


class _Pipe(_Peeked):
    """A command that reads all of it gets larger pieces. Of a pipe of several pages, no event tells
    that it is empty."""

    def __init__(self, fd: int, write_end: Descriptor) -> None:
        super().__init__(fd, write_end)
        self._piece, self._seconds = _PIECE, _SHORT
        # Imported here: it costs some ms, and only a pipe needs it. Python's os has no tee(2).
        import ctypes

        self._libc = ctypes.CDLL(None, use_errno=True)
        self._errno = ctypes.get_errno
        self._null = Descriptor(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def wait(self) -> float:
        if not _bytes_in(self.write_end):
            if self._seconds == _LONG:
                self._resize(_PIECE)
            elif self._ahead == self._piece < _LARGE_PIECE:
                self._resize(2 * self._piece)
            self._seconds = _SHORT
            return 0
        self._seconds = min(2 * self._seconds, _LONG)
        return self._seconds

    def _resize(self, size: int) -> None:
        with suppress(OSError):  # EPERM: this user has too much memory in pipes. pipe(7)
            fcntl.fcntl(self.write_end.number, fcntl.F_SETPIPE_SZ, size)
            self._piece = size

    def _peek(self) -> int:
        to = self.write_end.number
        copied: int = self._libc.tee(self.fd, to, self._piece, _SPLICE_F_NONBLOCK)
        if copied < 0:
            why = self._errno()
            raise OSError(why, os.strerror(why))
        return copied

    def _consume(self, count: int) -> int:
        # With splice(2), because read(2) would wait if another process has consumed the bytes.
        return os.splice(self.fd, self._null.number, count, flags=_SPLICE_F_NONBLOCK)


class _Socket(_Peeked):
    def __init__(self, fd: int, write_end: Descriptor) -> None:
        super().__init__(fd, write_end)
        self._socket = socket.socket(fileno=os.dup(fd))

    def _peek(self) -> int:
        return self._write(self._socket.recv(_PIECE, socket.MSG_PEEK | socket.MSG_DONTWAIT))

    def _consume(self, count: int) -> int:
        return len(self._socket.recv(count, socket.MSG_DONTWAIT))

    def close(self) -> None:
        super().close()
        self._socket.close()


def _kind_of(fd: int) -> type[_Source] | None:
    """How a descriptor is read. None if it is /dev/null, or cannot be read at all: nohup(1) opens
    it for writing."""
    status = os.fstat(fd)
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_WRONLY or flags & os.O_PATH:
        return None
    mode = status.st_mode
    if stat.S_ISCHR(mode) and status.st_rdev == os.makedev(1, 3):  # null(4)
        return None
    if stat.S_ISFIFO(mode):
        return _Pipe
    if os.isatty(fd):
        return _Terminal
    if stat.S_ISSOCK(mode):
        return _Socket if _is_stream(fd) else _Plain
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        with suppress(OSError):  # a file without a position, as some file systems have
            os.lseek(fd, 0, os.SEEK_CUR)
            return _File
    return _Plain


def _is_stream(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as one:
        return one.type == socket.SOCK_STREAM


def _bytes_in(end: Descriptor) -> int:
    """Bytes in a pipe: FIONREAD of ioctl_fionread(2)."""
    packed = fcntl.ioctl(end.number, termios.FIONREAD, b"\0" * 4)
    return int(struct.unpack("i", packed)[0])
