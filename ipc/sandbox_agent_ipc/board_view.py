"""A child's end of the cancel board, see `board`.

Apart from the host's end, which needs `threading`: each fork would pay for its at-fork hook.
"""

from __future__ import annotations

import mmap

from .errors import IpcError
from .token import CallToken

SLOTS = 64
SIZE = 4096
WORDS_PER_SLOT = SIZE // SLOTS // 8


class BoardView:
    """A child's end: the same page, read-only.

    fd: the board's descriptor. The mapping keeps its own duplicate; `fd` may be closed.
    Make the view after closing descriptors in bulk, or that closes the duplicate.
    Raises IpcError when the descriptor is no cancel board.
    """

    def __init__(self, fd: int) -> None:
        try:
            self._words = memoryview(mmap.mmap(fd, SIZE, access=mmap.ACCESS_READ)).cast("Q")
        except (OSError, ValueError) as error:
            raise IpcError(f"descriptor {fd} is no cancel board: {error}") from error

    def word(self, slot: int) -> int:
        """The word of a slot now."""
        return self._words[slot * WORDS_PER_SLOT]

    def token(self, slot: int, word: int, wake_fd: int) -> CallToken:
        """The token of the call that holds `slot` with the live word `word`; see `CallToken`.

        Raises IpcError when there is no such slot.
        """
        if not 0 <= slot < SLOTS:
            raise IpcError(f"slot {slot} is not on the cancel board (0 to {SLOTS - 1})")
        return CallToken(self._words, slot * WORDS_PER_SLOT, word, wake_fd)
