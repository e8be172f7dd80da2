"""What the stub was asked, and waiting for it. Written by the server's thread, read by tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """One request. headers: names in lower case. body: decoded; None if it was no
    JSON, or if it is not kept.

    Times are CLOCK_MONOTONIC seconds, so other processes' journals compare with them. at: it had
    been read. events: how many pieces of the answer have been written so far. answered: the whole
    answer had been written, if it was a whole one. closed: the client let go of the connection
    before that.
    """

    number: int
    path: str
    headers: dict[str, str] = field(repr=False)
    body: Any = field(repr=False)
    at: float
    events: int = 0
    answered: float | None = None
    closed: float | None = None

    @property
    def key(self) -> str:
        """The API key that came along."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return self.headers.get("x-api-key") or bearer

    @property
    def turn(self) -> int:
        """How many answers the conversation has had before this one."""
        messages = self.body.get("messages") if isinstance(self.body, dict) else None
        return sum(
            one.get("role") == "assistant" for one in messages or [] if isinstance(one, dict)
        )


@dataclass
class Requests:
    """All of them, in the order in which they came. violations: rules of the provider that they
    broke, each with the number of its request. strays: paths that no provider has."""

    all: list[Request] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, path: str, headers: dict[str, str], body: Any, at: float) -> Request:
        with self.changed:
            request = Request(len(self.all), path, headers, body, at)
            self.all.append(request)
            self.changed.notify_all()
            return request

    def note(self, change: Callable[[], None]) -> None:
        """Makes a change, and wakes its waiters."""
        with self.changed:
            change()
            self.changed.notify_all()

    def wait(self, ready: Callable[[], bool], timeout: float, what: str) -> None:
        """Raises TimeoutError after so many seconds."""
        with self.changed:
            if not self.changed.wait_for(ready, timeout):
                raise TimeoutError(f"the stub has not seen {what} in {timeout:g} s: {self.all}")
