"""Each CI system's cancel, once; `scripts/chaos --ci` plays each fifty times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from signal import SIGTERM

import pytest
from identity import Person, someone
from struck import GRACE

from pipelines import recipes
from pipelines.play import Plan, missing, play
from pipelines.systems import SYSTEMS, System


@pytest.fixture
def owner(system: System) -> Iterator[Person]:
    """Whose job it is."""
    reason = missing(system)
    if reason is not None:
        pytest.skip(reason)
    yield from someone("root" if system.needs_root else "user")


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_cancelled_job_ends_in_time_with_nothing_left_and_all_reports_complete(
    owner: Person, system: System
) -> None:
    # pre-commit ends long before the run: then the terminal goes, which is no second interrupt.
    grace = 1.5 if system.name == "pre-commit" else GRACE
    played = play(system, owner, Plan(stubborn=True, grace=grace))
    assert not played.complaints, played.output


def test_without_exec_the_shell_keeps_the_signal_of_github_to_itself() -> None:
    """What `exec` in the recipe is for. TERM ends the shell, 7.5 s later, and its death the run."""
    system = next(one for one in SYSTEMS if one.name == "github")
    script = recipes.job(system.recipe).removeprefix("exec ") + "\necho over\n"
    system = replace(system, codes=frozenset({129}), entry=frozenset({-SIGTERM}))
    for person in someone("user"):
        played = play(system, person, Plan(), script)
        assert played.seconds > 7.5
        assert played.complaints == []
