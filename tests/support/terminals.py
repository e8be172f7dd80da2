"""A command at a terminal: a pty, and an emulator that shows what a person would see."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyte
from identity import Person


class Terminal:
    """The master end of a pty and its screen. command: what runs there."""

    def __init__(self, fd: int, command: subprocess.Popen[str], columns: int, rows: int) -> None:
        self.fd = fd
        self.command = command
        self.raw = bytearray()
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self.screen)

    def lines(self) -> list[str]:
        """What has scrolled away and what is on the screen, without empty lines at the end."""
        columns = self.screen.columns
        above = [
            "".join(row[x].data for x in range(columns)).rstrip() for row in self.screen.history.top
        ]
        return (
            "\n".join([*above, *(line.rstrip() for line in self.screen.display)])
            .rstrip("\n")
            .split("\n")
        )

    def text(self) -> str:
        return "\n".join(self.lines())

    def read(self, seconds: float) -> bool:
        """Takes what the command writes within that time. False at its end."""
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # EIO: nobody has the other end open
                return False
            self.raw += data
            self._stream.feed(data)
            return bool(data)
        return True

    def wait_for(self, what: str | Callable[[], bool], limit: float = 30) -> None:
        """Reads until the screen has that text, or until `what()`."""
        seen = what if callable(what) else lambda: what in self.text()
        deadline = time.monotonic() + limit
        open_ = True
        while not seen():
            assert open_ and time.monotonic() < deadline, f"no {what!r} in:\n{self.text()}"
            open_ = self.read(0.05)

    def end(self, limit: float = 30) -> int:
        """Reads to the end of the command. Returns its exit code."""
        deadline = time.monotonic() + limit
        while self.read(0.05):
            assert time.monotonic() < deadline, self.text()
            if self.command.poll() is not None and not select.select([self.fd], [], [], 0)[0]:
                break
        return self.command.wait(max(0.1, deadline - time.monotonic()))

    def type(self, keys: bytes) -> None:
        """As if somebody pressed them: `\\x03` is Ctrl-C."""
        os.write(self.fd, keys)

    def resize(self, columns: int, rows: int) -> None:
        set_size(self.fd, columns, rows)
        self.screen.resize(rows, columns)


def set_size(fd: int, columns: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def at_terminal(
    person: Person,
    argv: Sequence[str],
    *,
    columns: int = 80,
    rows: int = 24,
    env: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """A command whose controlling terminal is a pty. It is ended by force where the test fails."""
    master, slave = os.openpty()
    try:
        set_size(master, columns, rows)
        if os.geteuid() == 0:
            os.fchown(slave, person.uid, person.uid)
        command = person.start(
            ["setsid", "--ctty", *argv],
            env={"TERM": "xterm-256color", **(env or {})},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            # Not a group leader, or setsid(1) would fork, and the pid would not be the command's.
            process_group=None,
        )
    finally:
        os.close(slave)
    with command:
        try:
            yield Terminal(master, command, columns, rows)
        finally:
            command.kill()
            os.close(master)
