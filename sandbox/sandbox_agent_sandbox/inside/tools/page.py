"""As much of a file, or of a list, as fits into the result that the model gets: whole lines, and a
notice of what is left."""

from __future__ import annotations

from typing import BinaryIO

from sandbox_agent_sandbox.capture import without_torn_end
from sandbox_agent_sandbox.inside.worker.call_facts import current
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError

_FOR_NOTICES = 512
"""Bytes of a result that are kept for what is said about it."""
PIECE = 1024 * 1024
"""Bytes of a line that are read at once: a line may be as long as the file."""


def _room() -> int:
    whole = current().room
    return max(whole - _FOR_NOTICES, whole // 2, 1)


class Page:
    """Some lines of a text file.

    file: at its start. first: the number of the first line to read. column: of its first byte.
    """

    def __init__(self, path: str, file: BinaryIO, first: int, column: int) -> None:
        self._path = path
        self._file = file
        self._first = first
        self._column = column
        self._lossy = False

    def text(self, limit: int | None) -> str:
        """The lines, at most `limit`, and the notice where to go on. Raises ToolError for a line
        that the file does not have."""
        skipped = _skip_lines(self._file, self._first - 1)
        self._skip_columns()
        taken: list[str] = []
        room = _room()
        more = False
        while limit is None or len(taken) < limit:
            start = self._file.tell()
            line = self._file.readline(room + 1)
            if not line:
                break
            text = line.decode(errors="replace")
            size = len(text.encode())
            if size > room:
                if not taken and size > _room():
                    return self._cut_line(line)
                self._file.seek(start)
                more = True
                break
            room -= size
            taken.append(text)
            self._notice_loss(line, text)
        if not taken and self._first > 1 and self._column == 1:
            raise ToolError(f"{self._path!r} has no line {self._first}; its last line is {skipped}")
        more = more or bool(self._file.read(1))
        notices = []
        if more:
            notices.append(f"[the file goes on: offset={self._first + len(taken)}]")
        return "".join(taken) + self._told(notices)

    def _skip_columns(self) -> None:
        left = self._column - 1
        while left:
            piece = self._file.readline(min(left, PIECE))
            left -= len(piece)
            if not piece or (piece.endswith(b"\n") and left >= 0):
                raise ToolError(
                    f"line {self._first} of {self._path!r} has only {self._column - 1 - left} bytes"
                )

    def _notice_loss(self, line: bytes, text: str) -> None:
        if "\ufffd" in text and b"\xef\xbf\xbd" not in line:
            self._lossy = True

    def _cut_line(self, line: bytes) -> str:
        """The beginning of a line that alone is too long."""
        room = size = _room()
        while True:
            part = without_torn_end(line[:size]) or line[:1]
            text = part.decode(errors="replace")
            length = len(text.encode())
            if length <= room or len(part) <= 1:
                break
            size = size * room // (length + 1)  # bytes that are not UTF-8 become longer
        self._notice_loss(part, text)
        last = self._column - 1 + len(part)
        return f"{text}\n" + self._told(
            [
                f"[line {self._first} is too long for one result; these are its bytes "
                f"{self._column} to {last}. To go on: offset={self._first}, column={last + 1}]"
            ]
        )

    def _told(self, notices: list[str]) -> str:
        if self._lossy:
            notices.append("[bytes that are not UTF-8 are shown as \ufffd]")
        return "\n".join(notices)


def _skip_lines(file: BinaryIO, count: int) -> int:
    """Move past `count` lines, or to the end of the file. Returns how many lines there were."""
    done = 0
    while done < count:
        piece = file.readline(PIECE)
        while len(piece) == PIECE and not piece.endswith(b"\n"):
            piece = file.readline(PIECE) or b"\n"
        if not piece:
            break
        done += 1
    return done


def listing(lines: list[str], notices: list[str], nothing: str) -> str:
    """Lines and notices as one result; `[nothing]` without a line. What does not fit is left out,
    whole lines, and counted."""
    room = _room() - sum(len(notice.encode()) + 1 for notice in notices)
    shown: list[str] = []
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            notices = [
                *notices,
                f"[{len(lines) - len(shown)} more lines do not fit; narrow what you ask for]",
            ]
            break
        shown.append(line)
    return "\n".join((shown or ([] if lines else [f"[{nothing}]"])) + notices)
