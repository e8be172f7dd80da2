"""Frames on a byte stream: 4 bytes of big-endian length, then as many bytes. Sans-IO."""

from __future__ import annotations

from .errors import ProtocolError, TornFrame
from .messages import MAX_MESSAGE

HEADER = 4
"""Bytes of length before each frame."""


def encode_frame(payload: bytes) -> bytes:
    """The frame of a payload. Raises ProtocolError when it is empty or above MAX_MESSAGE."""
    if not 0 < len(payload) <= MAX_MESSAGE:
        raise ProtocolError(
            f"a frame holds 1 to {MAX_MESSAGE} bytes, this one would hold {len(payload)}"
        )
    return len(payload).to_bytes(HEADER, "big") + payload


class FrameDecoder:
    """Cuts a stream of bytes into frames, however the stream arrives in pieces.

    max_frame: bytes. A longer announcement is refused when its header arrives, so that no more
    than one frame and one piece are ever held.
    """

    def __init__(self, max_frame: int = MAX_MESSAGE) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray()
        self._fault: str | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Takes the next piece of the stream and returns the payloads that are now complete.

        Raises ProtocolError at a header that is not allowed, and from then on always. Payloads
        before it are not lost: they are returned first, and the next call raises, whatever it is
        fed; so a reader gets the same payloads wherever the stream was cut.
        """
        if self._fault is not None:
            raise ProtocolError(self._fault)
        self._buffer += data
        frames = []
        start = 0
        while len(self._buffer) - start >= HEADER:
            length = int.from_bytes(self._buffer[start : start + HEADER], "big")
            if not 0 < length <= self._max_frame:
                self._fault = (
                    f"a frame of {length} bytes was announced; 1 to {self._max_frame} are allowed"
                )
                break
            end = start + HEADER + length
            if len(self._buffer) < end:
                break
            frames.append(bytes(memoryview(self._buffer)[start + HEADER : end]))
            start = end
        if self._fault is not None:
            self._buffer.clear()
            if not frames:
                raise ProtocolError(self._fault)
        else:
            del self._buffer[:start]
        return frames

    def close(self) -> None:
        """The stream has ended. Raises ProtocolError when it ended inside a frame or was faulty."""
        if self._fault is not None:
            raise ProtocolError(self._fault)
        if self._buffer:
            raise TornFrame(
                f"the stream ended {len(self._buffer)} bytes into a frame (header included)"
            )
