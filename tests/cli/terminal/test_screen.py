"""The frame is drawn, replaced and taken away, in a real terminal's emulation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pyte
import pytest
from live import BEGIN, begun, ended, event, segment, turn
from sandbox_agent.cli.stream import QUEUE_BYTES, Stream
from sandbox_agent.cli.terminal.screen import Screen
from sandbox_agent.journal import events
from sandbox_agent.reports.terminal.tail import OutputTail
from terminals import set_size


class Shown:
    """A pty whose other end is an emulator."""

    def __init__(self, columns: int = 40, rows: int = 10) -> None:
        self.master, self.slave = os.openpty()
        self.emulator = pyte.HistoryScreen(columns, rows, history=1000)
        self._feed = pyte.ByteStream(self.emulator).feed
        set_size(self.master, columns, rows)
        os.set_blocking(self.master, False)
        self.stream = Stream(self.slave)
        self.tails: dict[str, OutputTail] = {}
        self.screen = Screen(self.stream, self.tails, colour=False)

    def draw(self, seconds: float, *, hide: bool = False) -> list[str]:
        """Draws, waits until the terminal has it, and returns what it shows."""
        self.screen.draw(BEGIN + seconds, at_once=False, hide=hide)
        deadline = time.monotonic() + 20
        while not self.stream.is_idle:
            assert time.monotonic() < deadline
            self.read()
        self.read()
        return [line.rstrip() for line in self.emulator.display if line.strip()]

    def read(self) -> None:
        try:
            while data := os.read(self.master, 65536):
                self._feed(data)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self.stream.finish(lambda: True)
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def shown() -> Iterator[Shown]:
    made = Shown()
    try:
        yield made
    finally:
        made.close()


def hear(shown: Shown, *heard: events.AnyEvent | bytes) -> None:
    for one in heard:
        shown.screen.take(one)


def test_a_frame_is_replaced_and_what_happened_stays_above(shown: Shown) -> None:
    hear(shown, segment(), turn(1, 1, "make", text="I build it."), *begun("call_1_1", 1))
    status = "turn 1 of 40 · 2.0 s of 20:00"
    assert shown.draw(2) == ["I build it.", "• shell make  1.0 s", status]
    hear(shown, ended("call_1_1", 3), b"warning: odd\n")
    assert shown.draw(3) == [
        "I build it.",
        "✓ shell make  2.0 s",
        "warning: odd",
        "• waiting for the model  0.0 s",
        "turn 1 of 40 · 3.0 s of 20:00",
    ]
    assert shown.draw(3, hide=True) == ["I build it.", "✓ shell make  2.0 s", "warning: odd"]
    assert shown.screen.is_hidden


def test_a_full_screen_scrolls_and_loses_nothing(shown: Shown) -> None:
    hear(shown, segment())
    for number in range(1, 30):
        hear(shown, f"line {number}\n".encode())
        shown.draw(number)
    below = shown.draw(30, hide=True)
    rows = shown.emulator.history.top
    above = ["".join(row[x].data for x in range(40)).rstrip() for row in rows]
    assert [*above, *below] == [f"line {number}" for number in range(1, 30)]


def test_a_narrower_terminal_breaks_lines_and_the_frame_is_replaced_all_the_same() -> None:
    """pyte does not break lines again when it becomes narrower, as most terminals do. So the
    emulator gets what they would show."""
    shown = Shown(columns=40)
    try:
        hear(shown, segment(), turn(1, 1, "x" * 30), *begun("call_1_1", 1), b"before\n")
        frame = shown.draw(2)[1:]
        set_size(shown.master, 20, 10)
        shown.emulator.resize(10, 20)
        shown.emulator.reset()
        shown._feed(("before\r\n" + "\r\n".join(frame) + "\r\n").encode())
        lines = shown.draw(2.5)
        assert lines[0] == "before"
        assert len(lines) == 3 and all(len(line) < 20 for line in lines)
    finally:
        shown.close()


def test_a_terminal_that_does_not_read_gets_no_more_frames(shown: Shown) -> None:
    """Drawing returns at once, and what is queued stays bounded."""
    hear(shown, segment(), turn(1, 1, "make"), *begun("call_1_1", 1))
    begin = time.monotonic()
    for number in range(2000):
        hear(shown, b"x" * 1000 + b"\n")
        shown.screen.draw(BEGIN + number, at_once=False, hide=False)
    assert time.monotonic() - begin < 5
    assert shown.stream._queued < 2 * QUEUE_BYTES
    assert len(shown.screen._above) < 2 * QUEUE_BYTES
    lines = shown.draw(3000, hide=True)
    lines = shown.draw(3001, hide=True)
    assert any("bytes left out" in line for line in lines) or lines[-1] == "x" * (1000 % 40)


def test_a_terminal_that_is_gone_ends_the_drawing() -> None:
    shown = Shown()
    hear(shown, segment(), b"before\n")
    os.close(shown.master)
    shown.screen.draw(BEGIN, at_once=False, hide=False)
    shown.stream.finish(lambda: False)
    assert shown.stream.error is not None
    hear(shown, b"after\n")
    shown.screen.draw(BEGIN + 1, at_once=True, hide=False)
    os.close(shown.slave)


def test_the_ladder_is_drawn_until_the_end(shown: Shown) -> None:
    hear(shown, segment(), turn(1, 1, "make"), *begun("call_1_1", 1))
    shown.draw(2)
    hear(shown, event(events.CancelRequested, 10, reason="interrupt"))
    assert shown.draw(10.5)[-2:] == [
        "interrupting: 1.5 s of grace left;", "Ctrl-C again skips it"
    ]  # fmt: skip
    shown.screen.count_signals(1, BEGIN + 10.8)
    assert "of grace left" in "".join(shown.draw(10.8))
    shown.screen.count_signals(2, BEGIN + 11)
    assert shown.draw(11)[-2:] == ["interrupting: SIGTERM was sent; SIGKILL", "in 1.0 s"]


def test_a_signal_after_a_cancel_from_outside_is_the_second_interrupt(shown: Shown) -> None:
    hear(shown, segment(), turn(1, 1, "make"), *begun("call_1_1", 1))
    hear(shown, event(events.CancelRequested, 10, reason="interrupt"))
    shown.screen.count_signals(0, BEGIN + 10.1)
    assert "of grace left" in "".join(shown.draw(10.1))
    shown.screen.count_signals(1, BEGIN + 10.5)
    assert "SIGTERM was sent" in "".join(shown.draw(10.6))
