"""A kernel whose Landlock is older than a rule needs: the stricter reading, or it is said. What a
version can do is found by trying it (`policy.probe.host_can`); here it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from classic_bpf import bpf
from msgspec.structs import replace
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import Plan, PlanKind, Unshared
from sandbox_agent_sandbox.policy.kinds.no_namespaces import try_no_namespaces
from sandbox_agent_sandbox.policy.levels import Fact, Level, facts, refuse_missing
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import HostFacts, host_facts
from sandbox_agent_sandbox.policy.rules.bpf import ARCHITECTURES
from sandbox_agent_sandbox.policy.rules.numbers import NUMBERS

MACHINE = "x86_64"
ALLOW, ERROR = 0x7FFF0000, 0x00050000
FIRST_TRUNCATE, FIRST_SCOPES = 3, 6
O_TRUNC = 0o1000


def host(abi: int, *, listener: bool = True) -> HostFacts:
    scopes = abi >= FIRST_SCOPES
    found = Unshared(abi=abi, scopes=scopes, listener=listener, broker=listener)
    return replace(host_facts(), unshared=found, machine=MACHINE)


def plan(where: Path, facts: HostFacts, **policy: str) -> Plan:
    made = Policy.model_validate(policy)
    return make_plan(made, facts, workspace=where, kind=PlanKind.NO_NAMESPACES)


def refuses(made: Plan, name: str, *arguments: int) -> bool:
    number = NUMBERS[MACHINE][name]
    found = bpf(made.system_calls, number, arguments, ARCHITECTURES[MACHINE])
    assert found == ALLOW or found & 0xFFFF0000 == ERROR
    return found != ALLOW


def by_name(made: Plan) -> dict[str, Fact]:
    return {fact.name: fact for fact in facts(made)}


@pytest.mark.parametrize("abi", range(1, 8))
def test_what_a_version_does_not_know_is_refused_as_a_whole(tmp_path: Path, abi: int) -> None:
    made = plan(tmp_path, host(abi))
    # Without a right for it, a file that can be read could be emptied. landlock(7)
    strict = abi < FIRST_TRUNCATE
    assert refuses(made, "truncate", 0, 0) is strict
    assert refuses(made, "open", 0, O_TRUNC) is strict
    assert refuses(made, "openat", 0, 0, O_TRUNC) is strict
    layer = by_name(made)["Landlock"]
    assert f"version {abi}" in layer.how
    assert ("signals are looked at" in layer.how) is (abi < FIRST_SCOPES)


@pytest.mark.parametrize("abi", range(8))
def test_a_version_that_keeps_too_little_is_refused_with_the_reason(abi: int) -> None:
    for listener in (True, False):
        found = try_no_namespaces(host(abi, listener=listener))
        assert found.works is bool(abi and (abi >= FIRST_SCOPES or listener))
        assert found.works or (found.why and found.hint)


def test_loopback_that_nobody_can_look_at_is_missing_and_never_open(tmp_path: Path) -> None:
    for listener in (True, False):
        made = plan(tmp_path, host(7, listener=listener), network="loopback")
        level = by_name(made)["network"].level
        assert level is (Level.ENFORCED if listener else Level.MISSING)
        assert refuses(made, "socket", 2, 1, 0) is not listener
    with pytest.raises(SandboxUnavailable, match=r"sandbox\.network .*hint: write network: none"):
        refuse_missing(made)
    assert [fact.name for fact in refuse_missing(made, ["network"])] == ["network"]


def test_a_machine_without_a_filter_has_no_such_plan() -> None:
    found = try_no_namespaces(replace(host(7), machine="riscv64"))
    assert not found.works and "machine" in found.why
