"""The host's ends of a call's pipes, driven by an event loop's `add_reader`.

asyncio.StreamReader is not used: it is three times slower per message, and its buffer cannot be
bounded here. All methods and callbacks belong to the loop's thread. A reader owns its descriptor.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .codec import decode
from .errors import ProtocolError
from .framing import FrameDecoder
from .messages import MAX_MESSAGE

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

OnClosed = Callable[[ProtocolError | None], object]
"""Called once when the stream ends: with None at the end of file, else with what was wrong. Not
called when the owner closes the reader."""

MESSAGE_BYTES_PER_WAKE_UP = 256 * 1024
OUTPUT_BYTES_PER_WAKE_UP = 64 * 1024
"""Bounds for each wake-up, so that a worker that floods its pipe cannot block the loop."""

DRAIN_BYTES = 4 * 1024 * 1024

_PIECE = 64 * 1024  # a pipe holds no more, unless it was enlarged (F_SETPIPE_SZ)


class _Reader(ABC):
    """Reads what is there, at most so much per wake-up, until the end, a fault or `close()`."""

    def __init__(self, fd: int, per_wake_up: int, on_closed: OnClosed, ready: bool) -> None:
        if not ready:
            os.set_blocking(fd, False)
        self._fd = fd
        self._per_wake_up = per_wake_up
        self._on_closed = on_closed
        self._loop: AbstractEventLoop | None = None
        self._watching = False
        self._closed = False

    def start(self, loop: AbstractEventLoop) -> None:
        """Begins to read, in `loop`. Does nothing after the end."""
        self._loop = loop
        self._watch()

    def close(self) -> None:
        """Stops reading and closes the descriptor, without a callback. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._unwatch()
        os.close(self._fd)

    @property
    def closed(self) -> bool:
        """True after the end, a fault or `close()`: the descriptor is gone."""
        return self._closed

    @abstractmethod
    def _accept(self, data: bytes) -> None:
        """Handles bytes of the stream. Raises ProtocolError."""

    @abstractmethod
    def _accept_end(self) -> None:
        """Handles the end of the stream. Raises ProtocolError when it may not end here."""

    def _watch(self) -> None:
        if self._loop is not None and not self._closed and not self._watching:
            self._loop.add_reader(self._fd, self._on_readable)
            self._watching = True

    def _unwatch(self) -> None:
        if self._loop is not None and self._watching:
            self._watching = False
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        # An earlier callback of the same turn of the loop may have called pause().
        if self._watching:
            self._read(self._per_wake_up, only_while_watching=True)

    def _read(self, limit: int, *, only_while_watching: bool = False) -> int:
        """Reads up to `limit` bytes that are there and returns how many it read."""
        total = 0
        while total < limit and not self._closed and (self._watching or not only_while_watching):
            try:
                data = os.read(self._fd, min(_PIECE, limit - total))
            except BlockingIOError:
                break
            except OSError as error:
                self._end(ProtocolError(f"reading from the worker failed: {error}"))
                break
            total += len(data)
            # A pipe that gives less than was asked for is empty. If more comes, the loop says so.
            is_empty = only_while_watching and 0 < len(data) < _PIECE
            try:
                if data:
                    self._accept(data)
                else:
                    self._accept_end()
                    self._end(None)
            except ProtocolError as error:
                self._end(error)
            if is_empty:
                break
        return total

    def _end(self, error: ProtocolError | None) -> None:
        if not self._closed:
            self.close()
            self._on_closed(error)

    def _call(self, callback: Callable[[Any], object], argument: Any) -> None:
        try:
            callback(argument)
        except Exception as error:
            # This is a bug of ours. It must not end the stream: the bytes already read would be
            # lost, and with them perhaps the call's result. Without a loop it can only be raised.
            if self._loop is None:
                raise
            self._loop.call_exception_handler(
                {"message": f"{callback!r} failed on what a worker sent", "exception": error}
            )


class MessageReader(_Reader):
    """Reads a worker's messages from the read end of its pipe.

    kind: the union of messages that may come.  on_message: called with each, in order.
    on_closed: see OnClosed. A ProtocolError ends the stream: what follows garbage is garbage.
    ready: the descriptor does not block already.
    """

    def __init__(
        self,
        fd: int,
        kind: Any,
        on_message: Callable[[Any], object],
        on_closed: OnClosed,
        *,
        ready: bool = False,
    ) -> None:
        super().__init__(fd, MESSAGE_BYTES_PER_WAKE_UP, on_closed, ready)
        self._kind = kind
        self._on_message = on_message
        self._decoder = FrameDecoder(MAX_MESSAGE)

    def drain(self) -> None:
        """Reads now what is there, up to DRAIN_BYTES. For when the writers are proven dead.

        It does not wait for the end of file: a descriptor of the pipe may have been passed on.
        """
        self._read(DRAIN_BYTES)

    def _accept(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            message = decode(frame, self._kind)
            if self._closed:  # by the callback of an earlier message
                return
            self._call(self._on_message, message)
        self._decoder.feed(b"")  # raises when a fault followed those frames

    def _accept_end(self) -> None:
        self._decoder.close()


class OutputReader(_Reader):
    """Reads the raw output of a worker and its children from the read end of a pipe.

    on_data: called with each piece.  on_closed: see OnClosed.
    ready: the descriptor does not block already.
    While paused nothing is read: the pipe fills, and the kernel slows the writers down.
    """

    def __init__(
        self,
        fd: int,
        on_data: Callable[[bytes], object],
        on_closed: OnClosed,
        *,
        ready: bool = False,
    ) -> None:
        super().__init__(fd, OUTPUT_BYTES_PER_WAKE_UP, on_closed, ready)
        self._on_data = on_data
        self._paused = False

    def start(self, loop: AbstractEventLoop) -> None:
        """Begins to read, in `loop`, unless paused. Does nothing after the end."""
        self._loop = loop
        if not self._paused:
            self._watch()

    def pause(self) -> None:
        """Stops reading until `resume()`. Idempotent; also from within on_data."""
        self._paused = True
        self._unwatch()

    def resume(self) -> None:
        """Reads again. Idempotent."""
        self._paused = False
        self._watch()

    def drain(self, limit: int = DRAIN_BYTES) -> int:
        """Reads now what is there, paused or not, up to `limit` bytes. Returns how many it read.

        For when the writers are proven dead; see MessageReader.drain.
        """
        return self._read(limit)

    def _accept(self, data: bytes) -> None:
        self._call(self._on_data, data)

    def _accept_end(self) -> None:
        pass
