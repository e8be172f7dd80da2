"""Long output keeps its head and its tail, and says how much is missing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent.run.truncate import cut
from sandbox_agent_sandbox.capture import Capture
from sandbox_agent_sandbox.inside.worker.result_text import truncate


def test_short_output_is_left_alone() -> None:
    assert cut(b"x" * 100, 100) == b"x" * 100


@settings(database=None, max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=300), st.integers(8, 60))
def test_a_cut_counts_exactly_and_tears_no_character(text: str, limit: int) -> None:
    data = text.encode("utf-8", "replace")
    got = cut(data, limit)
    got.decode()
    if len(data) <= limit:
        assert got == data
        return
    marks = list(re.finditer(rb"\n\[\.\.\. (\d+) bytes left out \.\.\.\]\n", got))
    assert any(
        data.startswith(got[: mark.start()])
        and data.endswith(got[mark.end() :])
        and mark.start() + int(mark[1]) + len(got) - mark.end() == len(data)
        for mark in marks
    )


@settings(database=None, max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(8, 60))
def test_bytes_that_are_not_utf8_are_cut_too(data: bytes, limit: int) -> None:
    assert len(cut(data, limit)) <= limit + 40


@pytest.mark.parametrize("size", [3_000, 50_000, 3_000_003])
def test_what_an_earlier_limit_left_out_is_counted_too(size: int) -> None:
    capture = Capture(10_000)
    capture.feed(b"x" * size)
    printed = capture.text().encode()
    returned = truncate("\u00e9" * (size // 2), 10_000).encode()
    for data, boundary in ((printed, len(printed)), (printed, 0), (returned, 0)):
        [count] = re.findall(rb"(\d+) bytes left out", cut(data, 1_000, boundary))
        kept = cut(data, 1_000, boundary).replace(b"\n[... %s bytes left out ...]\n" % count, b"")
        assert int(count) + len(kept) == size // 2 * 2 + (size % 2 if data is printed else 0)
    both = cut(printed + returned, 1_000, len(printed))
    [count] = re.findall(rb"(\d+) bytes left out", both)
    assert int(count) + 1_000 == size + size // 2 * 2
    said = b"\n[... 7 bytes left out ...]\n"  # by a tool, not in the middle
    assert b"[... %d bytes" % (2_000 + len(said)) in cut(b"x" * 2_000 + said + b"x" * 1_000, 1_000)
