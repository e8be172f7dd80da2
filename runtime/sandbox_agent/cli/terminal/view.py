"""The live view: a thread that draws what a run does, below lines about what it has done.

The thread of the run only hands over what it hears. The view's own thread draws, ten times a second
at most, and only when the terminal has taken the frame before. So a slow terminal, one that is
stopped (Ctrl-S) and one that is gone delay neither the run nor an interrupt. The thread asks the
terminal for its size at each frame, so nothing depends on SIGWINCH, which every thread blocks or
ignores.

The view changes no mode of the terminal and leaves the cursor visible. So there is nothing to
restore, however the process ends.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandbox_agent_ipc.shortage import start_thread

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.terminal.locale import is_utf8
from sandbox_agent.embedding.warn import complain
from sandbox_agent.journal import events
from sandbox_agent.models import ModelDelta
from sandbox_agent.reports.lines import Progress
from sandbox_agent.reports.terminal.tail import OutputTail

if TYPE_CHECKING:
    from sandbox_agent.cli.signals import Freezer
    from sandbox_agent.cli.terminal.screen import Screen

FRAME_SECONDS = 0.1
"""Between two frames."""
_SOON = 0.01
_END_SECONDS = 1.0
"""What the thread has at the end for the last lines: it may still be importing rich."""
_HIDE_SECONDS = 0.1
"""What Ctrl-Z waits for the terminal to take the view away."""
_FLOOD_BYTES = 1024 * 1024
_FLOOD_PAUSE = 0.001
"""A call that has printed so many bytes is read a little slower, as it is without a listener."""


class LiveView:
    """A `RunProgress`. received: how many signals have come."""

    is_live = True

    def __init__(
        self, console: Console, received: Callable[[], int], *, verbose: bool = False
    ) -> None:
        self._console = console
        if not is_utf8():
            console.encoding = "ascii"
        self._received = received
        self._verbose = verbose
        self._heard: deque[events.AnyEvent | ModelDelta | bytes] = deque()
        self._tails: dict[str, OutputTail] = {}
        self._wake = threading.Event()
        self._gone = threading.Event()
        self._hidden = self._ending = False
        self._over = threading.Lock()
        self._is_over = False
        self._thread: threading.Thread | None = None

    # --- from the thread of the run, and others -----------------------------------------------

    def listeners(self) -> dict[str, Any]:
        return {"on_delta": self._heard.append, "on_output": self._on_output}

    def on_event(self, event: events.AnyEvent) -> None:
        self._heard.append(event)
        self._wake.set()

    def _on_output(self, call: str, stream: str, data: bytes) -> object:
        tail = self._tails.get(call)
        if tail is None:
            tail = self._tails[call] = OutputTail()
        tail.feed(data)
        if tail.total < _FLOOD_BYTES:
            return None
        loop = asyncio.get_running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        loop.call_later(_FLOOD_PAUSE, _resolve, pause)
        return pause

    def say(self, data: bytes) -> None:
        """Writes a note above the view."""
        self._heard.append(data)
        self._wake.set()

    def start(self) -> None:
        thread = threading.Thread(target=self._work, name="sandbox-agent view", daemon=True)
        try:
            start_thread(thread)
        except RuntimeError:  # no thread is left: all is said at the end
            return
        self._thread = thread
        self._console.view = self

    def stop(self) -> None:
        """Takes the view away. Its last lines come before whatever is written from now on."""
        self._ending = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
        with self._over:
            was_over, self._is_over = self._is_over, True
        self._console.view = None
        if not was_over:
            self._say_plainly()

    def around(self, freezer: Freezer) -> Freezer:
        return _WithView(self, freezer)

    def hide(self) -> None:
        """Begins to take the view away, for the shell that comes forward at Ctrl-Z."""
        self._gone.clear()
        self._hidden = True
        self._wake.set()

    def wait_hidden(self) -> None:
        self._gone.wait(_HIDE_SECONDS)

    def show(self) -> None:
        self._hidden = False
        self._wake.set()

    def _say_plainly(self) -> None:
        """Without the thread, which could not be started or hangs."""
        progress = Progress(verbose=self._verbose)
        while self._heard:
            item = self._heard.popleft()
            if isinstance(item, bytes):
                self._console.stderr.note(item)
            elif not isinstance(item, ModelDelta) and (line := progress.line(item)) is not None:
                self._console.progress(line + "\n")

    # --- the thread ----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            # Here, so that the run does not wait for the import.
            from sandbox_agent.cli.terminal.screen import Screen

            screen = Screen(
                self._console.stderr,
                self._tails,
                colour=self._console.colour,
                ascii=self._console.encoding == "ascii",
                verbose=self._verbose,
            )
            self._draw_until_the_end(screen)
        except Exception as error:
            self._console.view = None
            complain(f"the live view failed: {error!r}; the run goes on without it")

    def _draw_until_the_end(self, screen: Screen) -> None:
        drawn = 0.0
        while True:
            hiding = self._hidden and not self._gone.is_set()
            self._wake.wait(_SOON if hiding else FRAME_SECONDS)
            self._wake.clear()
            ending, now = self._ending, time.monotonic()
            while self._heard:
                screen.take(self._heard.popleft())
            screen.count_signals(self._received(), now)
            hide = self._hidden or ending
            # Events often come together; what this leaves out is drawn in the next round.
            if hide or now - drawn >= FRAME_SECONDS / 2:
                drawn = now
                with self._over:
                    if self._is_over:
                        return
                    screen.draw(now, at_once=ending, hide=hide)
                    self._is_over = ending
            if ending:
                return
            if self._hidden and screen.is_hidden:
                self._gone.set()


class _WithView:
    """A Freezer whose view steps back for the shell."""

    def __init__(self, view: LiveView, freezer: Freezer) -> None:
        self._view = view
        self._freezer = freezer

    def freeze(self) -> None:
        self._view.hide()
        self._freezer.freeze()
        self._view.wait_hidden()

    def thaw(self) -> None:
        self._freezer.thaw()
        self._view.show()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
