"""The last lines of what a call prints, while it prints."""

from __future__ import annotations

import re

KEPT = 16384
"""Bytes of a call's output that are kept for the view."""

_COLOURS = re.compile(r"\x1b\[[0-9;:]{0,32}m")


class OutputTail:
    """The end of an output. One thread feeds it, another one may read."""

    def __init__(self) -> None:
        self._kept = b""
        self.total = 0

    def feed(self, data: bytes) -> None:
        """More of the output. Costs the same however long the output is."""
        self.total += len(data)
        self._kept = (self._kept + data[-KEPT:])[-KEPT:]

    def lines(self, count: int) -> list[str]:
        """The last lines, as a terminal would leave them after carriage returns. Nothing is
        escaped yet."""
        kept = self._kept
        lines = kept.decode("utf-8", "replace").rstrip("\n").split("\n")
        if len(kept) < self.total and len(lines) > 1:
            del lines[0]  # its beginning is not kept
        return [overwritten(line) for line in lines[-count:]] if kept else []


def overwritten(line: str) -> str:
    """What is left of a line with carriage returns, such as a progress bar; without colours."""
    return _COLOURS.sub("", line.rstrip("\r").rpartition("\r")[2])
