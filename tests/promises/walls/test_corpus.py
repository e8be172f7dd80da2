"""The corpus of hostile attempts: what must be stopped is stopped, and what is beside it works.

Each attempt is proved to succeed without a sandbox, by the same proof, from outside. What root
shares with an ordinary user is proved once, as the user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import skips
from identity import Person
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds.left_open import LEFT_OPEN, name_of
from sandbox_agent_sandbox.policy.levels import facts
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from walls.corpus import known, table, trial


def failures(results: list[trial.Result]) -> list[str]:
    return [f"{one.attempt.name}: {one.attempt.says} ({one.said})" for one in results]


def is_listed(result: trial.Result) -> bool:
    """The command names the repository of the attempt among what is to be looked at."""
    return any(f"repos/{result.attempt.name}/" in line for line in result.told.splitlines())


@pytest.mark.parametrize("name", table.CLASSES)
def test_without_a_sandbox_every_attempt_succeeds(person: Person, name: str) -> None:
    attempts = [
        one for one in table.possible(name, person) if person.uid or "user" not in one.persons
    ]
    results = trial.try_all(person, table.module(name), attempts, trial.no_sandbox)
    assert not failures([one for one in results if not one.succeeded])


@pytest.mark.parametrize("name", table.CLASSES)
def test_the_sandbox_stops_what_is_hostile_and_lets_its_neighbour_work(
    person: Person, name: str
) -> None:
    results = trial.try_all(person, table.module(name), table.possible(name, person), trial.ours)
    got_through = [
        one for one in results if one.succeeded and table.full(name, one) not in table.EXPECTED
    ]
    assert not failures(got_through)
    assert not [f"{one.attempt.name}: {one.wrong}" for one in results if one.wrong]
    if name == "planting":  # what cannot be stopped there is listed at the end
        assert not [one for one in results if one.succeeded and not is_listed(one)]


@pytest.mark.as_user
@pytest.mark.parametrize("name", table.CLASSES if skips.is_soak() else ["reading", "view"])
def test_what_gets_through_without_namespaces_is_known(person: Person, name: str) -> None:
    """In CI the classes of which something gets through; `scripts/walls` has all of them."""
    assert_known(person, name, trial.without_namespaces, known.WITHOUT_NAMESPACES)


@pytest.mark.as_user
@pytest.mark.parametrize("name", table.CLASSES if skips.is_soak() else ["processes"])
def test_what_gets_through_with_a_shared_proc_is_known(person: Person, name: str) -> None:
    assert_known(person, name, trial.shared_proc, known.SHARED_PROC)


def assert_known(
    person: Person, name: str, sandbox: trial.Sandbox, listed: Mapping[str, str]
) -> None:
    """Where a change lets more through, or less, the list changes with it."""
    attempts = table.possible(name, person)
    results = trial.try_all(person, table.module(name), attempts, sandbox)
    through = {table.full(name, one): one for one in results if one.succeeded}
    assert through.keys() - table.EXPECTED == {one for one in listed if one.startswith(f"{name}.")}
    undone = [one for one in through if listed.get(one) == known.PUT_BACK]
    assert all(through[one].undone for one in undone), undone


@pytest.mark.parametrize(
    ("kind", "listed"),
    [
        (PlanKind.NO_NAMESPACES, known.WITHOUT_NAMESPACES),
        (PlanKind.SHARED_PROC, known.SHARED_PROC),
    ],
)
def test_doctor_says_what_gets_through(
    kind: PlanKind, listed: Mapping[str, str], tmp_path: Path
) -> None:
    """Each reason is a line of what the plan leaves open, or a field and its level."""
    for name in ("hidden", "protected"):
        (tmp_path / name).touch()
    policy = Policy(hide=["hidden"], protect=["protected"], allow_degraded=["hide"])
    plan = make_plan(policy, host_facts(), workspace=tmp_path, kind=kind)
    told = {*map(name_of, LEFT_OPEN[kind]), *(f"{one.name}: {one.level}" for one in facts(plan))}
    assert told >= {*listed.values()}


def test_the_corpus_is_as_large_as_promised() -> None:
    attempts = {name: table.module(name).ATTEMPTS for name in table.CLASSES}
    assert all(len(some) >= 8 for some in attempts.values())
    everything = [one for some in attempts.values() for one in some]
    assert len(everything) >= 130
    assert sum(one.blind for one in everything) >= 30
    assert all(one.says and one.persons for one in everything)
    for name, some in attempts.items():
        assert not [
            one for one, count in Counter(some.name for some in some).items() if count > 1
        ], name
    mechanisms = Counter(one.says for one in everything)
    assert max(mechanisms.values()) == 1


def test_what_succeeds_all_the_same_is_in_the_corpus() -> None:
    names = {f"{name}.{one.name}" for name in table.CLASSES for one in table.module(name).ATTEMPTS}
    assert names >= table.EXPECTED
    assert not known.NO_WALL.keys() & known.OPEN.keys()
    assert names >= known.WITHOUT_NAMESPACES.keys() | known.SHARED_PROC.keys()
