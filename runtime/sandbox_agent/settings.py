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


class Budgets(msgspec.Struct, frozen=True):
    """What one run may use. None: no bound.

    turns: requests to the model. time: seconds of wall time, from the start of `run()`.
    """

    turns: int | None = None
    time: float | None = None

    def __post_init__(self) -> None:
        if self.turns is not None and self.turns < 1:
            raise ConfigError(
                f"{self.turns!r} turns are no budget",
                field="budgets.turns",
                mend="give a whole number above 0, or leave it out for no bound",
            )
        if self.time is not None and not self.time > 0:
            raise ConfigError(
                f"{self.time!r} seconds are no budget",
                field="budgets.time",
                mend="give a time above 0, or leave it out for no bound",
            )
