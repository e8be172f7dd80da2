"""Cuts the content of a call to the length that a model gets."""

from __future__ import annotations

MODEL_BYTES = 32 * 1024
"""A model gets at most this much of one call."""


def cut(data: bytes, limit: int = MODEL_BYTES) -> bytes:
    """`data`, or its head and tail with a line between them if it is longer than `limit` bytes."""
    if len(data) <= limit:
        return data
    half = limit // 2
    return _join(data[:half], data[len(data) - half :], len(data) - 2 * half)


def _join(head: bytes, tail: bytes, left_out: int) -> bytes:
    if left_out <= 0:
        return head + tail
    # Half a character would read as one or two garbled ones, so its bytes are dropped.
    whole_head, whole_tail = _without_torn_end(head), _without_torn_start(tail)
    left_out += len(head) - len(whole_head) + len(tail) - len(whole_tail)
    return whole_head + f"\n[... {left_out} bytes left out ...]\n".encode() + whole_tail


def _without_torn_end(data: bytes) -> bytes:
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # The first byte of a character tells how many bytes it has.
            length = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
    return data


def _without_torn_start(data: bytes) -> bytes:
    for start in range(min(4, len(data))):
        if data[start] & 0xC0 != 0x80:
            return data[start:]
    return data
