"""Text of models and tools cannot control a terminal. Changes are reported without git."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox_agent.reports.escape import TerminalFilter, escape_text, one_line
from sandbox_agent.reports.workspace_changes import MAX_LINES, Snapshot, summary


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("\x9b2J\r\x08\x7f\0", "\\x9b2J\\x0d\\x08\\x7f\\x00"),
        ("a\u202eb\u2066c\u2028", "a\\u202eb\\u2066c\\u2028"),
        ("\ud800", "\\ud800"),
        ("grüße 你好 🙂", "grüße 你好 🙂"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert escape_text(text) == shown


def test_a_line_is_one_line() -> None:
    assert one_line("a\nb\r\n  c\x1b[2J") == "a b c\\x1b[2J"
    assert one_line("x" * 500) == "x" * 200 + "..."


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_commands_colours_pass_and_everything_else_does_not(size: int) -> None:
    data = "\x1b[1;31mrot\x1b[0m\r50%\x1b[2J\x1b]0;title\x07 é🙂 \x1b[6n".encode() + b"\xff|"
    terminal = TerminalFilter()
    shown = b"".join(terminal.feed(data[n : n + size]) for n in range(0, len(data), size))
    assert terminal.end() == b""
    assert shown.decode() == (
        "\x1b[1;31mrot\x1b[0m\r50%\\x1b[2J\\x1b]0;title\\x07 é🙂 \\x1b[6n\\xff|"
    )


def test_changes_are_reported_by_name_and_size(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("1")
    (tmp_path / "edited").write_text("1")
    (tmp_path / "gone").write_text("1")
    (tmp_path / ".git").mkdir()
    before = Snapshot.take(tmp_path)
    (tmp_path / "edited").write_text("123")
    (tmp_path / "gone").unlink()
    (tmp_path / "new\x1b[2J").write_text("12")
    (tmp_path / ".git" / "index").write_text("1")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert summary(before, Snapshot.take(tmp_path)) == [
        "4 files changed",
        "  M edited  1 -> 3 bytes",
        "  D gone",
        f"  A loop  {len(str(tmp_path))} bytes",
        "  A new\\x1b[2J  2 bytes",
    ]
    assert summary(before, before) == ["nothing changed"]


def test_many_changes_are_cut(tmp_path: Path) -> None:
    before = Snapshot.take(tmp_path)
    for number in range(MAX_LINES + 5):
        (tmp_path / f"{number:03}").touch()
    lines = summary(before, Snapshot.take(tmp_path))
    assert lines[0] == "25 files changed"
    assert lines[-1] == "  ... and 5 more"
    assert len(lines) == MAX_LINES + 2


def test_what_a_command_does_not_finish_is_shown_at_its_end() -> None:
    terminal = TerminalFilter()
    for cut, shown in ((b"\x1b[1;3", "\\x1b[1;3"), ("é".encode()[:1], "\\xc3"), (b"whole", "")):
        terminal.feed(cut)
        assert terminal.end().decode() == shown
    assert terminal.feed(b"m") == b"m"
