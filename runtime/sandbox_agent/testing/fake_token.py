"""A cancel token for unit tests: no process, no sandbox, and no sleep where the test wants none."""

from __future__ import annotations

import itertools
import math

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.token import CancelToken, RunToken


class FakeToken(CancelToken):
    """A cancel token that the test cancels, or that is cancelled at a certain look.

    cancel_at_look: the look at the token that finds it cancelled, counted from 1; None: only
    `cancel()` cancels it. A look is `is_cancelled`, `raise_if_cancelled()` or `wait()`. With this
    option `wait` never sleeps: with a time limit it returns at once, as if the time had passed, and
    without one it cancels the token, since nothing else could end that wait. So a test of "stop
    after the third item" takes no time, and always stops at the same place.
    reason: why it is cancelled at that look. deadline: as `CancelToken.deadline`.

    Any thread may use it. Raises ValueError for a `cancel_at_look` that is no number from 1 on.
    """

    __slots__ = ("_at", "_counter", "_looks", "_reason", "_token", "_waits")

    def __init__(
        self,
        *,
        cancel_at_look: int | None = None,
        reason: CancelReason = CancelReason.INTERRUPT,
        deadline: float | None = None,
    ) -> None:
        at = cancel_at_look
        if at is not None and (isinstance(at, bool) or not isinstance(at, int) or at < 1):
            raise ValueError(
                f"cancel_at_look={at!r}: the looks are counted from 1; for a token that is"
                " cancelled from the beginning, write 1 or call cancel()"
            )
        self._at = at
        self._reason = CancelReason(reason)
        self._token = RunToken(deadline)
        self._counter = itertools.count(1)  # next() is atomic: tools may look from many threads
        self._looks = 0
        self._waits: list[float | None] = []

    def cancel(self, reason: CancelReason = CancelReason.INTERRUPT) -> bool:
        """Cancel it. From any thread. Returns False if it was cancelled before."""
        return self._token.cancel(CancelReason(reason))

    @property
    def looks(self) -> int:
        """How often the tool has looked at the token. 0: it never looked, so it cannot stop."""
        return self._looks

    @property
    def waits(self) -> tuple[float | None, ...]:
        """The time limits of all calls of `wait`, in seconds, in their order."""
        return tuple(self._waits)

    @property
    def is_cancelled(self) -> bool:
        self._look()
        return self._token.is_cancelled

    @property
    def reason(self) -> CancelReason | None:
        return self._token.reason

    @property
    def deadline(self) -> float | None:
        return self._token.deadline

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None and math.isnan(timeout):
            raise ValueError("timeout: NaN is not a number of seconds; pass None to wait for ever")
        self._waits.append(timeout)
        self._look()
        if self._at is None:
            return self._token.wait(timeout)
        if timeout is None or timeout == math.inf:
            self._token.cancel(self._reason)
        return self._token.is_cancelled

    def _look(self) -> None:
        self._looks = look = next(self._counter)
        if self._at is not None and look >= self._at:
            self._token.cancel(self._reason)
