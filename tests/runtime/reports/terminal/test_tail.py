"""The last lines of an output are kept, however long it is."""

from __future__ import annotations

from sandbox_agent.reports.terminal.tail import KEPT, OutputTail


def test_the_last_lines_in_pieces_of_any_size() -> None:
    text = "".join(f"line {n} grüße\n" for n in range(10_000)).encode()
    for size in (1, 7, 4096, len(text)):
        tail = OutputTail()
        for at in range(0, len(text), size):
            tail.feed(text[at : at + size])
        assert tail.lines(2) == ["line 9998 grüße", "line 9999 grüße"]
        assert tail.total == len(text)


def test_a_progress_bar_shows_its_last_state_and_no_colours() -> None:
    tail = OutputTail()
    tail.feed(b"begun\n 10%\r 20%\r\x1b[32m 30%\x1b[0m\r")
    assert tail.lines(5) == ["begun", " 30%"]


def test_nothing_printed_is_no_line() -> None:
    assert OutputTail().lines(5) == []


def test_half_a_line_at_the_beginning_of_what_is_kept_is_left_out() -> None:
    tail = OutputTail()
    tail.feed(b"x" * 2 * KEPT + b"\nend")
    assert tail.lines(5) == ["end"]
    tail.feed(b"y" * 2 * KEPT)
    assert tail.lines(1) == ["y" * KEPT]
