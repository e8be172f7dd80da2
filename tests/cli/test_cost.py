"""Small things stay small. `scripts/bench` prints the figures; here the bounds allow for noise."""

from __future__ import annotations

from collections.abc import Iterator

import costs
import identity
import pytest
from identity import Person

NOISE = 3
"""Times the bound that a test allows on a shared machine, for times. Memory has no noise."""


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def test_a_one_call_run_is_quick(me: Person) -> None:
    task = str(costs.one_call_task(me.folder))
    best = min(costs.seconds(me, [costs.AGENT, "run", task]) for _ in range(3))
    assert best < 0.6 * NOISE


def test_a_one_call_run_is_small_and_imports_no_litellm(me: Person) -> None:
    task = str(costs.one_call_task(me.folder))
    seen = costs.look(me, ["run", task])
    assert seen.peak <= 50e6
    heavy = {"litellm", "openai", "jinja2", "ray", "mcp"}
    assert not heavy & seen.modules


def test_help_is_quick(me: Person) -> None:
    best = min(costs.seconds(me, [costs.AGENT, "--help"]) for _ in range(5))
    assert best < 0.15 * NOISE


def test_help_imports_nothing_heavy(me: Person) -> None:
    seen = costs.look(me, ["--help"])
    assert not {"pydantic", "psutil", "rich", "asyncio", "yaml", "litellm"} & seen.modules
