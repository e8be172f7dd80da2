"""Ctrl-C during a blocking `run()`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class CtrlC:
    """While this is entered, SIGINT calls `interrupt` instead of raising KeyboardInterrupt.

    Only in the main thread, and only if Python's own handler is in place: a handler of yours stays.
    asyncio.Runner installs no handler of its own then. Its handler would raise KeyboardInterrupt at
    the second Ctrl-C, in the middle of stopping.

    pressed: whether SIGINT came.
    """

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self._interrupt = interrupt
        self._before: Any = None
        self.pressed = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        self._interrupt()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
