"""A policy as plain data has the fields and the defaults of the one that people write."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sandbox_agent_sandbox.policy.fields.plain import POLICY, PlainEnv, PlainLimits, PlainPolicy
from sandbox_agent_sandbox.policy.policy import EnvPolicy, Limits, Policy, plain


@pytest.mark.parametrize(
    ("plain_kind", "kind"),
    [(PlainPolicy, Policy), (PlainEnv, EnvPolicy), (PlainLimits, Limits)],
)
def test_it_has_the_same_fields_in_the_same_order(
    plain_kind: type[msgspec.Struct], kind: type[Policy]
) -> None:
    assert plain_kind.__struct_fields__ == tuple(kind.model_fields)


def test_its_defaults_are_those_of_the_policy_that_people_write() -> None:
    assert plain(Policy()) == POLICY
    written = Policy().model_dump(mode="json", by_alias=True)
    assert msgspec.to_builtins(POLICY) == written


def test_every_field_of_a_written_policy_is_in_it() -> None:
    policy = Policy(
        read=["/a"],
        write=["/b"],
        hide=["c"],
        protect=["d"],
        network="host",
        env=EnvPolicy(pass_=["LANG"], set={"A": "1"}),
        limits=Limits(timeout="2m", memory="1GiB", processes=None),
        protect_defaults=False,
        plan="full",
        allow_degraded=["all"],
    )
    found = plain(policy)
    for name in PlainPolicy.__struct_fields__:
        assert getattr(found, name) != getattr(POLICY, name), name
    assert found.write == [Path("/b")]
    assert found.env == PlainEnv(["LANG"], {"A": "1"})
    assert found.limits == PlainLimits(timeout=120.0, memory=2**30, processes=None)


def test_a_default_that_a_program_changes_is_not_the_next_ones() -> None:
    Policy().read.append(Path("/etc"))
    assert Policy().read == POLICY.read == []
