"""The diff of an edit."""

from __future__ import annotations

import time

import pytest
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.page.diff import diff_of
from sandbox_agent.reports.page.texts import Texts

TEXTS = Texts(Mask(), 4096)


def lines(old: str, new: str, limit: int = 4096) -> list[str]:
    found = diff_of("edit_file", {"old": old, "new": new}, Texts(Mask(), limit))
    assert found is not None
    return [sign + text for sign, text in found.lines]


def test_an_edit_has_a_diff_and_nothing_else_has() -> None:
    assert lines("a\nb\nc", "a\nB\nc\nd") == [" a", "-b", "+B", " c", "+d"]
    for tool, arguments in (
        ("shell", {"old": "a", "new": "b"}),
        ("edit_file", {"old": "a"}),
        ("edit_file", {"old": 1, "new": 2}),
        ("edit_file", "not json"),
    ):
        assert diff_of(tool, arguments, TEXTS) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("same", ["", "x\n"])
def test_long_texts_are_compared_in_linear_time(same: str) -> None:
    old = same + "\n".join(str(n) for n in range(3000)) + "\nend"
    new = same + "\n".join(str(-n) for n in range(3000)) + "\nend"
    found = diff_of("edit_file", {"old": old, "new": new}, Texts(Mask(), 10**6))
    assert found is not None
    assert len(found.lines) == 6000 + len(same) // 2


@pytest.mark.parametrize("text", ["a\n", "a\nb\n", "\n"])
def test_no_text_makes_it_slow(text: str) -> None:
    began = time.process_time()
    for _ in range(20):
        diff_of("edit_file", {"old": text * 50, "new": text * 60}, TEXTS)
        diff_of("edit_file", {"old": text * 5000, "new": text * 6000}, TEXTS)
    assert time.process_time() - began < 5


def test_a_long_diff_is_cut_and_says_so() -> None:
    found = diff_of("edit_file", {"old": "a\n" * 500, "new": "b" * 9000}, Texts(Mask(), 512))
    assert found is not None
    assert found.left_out > 400
    assert sum(len(text) for _, text in found.lines) <= 512
