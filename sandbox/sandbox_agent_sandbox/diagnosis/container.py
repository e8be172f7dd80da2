"""Where this host runs, which one thing keeps it from a stronger plan, and the smallest change."""

from __future__ import annotations

import msgspec

from sandbox_agent_sandbox.diagnosis.changes import change
from sandbox_agent_sandbox.diagnosis.places import Cause, cause_of, place_of
from sandbox_agent_sandbox.diagnosis.signs import Signs


class Diagnosed(msgspec.Struct, frozen=True):
    """place: where this process runs. cause: the one thing that a stronger plan fails for; "" if
    there is none. stronger: the plan that the change of `hint` would give; "" for none. hint: the
    smallest change."""

    place: str
    cause: str = ""
    stronger: str = ""
    hint: str = ""


def diagnose(signs: Signs) -> Diagnosed:
    """Where this is, and what would make it stronger."""
    place, cause = place_of(signs), cause_of(signs)
    if cause is Cause.NONE:
        return Diagnosed(place)
    stronger, hint = change(place, cause, signs)
    return Diagnosed(place, cause, stronger, hint)
