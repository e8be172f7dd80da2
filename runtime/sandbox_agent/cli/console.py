"""Standard output and error of a command: results on the one, progress and notes on the other.

Where both lead to one file (a terminal, a pipe, a log), one thread writes both, so what comes out
has the order in which it was written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from sandbox_agent.cli.stream import GiveUp, Stream
from sandbox_agent.reports.escape import TerminalFilter, escape_text

if TYPE_CHECKING:
    from typing import Protocol

    from sandbox_agent_sandbox.outcome import Survivor

    class View(Protocol):
        """What draws on standard error, below the notes."""

        def say(self, data: bytes) -> None:
            """Writes a note above the view, in its place."""

        def stop(self) -> None:
            """Takes the view away, and sets `Console.view` to None. From any thread, more than
            once."""


CLOSE_SECONDS = 1.0
"""Seconds that a run which was stopped waits for a reader, and that the last note waits for one."""

COLOURS = {"red": 31, "green": 32, "yellow": 33}
"""SGR of ECMA-48, in the colours that the person has chosen for the terminal."""
_JOBS = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "TEAMCITY_VERSION")
"""Variables of CI systems that act on lines of the log of a job."""

_TIOCGDEV = 0x80045432
"""Which terminal a descriptor leads to, also by /dev/tty: linux/tty.h. Since Linux 3.3."""


def fill_standard_descriptors() -> frozenset[int]:
    """Opens /dev/null in place of closed standard descriptors (`>&-`), and returns which were.

    Otherwise the next opened file, for example the journal, becomes standard output.
    """
    closed = set()
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            closed.add(fd)
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != fd:  # open(2) takes the lowest free number
                os.dup2(opened, fd)
                os.close(opened)
    return frozenset(closed)


class Loss:
    """Output that was not written. error: why; None if its reader did not read."""

    def __init__(self, error: OSError | None) -> None:
        self.error = error

    @property
    def reader_has_closed(self) -> bool:
        """Whether the reader wants no more, as `head` does not."""
        return self.error is not None and self.error.errno == errno.EPIPE

    @property
    def is_failure(self) -> bool:
        """Whether writing failed, and not for its reader."""
        return self.error is not None and self.error.errno != errno.EPIPE


class Console:
    """The output of a command.

    closed: standard descriptors that were closed when the command began. one_file: whether both
    streams lead to one file. says_closed: whether a reader that has closed is worth a message.
    memory_is_short: whether the command ends for want of memory. colour: whether notes have
    colours. encoding: of notes. view: what draws below the notes, or None.
    """

    def __init__(self, closed: Collection[int] = ()) -> None:
        lost = OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.one_file = not closed and _is_one_file(1, 2)
        self.stdout = Stream(1, lost if 1 in closed else None)
        self.stderr = self.stdout if self.one_file else Stream(2, lost if 2 in closed else None)
        self.says_closed = False
        self.memory_is_short = False
        self.colour = False
        self.encoding = "utf-8"
        self.view: View | None = None
        self._told: set[Stream] = set()
        self._filters: dict[Stream, TerminalFilter] = {}

    def out(self, text: str, give_up: GiveUp | None = None) -> None:
        """Writes a result. Control characters are escaped only for a terminal, and commands to a CI
        system only where the log of a job may read them. give_up: see `Stream.write`."""
        shown = escape_text(text) if self.stdout.is_terminal else text
        if _is_log_of_job():
            shown = _disarmed(shown)
        self.stdout.write(shown.encode("utf-8", "surrogateescape"), give_up)

    def err(self, text: str, colour: str = "") -> None:
        """Writes a note. Control characters are always escaped. colour: one of COLOURS."""
        self._note(text, colour, may_be_left_out=False)

    def progress(self, text: str, colour: str = "") -> None:
        """Writes a note that may be left out while the reader is slow."""
        self._note(text, colour, may_be_left_out=True)

    def _note(self, text: str, colour: str = "", *, may_be_left_out: bool) -> None:
        data, view = _shown(text, self.encoding), self.view
        if colour and self.colour:
            data = b"\x1b[%dm%s\x1b[0m\n" % (COLOURS[colour], data.removesuffix(b"\n"))
        if view is not None:
            view.say(data)
        else:
            self.stderr.note(data, may_be_left_out=may_be_left_out)

    def command(self, line: str) -> None:
        """Writes a line for the CI system: what comes from inside is escaped in it already."""
        self.stderr.note(line.encode("utf-8", "backslashreplace"))

    def error(self, message: str) -> None:
        """Writes an error message."""
        self.err(f"sandbox-agent: {message}\n")

    def survivors(self, survivors: Iterable[Survivor]) -> None:
        """Names the processes that could not be stopped."""
        for survivor in survivors:
            self.error(f"could not stop pid {survivor.pid}: {survivor.command}")

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Writes a warning; a `warnings.showwarning`. May be called from any thread."""
        self._note(f"warning: {message}\n", may_be_left_out=True)

    def passer(self) -> Callable[[str, bytes], Stream]:
        """Returns a function that passes on a command's output: `f("stdout", data)`. The function
        returns the stream that it wrote to."""
        streams = {"stdout": self.stdout, "stderr": self.stderr}
        self._filters = {s: TerminalFilter() for s in streams.values() if s.is_terminal}

        def pass_on(name: str, data: bytes) -> Stream:
            stream = streams[name]
            if stream in self._filters:
                data = self._filters[stream].feed(data)
            stream.write(data)
            return stream

        return pass_on

    def finish(self, give_up: GiveUp) -> Loss | None:
        """Waits until all is written, for as long as the readers live, or until `give_up()`. Says
        what was lost and returns it, once."""
        if self.view is not None:
            self.view.stop()
        for stream, terminal_filter in self._filters.items():
            stream.write(terminal_filter.end())
        losses = []
        for name, stream in self._streams():
            stream.finish(give_up)
            loss = Loss(stream.error) if stream.lost or _is_failure(stream.error) else None
            if loss is None or stream in self._told:
                continue
            self._told.add(stream)
            losses.append(loss)
            if loss.error is None:
                self.error(f"{stream.lost} bytes of {name} were lost: its reader does not read")
            elif not loss.reader_has_closed:
                self.error(f"{name} could not be written: {loss.error.strerror}")
            elif self.says_closed:
                self.error(f"{name} could not be written: its reader has closed it")
        if losses:
            self.stderr.finish(patience(CLOSE_SECONDS))
        # A failure counts for more than a reader that wants no more.
        return min(losses, key=lambda loss: loss.reader_has_closed, default=None)

    def _streams(self) -> list[tuple[str, Stream]]:
        if self.one_file:
            return [("standard output", self.stdout)]
        return [("standard output", self.stdout), ("standard error", self.stderr)]


