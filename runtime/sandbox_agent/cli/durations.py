"""Durations on the command line."""

from __future__ import annotations

from sandbox_agent_sandbox.policy.units import parse_duration

from sandbox_agent.errors import ConfigError


def seconds_of(flag: str, text: str | None) -> float | None:
    """The seconds that `text` says; None when the flag was not given.

    Raises ConfigError, which names the flag and the hint.
    """
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        raise ConfigError(what, file=flag, hint=hint) from None
