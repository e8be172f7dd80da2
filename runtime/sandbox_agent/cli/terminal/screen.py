"""Writes the view to a terminal: lines that stay, and below them a frame that is redrawn."""

from __future__ import annotations

import os
from dataclasses import replace

from rich.cells import cell_len
from rich.text import Text
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.capture import note

from sandbox_agent.cli.stream import QUEUE_BYTES, Stream
from sandbox_agent.journal import events
from sandbox_agent.models import ModelDelta
from sandbox_agent.reports.mask import mask_for
from sandbox_agent.reports.terminal import transcript
from sandbox_agent.reports.terminal.frame import frame
from sandbox_agent.reports.terminal.live_run import LiveRun
from sandbox_agent.reports.terminal.look import Look, Painter
from sandbox_agent.reports.terminal.tail import OutputTail

_DEFAULT = (80, 24)
"""Of a terminal that does not say its size."""


class Screen:
    """All in the thread of the view. Writes nothing itself: the stream does.

    tails: the output of calls; see `LiveRun`.
    """

    def __init__(
        self,
        stream: Stream,
        tails: dict[str, OutputTail],
        *,
        colour: bool = True,
        ascii: bool = False,
        verbose: bool = False,
    ) -> None:
        self._stream = stream
        self._verbose = verbose
        self._run = LiveRun(tails)
        self._painter = Painter(Look(self._size()[0], colour, ascii))
        self._above = bytearray()
        self._left_out = 0
        self._needed: int | None = None
        self._shown: list[Text] = []

    @property
    def is_hidden(self) -> bool:
        """Whether the frame is away, and the terminal has taken that."""
        return not self._shown and self._stream.is_idle

    def take(self, heard: events.AnyEvent | ModelDelta | bytes) -> None:
        """Something has happened, or is to be said."""
        if isinstance(heard, bytes):
            self._put(heard)
        elif isinstance(heard, ModelDelta):
            self._run.hear(heard)
        else:
            ended = self._run.apply(heard)
            if isinstance(heard, events.JournalOpened | events.SegmentStarted):
                mask = mask_for(self._run.report, os.environ)
                self._painter = Painter(replace(self._painter.look, mask=mask.apply))
            look = self._look()
            for line in transcript.lines(heard, ended, look, verbose=self._verbose):
                self._put(self._painter.paint(line).encode("utf-8", "backslashreplace") + b"\n")

    def count_signals(self, received: int, now: float) -> None:
        """How many signals have come so far. The second interrupt skips the grace period; the first
        one may have been `sandbox-agent cancel`, which is no signal."""
        if self._run.stopped is None:
            return
        if self._needed is None:
            by_cancel = self._run.stopped[1] == CancelReason.INTERRUPT and not received
            self._needed = 1 if by_cancel else 2
        if received >= self._needed and self._run.hurried is None:
            self._run.hurried = now

    def draw(self, now: float, *, at_once: bool, hide: bool) -> None:
        """Queues what has changed. at_once: even if the terminal has not taken what came before."""
        if self._stream.error is not None or not (at_once or self._stream.is_idle):
            return
        look = self._look()
        hide = hide or not in_foreground(self._stream.fd)
        new = [] if hide else frame(self._run, now, self._size()[1], look)
        if not self._above and new == self._shown:
            return
        body = self._take_above()
        for line in new:
            body += self._painter.paint(line).encode("utf-8", "backslashreplace") + b"\n"
        # Asked last: painting takes a while, in which the terminal may become narrower.
        self._stream.note(_replaced(_height(self._shown, self._size()[0]), body))
        self._shown = new

    def _put(self, data: bytes) -> None:
        """Keeps lines for the next frame, as many as the queue of a stream keeps."""
        if len(self._above) >= QUEUE_BYTES:
            self._left_out += len(data)
        else:
            self._above += data

    def _take_above(self) -> bytes:
        data = bytes(self._above)
        if self._left_out:
            data += note(self._left_out)
        self._above.clear()
        self._left_out = 0
        return data

    def _look(self) -> Look:
        columns = self._size()[0]
        if columns != self._painter.look.columns:
            self._painter = Painter(replace(self._painter.look, columns=columns))
        return self._painter.look

    def _size(self) -> tuple[int, int]:
        try:
            columns, rows = os.get_terminal_size(self._stream.fd)
        except OSError:  # it is gone
            return _DEFAULT
        return columns or _DEFAULT[0], rows or _DEFAULT[1]


def _replaced(height: int, body: bytes) -> bytes:
    """Writes `body` in place of the last `height` rows. They are cleared one by one: tmux moves a
    screen that is cleared as a whole into its history, and joins lines that are only written over
    with those that once stood there, when it becomes narrower."""
    if not height:
        return b"\r" + body
    up = b"\r\x1b[%dA" % height
    return up + b"\x1b[2K\x1b[B" * height + up + body


def _height(lines: list[Text], columns: int) -> int:
    """Rows that the lines take now. A terminal that has become narrower has broken them. If it
    becomes narrower while a frame is on its way, the count is wrong once, and old rows stay above.
    """
    return sum(max(1, -(-cell_len(line.plain) // columns)) for line in lines)


def in_foreground(fd: int) -> bool:
    """Whether the terminal belongs to this job, and not to a shell that has put it into the
    background (`bg`, `&`). tcgetpgrp(3)"""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not the controlling terminal: no shell has it either
        return True
