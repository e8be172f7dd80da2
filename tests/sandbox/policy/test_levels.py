"""How far fields and layers are kept: what follows from a plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.policy import levels
from sandbox_agent_sandbox.policy.levels import (
    CHOICES,
    FIELDS,
    Level,
    Standing,
    facts,
    refuse_missing,
)
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy, Strict
from sandbox_agent_sandbox.policy.probe import host_facts


def fields(model: type[Strict], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        dotted = f"{prefix}{field.alias or name}"
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Strict):
            yield from fields(inner, f"{dotted}.")
        else:
            yield dotted


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(Policy(), host_facts(), workspace=tmp_path)


def test_every_field_of_a_policy_has_a_level(plan: Plan) -> None:
    assert {*FIELDS, *CHOICES} == set(fields(Policy))
    found = facts(plan)
    assert {fact.name for fact in found if not fact.layer} == set(FIELDS)
    assert all(fact.how for fact in found if fact.level is Level.ENFORCED)
    assert all(fact.why and fact.hint for fact in found if fact.level is Level.MISSING)


def test_without_a_filter_the_layer_is_missing_and_nothing_is_refused(plan: Plan) -> None:
    for calls, level in ((b"12345678", Level.ENFORCED), (b"", Level.MISSING)):
        changed = msgspec.structs.replace(plan, system_calls=calls)
        by_name = {fact.name: fact.level for fact in facts(changed)}
        assert by_name["system calls"] is level
        refuse_missing(changed)


def test_a_missing_field_is_refused_with_its_name_and_hint(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Standing(Level.MISSING, why="no cgroup can be written", hint="delegate one")
    monkeypatch.setattr(levels, "FIELDS", {**FIELDS, "limits.memory": lambda plan: missing})
    expected = r"sandbox\.limits\.memory .*no cgroup can be written; hint: delegate one"
    with pytest.raises(SandboxUnavailable, match=expected):
        refuse_missing(plan)
