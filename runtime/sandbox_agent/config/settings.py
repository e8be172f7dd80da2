"""Small settings of a conversation, as values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise ConfigError(
                    f"{value!r} is not a time to wait",
                    field=f"interrupt.{name}",
                    hint="give a number of seconds that is 0 or more",
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
        time = self.time
        if time is not None and not (isinstance(time, int | float) and time > 0):
            raise _no_budget("time", f"{self.time!r} seconds", "a time above 0")
        cost = self.cost_usd
        if cost is not None and not (isinstance(cost, int | float) and 0 < cost < math.inf):
            raise _no_budget("cost_usd", f"{cost!r} dollars", "an amount above 0")


def interrupt_from(given: Interrupt | Sequence[float]) -> Interrupt:
    """As an embedder gives it: two numbers will do. Raises ConfigError."""
    if isinstance(given, Interrupt):
        return given
    try:
        grace, term = given
    except (TypeError, ValueError):
        raise ConfigError(
            f"{given!r} are no two times to wait", field="interrupt", hint="give (grace, term)"
        ) from None
    return Interrupt(grace, term)


def budgets_from(given: Budgets | Mapping[str, Any]) -> Budgets:
    """As an embedder gives them: a mapping will do. Raises ConfigError."""
    if isinstance(given, Budgets):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"{given!r} are no budgets", field="budgets", hint="give a mapping")
    for name in given:
        if name not in Budgets.__struct_fields__:
            known = ", ".join(Budgets.__struct_fields__)
            raise ConfigError(f"there is no budget {name!r}", field="budgets", hint=f"use {known}")
    return Budgets(**given)


def _no_budget(name: str, what: str, good: str) -> ConfigError:
    return ConfigError(
        f"{what} are no budget",
        field=f"budgets.{name}",
        hint=f"give {good}, or None for no bound",
    )
