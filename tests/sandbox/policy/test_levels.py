"""How far fields and layers are kept: what follows from a plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sandbox_agent_sandbox.errors import PolicyError, SandboxUnavailable
from sandbox_agent_sandbox.plan import Identity, Plan, PlanKind, Protected, Unshared
from sandbox_agent_sandbox.policy import levels
from sandbox_agent_sandbox.policy.levels import (
    CHOICES,
    EVERY_FIELD,
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


def test_only_what_is_asked_for_is_refused_and_leave_is_by_name(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Standing(Level.MISSING, why="it cannot be", hint="do that")
    table = {**FIELDS, "hide": lambda plan: missing, "protect": lambda plan: missing}
    monkeypatch.setattr(levels, "FIELDS", table)
    assert refuse_missing(plan) == ()
    asked = msgspec.structs.replace(
        plan, hidden=("/work/secret",), protected=(Protected("/work/judge", 1, 1),)
    )
    with pytest.raises(SandboxUnavailable) as both:
        refuse_missing(asked)
    assert "sandbox.hide" in str(both.value) and "sandbox.protect" in str(both.value)
    assert str(both.value).count("hint: ") == str(both.value).count("do that") == 1
    with pytest.raises(SandboxUnavailable) as one:
        refuse_missing(asked, ["hide", "read"])
    assert "sandbox.protect" in str(one.value) and "sandbox.hide" not in str(one.value)
    for allowed in (["hide", "protect"], [EVERY_FIELD]):
        assert [fact.name for fact in refuse_missing(asked, allowed)] == ["hide", "protect"]


@pytest.mark.parametrize("name", ["hid", "", "system calls", "plan", "limits", "ALL"])
def test_leave_is_given_for_fields_that_there_are(name: str) -> None:
    with pytest.raises(PolicyError, match=r"allow_degraded\[1\]"):
        Policy(allow_degraded=["limits.memory", name])


def test_what_no_namespace_keeps_has_a_level_for_each_kind(tmp_path: Path) -> None:
    by_kind = {
        kind: {
            fact.name: fact
            for fact in facts(make_plan(Policy(), host_facts(), workspace=tmp_path, kind=kind))
        }
        for kind in PlanKind
    }
    for found in by_kind.values():
        assert set(found) == set(by_kind[PlanKind.FULL])
        for fact in found.values():
            assert fact.level is Level.MISSING or fact.how
            assert fact.level is Level.ENFORCED or fact.why
    assert by_kind[PlanKind.FULL]["hide"].level is Level.ENFORCED
    assert by_kind[PlanKind.NO_NAMESPACES]["hide"].level is Level.MISSING
    assert by_kind[PlanKind.NO_NAMESPACES]["namespaces"].level is Level.MISSING


def test_a_missing_field_is_refused_with_its_name_and_hint(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Standing(Level.MISSING, why="no cgroup can be written", hint="delegate one")
    monkeypatch.setattr(levels, "FIELDS", {**FIELDS, "limits.memory": lambda plan: missing})
    expected = r"sandbox\.limits\.memory .*no cgroup can be written; hint: delegate one"
    with pytest.raises(SandboxUnavailable, match=expected):
        refuse_missing(plan)


@pytest.mark.parametrize(
    ("uid", "unshared", "level", "says"),
    [
        (1000, None, Level.ENFORCED, "RLIMIT_NPROC"),
        (1000, Unshared(abi=6), Level.ENFORCED, "all processes of the tools' user"),
        (0, None, Level.RESTORED, "newest processes"),
        (0, Unshared(abi=6), Level.RESTORED, "newest processes"),
    ],
)
def test_what_bounds_the_number_of_processes_without_a_control_group(
    plan: Plan, uid: int, unshared: Unshared | None, level: Level, says: str
) -> None:
    """RLIMIT_NPROC does not bind uid 0, in whatever namespace."""
    identity = Identity(1000, 1000, uid, uid)
    changed = msgspec.structs.replace(plan, groups=None, identity=identity, unshared=unshared)
    found = FIELDS["limits.processes"](changed)
    assert (found.level, says in found.how) == (level, True)
