"""Keeping a bounded amount of a stream of unknown length: its head and its tail."""

from __future__ import annotations

from collections import deque


class Capture:
    """The first and the last half of `limit` bytes of what is fed; what lies between is counted."""

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

    def text(self) -> str:
        """What was kept, as text, with a note where something was left out."""
        tail = b"".join(self._tail)
        tail = tail[max(0, len(tail) - self._tail_limit) :]
        left_out = self.total - len(self._head) - len(tail)
        head_text = self._head.decode("utf-8", "replace")
        if not left_out:
            return (bytes(self._head) + tail).decode("utf-8", "replace")
        return (
            f"{head_text}\n[... {left_out} bytes left out ...]\n{tail.decode('utf-8', 'replace')}"
        )
