"""The provider of a session, as the umpire sees it: who came, and who is still there."""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
import time
import urllib.request
from typing import Any

ORDER = "Do your worst. "
"""Before the JSON of a round's order: {"round": ..., "answers": [Answer, ...]}."""

GONE = 0.4
"""Seconds after a run's return in which the provider must have seen its connections closed."""


class Provider:
    """A child process, `chaos.providing`. key: what the agent is to have in its environment.

    Its own connections are read by HTTP, so what is told is what a provider notices.
    """

    def __init__(self) -> None:
        self.key = f"sk-chaos-{secrets.token_hex(12)}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.providing"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        self._pending = b""
        self._came: list[dict[str, Any]] = []
        self.address = self._line(time.monotonic() + 20)
        os.set_blocking(self._fd, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _line(self, deadline: float) -> str:
        while b"\n" not in self._pending:
            select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._fd, 4096)
            if not data:
                raise RuntimeError("chaos itself: the provider died")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def came(self, number: int, turn: int) -> bool:
        """Whether it was asked for this turn of this round."""
        try:
            while data := os.read(self._fd, 65536):
                self._pending += data
        except BlockingIOError:
            pass
        *lines, self._pending = self._pending.split(b"\n")
        self._came += map(json.loads, lines)
        return any((one["round"], one["turn"]) == (number, turn) for one in self._came)

    def requests_of(self, number: int, turn: int) -> int:
        """How often it was asked for this turn."""
        self.came(number, turn)
        return sum((one["round"], one["turn"]) == (number, turn) for one in self._came)

    def complaints(self) -> list[str]:
        """Called when a run has returned: who has not let go, and who broke a provider's rule."""
        deadline = time.monotonic() + GONE
        while True:
            told = self._told()
            still = [one for one in told["requests"] if one["answered"] is one["closed"] is None]
            if not still or time.monotonic() > deadline:
                break
            select.select([], [], [], 0.005)
        found = [
            f"provider: {GONE:.1f} s after the return, {_short(one)} is still open" for one in still
        ]
        found += [f"provider: a rule was broken: {rule}" for rule in told["violations"]]
        keys = {one["headers"].pop("authorization", "") for one in told["requests"]}
        if keys - {f"Bearer {self.key}"}:
            found.append("provider: it was given another key")
        return found

    def _told(self) -> Any:
        with urllib.request.urlopen(f"{self.address}/_stub/requests", timeout=10) as answer:
            return json.loads(answer.read())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _short(request: dict[str, Any]) -> str:
    return f"request {request['number']} ({request['events']} pieces written)"
