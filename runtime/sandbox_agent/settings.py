"""Small settings of a conversation, as values."""

from __future__ import annotations

import math

import msgspec

from sandbox_agent.errors import ConfigError


class Interrupt(msgspec.Struct, frozen=True):
    """How long a stopped call is waited for, in seconds.

    grace: from the flag to SIGTERM. term: from SIGTERM to SIGKILL.
    """

    grace: float = 2.0
    term: float = 1.0

    def __post_init__(self) -> None:
        for name in ("grace", "term"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(
                    f"{value!r} is not a time to wait",
                    field=f"interrupt.{name}",
                    mend="give a number of seconds that is 0 or more",
                )


REPEATS = 5
"""How often in a row the same calls may lead to the same results; see `repetition`."""


class Budgets(msgspec.Struct, frozen=True):
    """What one run may use. None: no bound.

    turns: requests to the model. time: seconds of wall time, from the start of `run()`. tokens:
    that the model's answers use up, read and written together. cost_usd: US dollars, likewise.
    repeats: how often in a row the same calls may lead to the same results.

    Turns, tokens and cost are looked at before each request to the model. So the answer that
    crosses one of them is the last, and the calls that it asks for are still made.
    """

    turns: int | None = None
    time: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    repeats: int | None = REPEATS

    def __post_init__(self) -> None:
        for name, unit in (("turns", "turns"), ("tokens", "tokens"), ("repeats", "repeats")):
            least = 2 if name == "repeats" else 1
            count = getattr(self, name)
            if count is not None and not (isinstance(count, int) and count >= least):
                raise _no_budget(name, f"{count!r} {unit}", f"a whole number from {least} on")
        if self.time is not None and not self.time > 0:
            raise _no_budget("time", f"{self.time!r} seconds", "a time above 0")
        cost = self.cost_usd
        if cost is not None and not (isinstance(cost, int | float) and 0 < cost < math.inf):
            raise _no_budget("cost_usd", f"{cost!r} dollars", "an amount above 0")


def _no_budget(name: str, what: str, good: str) -> ConfigError:
    return ConfigError(
        f"{what} are no budget",
        field=f"budgets.{name}",
        mend=f"give {good}, or None for no bound",
    )
