"""Keeping head and tail of a stream."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent_sandbox.capture import Capture


@settings(database=None)
@given(st.lists(st.binary(max_size=50)), st.integers(0, 100))
def test_head_and_tail_are_the_streams_own_and_the_rest_is_counted(
    pieces: list[bytes], limit: int
) -> None:
    stream = b"".join(pieces).replace(b"\xff", b"x")
    capture = Capture(limit)
    position = 0
    for piece in pieces:
        capture.feed(stream[position : position + len(piece)])
        position += len(piece)
    assert capture.total == len(stream)
    text = capture.text()
    if len(stream) <= limit:
        assert text == stream.decode("utf-8", "replace")
    else:
        left_out = len(stream) - limit
        head, tail = (limit + 1) // 2, limit - (limit + 1) // 2
        assert f"[... {left_out} bytes left out ...]" in text
        assert text.startswith(stream[:head].decode("utf-8", "replace"))
        assert text.endswith(stream[len(stream) - tail :].decode("utf-8", "replace"))


def test_a_flood_costs_no_more_memory_than_the_limit() -> None:
    capture = Capture(1000)
    for _ in range(10_000):
        capture.feed(b"x" * 1000)
    kept = len(capture._head) + sum(map(len, capture._tail))
    assert kept < 3000
