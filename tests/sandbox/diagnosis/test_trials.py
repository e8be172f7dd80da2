"""The trials of `doctor`: they hold where the walls stand, and say so where one was taken out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields as fields_of
from msgspec.structs import replace
from sandbox_agent_sandbox.diagnosis import trials
from sandbox_agent_sandbox.diagnosis.trials import (
    look_whether_back,
    nothing_kept,
    try_everything,
    with_trials,
)
from sandbox_agent_sandbox.inside.tools.trials import Ground
from sandbox_agent_sandbox.plan import Bind, Landlock, Plan, Private
from sandbox_agent_sandbox.policy.levels import FIELDS, LAYERS, Level
from sandbox_agent_sandbox.protection.put_back import PutBack
from sandboxes import run

PART_OF_BUILDING = {"capabilities", "other processes", "limits.timeout", "limits.output"}
"""Not in the plan, so a plan cannot leave them out."""


def test_every_wall_holds_here() -> None:
    before = set(Path(tempfile.gettempdir()).iterdir())
    plan, tried = run(try_everything)
    assert {name: what for name, what in tried.items() if what} == {}
    assert set(tried) == {*FIELDS, *LAYERS}
    found = {fact.name: fact for fact in with_trials(plan, tried)}
    assert all(fact.level is not Level.MISSING for fact in found.values())
    assert set(Path(tempfile.gettempdir()).iterdir()) == before


@pytest.mark.parametrize("is_kept", [True, False])
def test_what_is_put_back_is_looked_at_afterwards(tmp_path: Path, is_kept: bool) -> None:
    """Where there are no mounts: as a tool left it, and as the host finds it."""
    paths = {name: tmp_path / name for name in ("protected", "guarded")}
    for path in paths.values():
        path.write_text("content")
    kept = PutBack([*map(str, paths.values())] if is_kept else [])
    for path in paths.values():
        path.write_text("changed by a tool")
    fields = {field.name: field.type for field in fields_of(Ground)}
    ground = Ground(**{name: FILLER[kind] for name, kind in fields.items() if kind in FILLER})
    ground = replace(ground, **{name: str(path) for name, path in paths.items()})
    tried = {"protect": "", "protect_defaults": ""}
    look_whether_back(kept, ground, tried)
    assert all(bool(what) is not is_kept for what in tried.values())


FILLER: dict[object, Any] = {str: "", int: 0, dict[str, str]: {}}


def without_walls(plan: Plan, ground: str) -> Plan:
    binds = [bind for bind in plan.binds if "/guarded" not in bind.path]
    binds = [replace(bind, writable=bind.writable or "/read" in bind.path) for bind in binds]
    limits = dict.fromkeys(plan.limits.__struct_fields__, 1 << 40)
    limits |= {"cpu_time": 600, "open_files": 512}
    environment = {"SANDBOX_AGENT_TRIAL_DROPPED": "yes"}
    return replace(
        plan,
        binds=(*binds, Bind(f"{ground}/unnamed")),
        pins=(),
        masks=(),
        protected=(),
        network="host",
        system_calls=b"",
        landlock=Landlock(),
        environment={"PATH": plan.environment["PATH"], **environment},
        limits=replace(plan.limits, **limits),
        private=Private(size=1 << 30, shared_memory=1 << 30),
        disk=None,
    )


def test_a_wall_that_is_taken_out_is_found_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    make_plan: Callable[..., Plan] = trials.make_plan

    def weak(*args: Any, workspace: Path, **options: Any) -> Plan:
        plan = make_plan(*args, workspace=workspace, **options)
        return without_walls(plan, str(workspace.parent))

    monkeypatch.setattr(trials, "make_plan", weak)
    monkeypatch.setattr(trials, "_PATIENCE", 0.05)
    plan, tried = run(try_everything)
    held = {name for name, what in tried.items() if not what}
    assert held == PART_OF_BUILDING
    for fact in with_trials(plan, tried):
        assert (fact.level is Level.MISSING) == (fact.name not in PART_OF_BUILDING)
        assert fact.level is not Level.MISSING or fact.why


def test_without_a_sandbox_everything_is_missing() -> None:
    found = nothing_kept("no namespaces")
    assert {fact.name for fact in found} == {*FIELDS, *LAYERS}
    assert {fact.level for fact in found} == {Level.MISSING}
