"""Keeping a bounded part of a text or of a stream: its head and its tail.

Between them stands a note with the number of bytes left out. Half a character at an edge would read
as one or two garbled ones, so its bytes are left out too.
"""

from __future__ import annotations

from collections import deque

MODEL_BYTES = 32 * 1024
"""A model gets at most this much of one call. The host cuts what is longer in the middle; the file
tools cut their results themselves, where reading can go on."""


class Capture:
    """The first and the last half of `limit` bytes of a stream. total: bytes of the stream."""

    def __init__(self, limit: int) -> None:
        self._head_limit = (limit + 1) // 2
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take more of the stream. Costs as much as `data` is long, however much came before."""
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail and self._tail_size - len(self._tail[0]) >= self._tail_limit:
            self._tail_size -= len(self._tail.popleft())

    @property
    def left_out(self) -> int:
        """Bytes of the stream that are not kept."""
        return max(0, self.total - self._head_limit - self._tail_limit)

    def text(self) -> str:
        """The kept bytes as text, with a note when bytes were left out."""
        return self.data().decode("utf-8", "replace")

    def data(self) -> bytes:
        """The kept bytes, with a note when bytes were left out."""
        tail = b"".join(self._tail)
        tail = tail[max(0, len(tail) - self._tail_limit) :]
        left_out = self.total - len(self._head) - len(tail)
        return join(bytes(self._head), tail, left_out)


def note(left_out: int) -> bytes:
    """The line that stands for bytes that were left out."""
    return f"\n[... {left_out} bytes left out ...]\n".encode()


def join(head: bytes, tail: bytes, left_out: int) -> bytes:
    """Head and tail of UTF-8 text; when `left_out` is more than 0, with a note between them."""
    if left_out <= 0:
        return head + tail
    whole_head, whole_tail = without_torn_end(head), _without_torn_start(tail)
    left_out += len(head) - len(whole_head) + len(tail) - len(whole_tail)
    return whole_head + note(left_out) + whole_tail


def without_torn_end(data: bytes) -> bytes:
    """UTF-8 text without the beginning of a character at its end."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # the first byte of a character tells how many bytes it has
            length = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
    return data


def _without_torn_start(data: bytes) -> bytes:
    start = 0
    while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:]