def _shown(note: str, encoding: str) -> bytes:
    return _disarmed(escape_text(note)).encode(encoding, "backslashreplace")


def _disarmed(text: str) -> str:
    # Imported here: `--help` needs none of it.
    from sandbox_agent.reports.ci.log_commands import disarm

    return disarm(text)


def patience(seconds: float) -> GiveUp:
    """A `give_up` that is True after so many seconds."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _is_failure(error: OSError | None) -> bool:
    """Whether an error is more than a reader that has closed. A closed descriptor that nothing was
    written to is no failure either."""
    return error is not None and error.errno not in (errno.EPIPE, errno.EBADF)


def is_on(variable: str) -> bool:
    """Whether a variable of the environment is set, and not to a word that means no."""
    value = os.environ.get(variable, "")
    return value.strip().lower() not in ("", "0", "false", "no", "off")


def _is_log_of_job() -> bool:
    """Whether standard output may be the log of a CI job: it is no file of the user's own."""
    return any(map(is_on, _JOBS)) and not stat.S_ISREG(os.fstat(1).st_mode)


def _is_one_file(one: int, other: int) -> bool:
    """Whether two descriptors lead to one pipe, socket, terminal or file, and can both be written
    to."""
    modes = {fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE for fd in (one, other)}
    if os.O_RDONLY in modes:
        return False
    if os.isatty(one) and os.isatty(other):
        try:
            return _terminal(one) == _terminal(other)
        except OSError:
            pass
    return os.path.sameopenfile(one, other)


def _terminal(fd: int) -> int:
    return int(struct.unpack("I", fcntl.ioctl(fd, _TIOCGDEV, b"\0" * 4))[0])
