"""Keeping head and tail of a stream."""

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent_sandbox.capture import Capture

NOTE = re.compile(r"\n\[\.\.\. (\d+) bytes left out \.\.\.\]\n")


def captured(stream: bytes, cuts: list[int], limit: int) -> Capture:
    """A capture that was fed the stream in pieces."""
    capture = Capture(limit)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        capture.feed(stream[start:end])
    assert capture.total == len(stream)
    return capture


@settings(database=None)
@given(st.text(max_size=60), st.lists(st.integers(0, 200), max_size=5), st.integers(0, 100))
def test_head_and_tail_are_the_streams_own_and_the_rest_is_counted(
    written: str, cuts: list[int], limit: int
) -> None:
    written = written.replace("[", "")  # no note of its own
    stream = written.encode()
    text = captured(stream, cuts, limit).text()
    if len(stream) <= limit:
        assert text == written
        return
    head, number, tail = NOTE.split(text)
    assert written.startswith(head) and written.endswith(tail)
    assert len(head.encode()) + int(number) + len(tail.encode()) == len(stream)
    # No more than half a character is lost at either edge.
    assert len(stream) - limit <= int(number) <= len(stream) - limit + 6


@settings(database=None)
@given(st.binary(max_size=100), st.integers(0, 100))
def test_any_bytes_become_text(stream: bytes, limit: int) -> None:
    text = captured(stream, [], limit).text()
    if len(stream) <= limit:
        assert text == stream.decode("utf-8", "replace")
    else:
        assert NOTE.search(text)


def test_a_flood_costs_no_more_memory_than_the_limit() -> None:
    capture = Capture(1000)
    for _ in range(10_000):
        capture.feed(b"x" * 1000)
    kept = len(capture._head) + sum(map(len, capture._tail))
    assert kept < 3000
