"""Lines fit into the terminal, whatever is in them."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from sandbox_agent.reports.terminal.look import Look, Painter

HOSTILE = [
    "\x1b]52;c;aGk=\x07\x1b[2J\x9b6n",
    "a\rb\x08c\x00d\u202ee\u2066f",
    "日本語のとても長い文章がここにあります" * 5,
    "👩‍👩‍👧‍👦 family ❤️ " * 20,
    "e\u0301" * 100,
    "\ttab\ttab" * 20,
    "\ud800 half",
    "x" * 10_000_000,
    "",
]


@pytest.mark.parametrize("columns", [1, 2, 5, 10, 40, 80, 200])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_line_is_one_line_and_controls_nothing(columns: int, ascii_only: bool) -> None:
    look = Look(columns, colour=False, ascii=ascii_only)
    for text in HOSTILE:
        line = look.line([("* ", "red"), ("tool ", "bold")], (text, ""), [("  12 s", "cyan")])
        assert cell_len(line.plain) <= look.width, text[:20]
        shown = Painter(look).paint(line)
        assert not [c for c in shown if ord(c) < 32 or 127 <= ord(c) < 160]
        assert not set(shown) & set("\u202e\u2066\u200d\ufe0f\ud800")
        if ascii_only:
            assert shown.isascii()


def test_the_middle_is_cut_and_the_end_is_left_out_last() -> None:
    look = Look(30, colour=False)
    end = [("  12 s", ""), (" of 120 s", "")]
    assert look.line([("shell ", "")], ("make", ""), end).plain == "shell make  12 s of 120 s"
    assert look.line([("shell ", "")], ("make a very long test", ""), end).plain == (
        "shell make a very long…  12 s"
    )
    assert Look(12, colour=False).line([("shell ", "")], ("make test", ""), end).plain == (
        "shell make…"
    )


def test_text_is_wrapped_at_words_and_bounded() -> None:
    look = Look(21, colour=False)
    lines = look.wrapped("The quick brown fox jumps.\n\nIt is gone.", "", "  ", 20)
    assert [line.plain.rstrip() for line in lines] == [
        "  The quick brown", "  fox jumps.", "", "  It is gone.",
    ]  # fmt: skip
    lines = look.wrapped("word " * 1_000_000, "", "", 3)
    assert len(lines) == 4 and lines[-1].plain == "… there is more"
    lines = look.wrapped("\n" * 1_000_000, "", "", 3)
    assert len(lines) == 4


def test_colours_are_the_persons_own_or_none() -> None:
    line = Look(80).line([("x ", "red")], ("text", "bold"))
    assert Painter(Look(80)).paint(line) == "\x1b[31mx \x1b[0m\x1b[1mtext\x1b[0m"
    assert Painter(Look(80, colour=False)).paint(line) == "x text"
