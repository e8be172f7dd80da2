"""Texts for the page: masked, then cut, then visible."""

from __future__ import annotations

from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.page.texts import Texts
from sandbox_agent.reports.report import Text

SECRET = "correct-horse-battery"


def test_what_is_left_out_is_counted() -> None:
    texts = Texts(Mask(), 100)
    for length in (0, 100, 101, 5000, 12_288, 12_289, 1_000_000):
        shown = texts.block(Text.of("x" * length))
        assert len(shown.head) + len(shown.tail) + shown.left_out == length
        assert bool(shown.left_out) == (length > 100)


def test_cuts_are_made_between_lines() -> None:
    shown = Texts(Mask(), 100).block("".join(f"line {n:03}\n" for n in range(100)))
    assert shown.head.endswith("\n") and shown.tail.startswith("line ")


def test_no_cut_shows_a_part_of_a_secret() -> None:
    mask = Mask([SECRET])
    for place in range(20, 140):
        text = "x" * place + SECRET + "y" * 300
        for shown in (Texts(mask, 100).block(text), Texts(mask, 160).block(text)):
            assert "horse" not in shown.head + shown.tail
            assert "corr" not in shown.head and "tery" not in shown.tail
        assert "horse" not in Texts(mask, 100).line(text)


def test_windows_line_ends_are_line_ends_and_other_marks_are_shown() -> None:
    assert Texts(Mask(), 100).block("a\r\nb\rc\ufeff\0").head == "a\nb\\x0dc\\ufeff\\x00"
