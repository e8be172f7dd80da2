"""Durations on the command line."""

from __future__ import annotations

from sandbox_agent.errors import ConfigError


def seconds_of(flag: str, text: str | None) -> float | None:
    """Reads a duration as seconds; None if the flag was not given.

    Raises ConfigError with the flag and a hint.
    """
    if text is None:
        return None
    # Here, since few commands have one.
    from sandbox_agent_sandbox.policy.fields.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        raise ConfigError(what, file=flag, hint=hint) from None
