"""What the callbacks of a run say, and waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from sandbox_agent.journal import events

_KEPT = 1 << 20
"""Bytes of a call's output that `wait_for_output` looks at: the last ones."""


class Heard:
    """What a run's callbacks say, and waiting for it. on_event, on_output: of the test's own."""

    def __init__(self, on_event: Any, on_output: Any) -> None:
        self._also_event, self._also_output = on_event, on_output
        self._changed = threading.Condition()
        self._tools: dict[str, str] = {}
        self._running: dict[str, str] = {}
        self._begun: list[tuple[str, str]] = []
        self._output: dict[str, bytearray] = {}
        self.is_over = False

    def on_event(self, event: events.AnyEvent) -> None:
        with self._changed:
            if isinstance(event, events.Dispatching):
                self._tools[event.call] = event.tool
            elif isinstance(event, events.Started):
                tool = self._tools.get(event.call, "")
                self._running[event.call] = tool
                self._begun.append((event.call, tool))
            elif isinstance(event, events.Ended):
                self._running.pop(event.call, None)
            self._changed.notify_all()
        if self._also_event is not None:
            self._also_event(event)

    def on_output(self, call: str, stream: str, data: bytes) -> object:
        with self._changed:
            kept = self._output.setdefault(call, bytearray())
            kept.extend(data)
            if len(kept) > 2 * _KEPT:
                del kept[:_KEPT]
            self._changed.notify_all()
        return None if self._also_output is None else self._also_output(call, stream, data)

    def end(self) -> None:
        with self._changed:
            self.is_over = True
            self._changed.notify_all()

    def started(self, tool: str | None) -> str | None:
        return next((call for call, name in self._begun if tool in (None, name)), None)

    def printed(self, text: bytes) -> str | None:
        return next((call for call, data in self._output.items() if text in data), None)

    def going(self) -> str:
        """What runs now, for messages."""
        running = [f"{call} {tool}" for call, tool in self._running.items()]
        return f"running: {', '.join(running)}" if running else "no call is running"

    def wait(self, find: Callable[[], str | None], timeout: float) -> str | None:
        """What `find` finds; None when the run is over or the time is up."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = find()
                left = deadline - time.monotonic()
                if found is not None or self.is_over or left <= 0:
                    return found
                self._changed.wait(left)
