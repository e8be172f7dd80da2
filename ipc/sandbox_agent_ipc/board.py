"""The cancel board: one page of shared memory that the host writes and other processes only read.
What children have of it is in `board_view`.

Each call has a slot of 64 bytes: the state word (`cancel_reason`), the deadline (CLOCK_MONOTONIC
nanoseconds), and the call's id for debuggers. The deadline is for information: a call acts on
nothing but the word.

Seals keep a child from writing, root included. F_SEAL_FUTURE_WRITE refuses write(2), new writable
mappings, mprotect(2) of read-only ones and hole punching, through this descriptor and through any
reopened one. SHRINK and GROW refuse truncation, which would send the host a SIGBUS. The host's own
writable mapping is not inherited (MADV_DONTFORK).
"""

from __future__ import annotations

import mmap
import os
import sys
import threading

from . import memfd
from .after_fork import call_after_fork
from .board_view import SIZE, SLOTS, WORDS_PER_SLOT
from .cancel_reason import CancelReason, cancelled_word, idle_word, live_word
from .errors import BoardFull, IpcError
from .shortage import explained, is_shortage

_ID_BYTES = 48

_kept_mapped: list[mmap.mmap] = []
"""The pages of boards that forked children got. See `Board.after_fork_in_child`."""


class Board:
    """The host's end. Children get `fd`; `close()` closes it."""

    def __init__(self) -> None:
        try:
            self.fd, self._map = _make_page()
        except OSError as error:
            hint = "" if is_shortage(error) else ". It needs Linux 5.1 or newer"
            raise IpcError(f"the cancel board cannot be made: {explained(error)}{hint}") from error
        self._words = memoryview(self._map).cast("Q")
        self._lock = threading.Lock()
        self._generations = [1] * SLOTS
        self._free = list(range(SLOTS - 1, -1, -1))
        self._claimed: set[Slot] = set()
        self._closed = False
        self._forked = False
        call_after_fork(self)

    def claim(self, call_id: str, deadline_ns: int) -> Slot:
        """Takes a slot for a call.

        deadline_ns: CLOCK_MONOTONIC nanoseconds; 0 for none.
        Raises BoardFull when all slots are taken, IpcError after `close()` or in a forked child.
        """
        if self._forked:
            raise IpcError("this cancel board belongs to the process that forked this one")
        with self._lock:
            if self._closed:
                raise IpcError("the cancel board is closed")
            if not self._free:
                raise BoardFull(
                    f"all {SLOTS} slots of the cancel board are taken; wait for a call to end"
                )
            index = self._free.pop()
            first = index * WORDS_PER_SLOT
            live = live_word(self._generations[index])
            start = (first + 2) * 8
            name = call_id.encode("utf-8", "replace")[:_ID_BYTES]
            self._map[start : start + _ID_BYTES] = name.ljust(_ID_BYTES, b"\0")
            self._words[first + 1] = deadline_ns
            self._words[first] = live  # last: from here on the slot means this call
            slot = Slot(self, index, live, self._words[first : first + 2])
            self._claimed.add(slot)
            return slot

    def after_fork_in_child(self) -> None:
        """Latches the board: it is the parent's. A pid would not do instead: the child of a pid-1
        host may be pid 1 of its own namespace."""
        self._forked = True
        # Never collected here: unmapping an address range that this process does not have could
        # hit whatever was mapped there since.
        _kept_mapped.append(self._map)

    def close(self) -> None:
        """Cancels what is still claimed (CLOSED), unmaps and closes. Idempotent."""
        if self._forked:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for slot in self._claimed:
                # These calls cannot be flagged after this. A process that survives sees the flag.
                slot.cancel(CancelReason.CLOSED)
                slot._cell.release()
            self._claimed.clear()
            self._words.release()
            self._map.close()
            os.close(self.fd)

    def _release(self, slot: Slot, proven_dead: bool) -> None:
        if self._forked:
            return
        with self._lock:
            if slot not in self._claimed:
                return
            self._claimed.remove(slot)
            if not proven_dead:
                # A process may still look at this word. It sees it cancelled for ever, because no
                # other call gets the slot.
                slot.cancel(CancelReason.CLOSED)
                slot._cell.release()
                return
            # A cancel() that another thread has half done fails from here on, because the view is
            # released. It cannot reach the next call's word.
            slot._cell.release()
            self._generations[slot.index] += 1
            self._words[slot.index * WORDS_PER_SLOT] = idle_word(self._generations[slot.index])
            self._free.append(slot.index)


class Slot:
    """One call's place on the board, in the host."""

    __slots__ = ("__weakref__", "_board", "_cell", "_first", "index", "word")

    def __init__(self, board: Board, index: int, word: int, cell: memoryview[int]) -> None:
        self._board = board
        self._cell = cell
        self._first: dict[None, CancelReason] = {}
        self.index = index
        self.word = word
        """The live word: what the call's token compares with."""

    @property
    def is_cancelled(self) -> bool:
        """True from the first `cancel()` that took effect on, also after `release()`."""
        return bool(self._first)

    @property
    def reason(self) -> CancelReason | None:
        """The first reason; None while not cancelled."""
        return self._first.get(None)

    def cancel(self, reason: CancelReason) -> None:
        """Flags the call; a later reason changes nothing, and so does a released slot's cancel.

        Takes no lock: safe in any thread and in a signal handler, whatever it interrupted.
        It wakes no process: for that, write a byte to the call's wake pipe afterwards.
        """
        if self._board._forked:
            return  # MADV_DONTFORK: the page is not there
        try:
            self._cell[0]
            first = self._first.setdefault(None, reason)
            # One aligned 8-byte store. It checks that the view is not released and stores in one
            # step of the interpreter, and any other frame that cancels now stores the same value.
            self._cell[0] = cancelled_word(self.word, first)
        except ValueError:
            pass  # released

    def shift_deadline(self, seconds: float) -> None:
        """Moves the deadline, if there is one: the call's processes stood still for so long."""
        try:
            if deadline := self._cell[1]:
                self._cell[1] = deadline + int(seconds * 1e9)
        except ValueError:
            pass  # released

    def release(self, proven_dead: bool) -> None:
        """Gives the slot back when the call is over. Idempotent.

        proven_dead: True when no process can look at the word any more. The slot is then reused
        with a new generation. False takes it out of service for ever.
        """
        self._board._release(self, proven_dead)


def _make_page() -> tuple[int, mmap.mmap]:
    """The sealed descriptor, and the only writable mapping that there will ever be."""
    fd = memfd.create("sandbox-agent-board")
    try:
        os.ftruncate(fd, SIZE)
        page = mmap.mmap(fd, SIZE)
        page.madvise(mmap.MADV_DONTFORK)
        for index in range(SLOTS):
            start = index * SIZE // SLOTS
            page[start : start + 8] = idle_word(1).to_bytes(8, sys.byteorder)
        memfd.add_seals(
            fd,
            memfd.F_SEAL_FUTURE_WRITE | memfd.F_SEAL_SHRINK | memfd.F_SEAL_GROW | memfd.F_SEAL_SEAL,
        )
    except OSError:
        os.close(fd)
        raise
    return fd, page
