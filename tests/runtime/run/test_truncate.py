"""Long output keeps its head and its tail, and says how much is missing."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent.run.truncate import cut


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
