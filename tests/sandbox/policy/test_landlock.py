"""Binds -> the rules of Landlock."""

from __future__ import annotations

from pathlib import Path

from sandbox_agent_sandbox.plan import Access, Bind
from sandbox_agent_sandbox.policy.landlock import (
    BIND_TCP,
    IOCTL_DEV,
    MAKE_BLOCK,
    MAKE_CHAR,
    READ,
    USE,
    WRITE,
    landlock_rules,
)
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts

OWN = [
    Access("/", READ),
    Access("/proc", USE),
    Access("/dev", USE | IOCTL_DEV),
    Access("/dev/shm", WRITE),
    Access("/tmp", WRITE),
    Access("/var/tmp", WRITE),
]
BINDS = (
    Bind("/usr"),
    Bind("/work", writable=True),
    Bind("/work/tests"),
    Bind("/data/out", writable=True),
    Bind("/tmp/elsewhere", writable=True),
    Bind("/work/tests/results", writable=True),
)


def test_what_is_written_has_a_rule_and_all_else_is_read() -> None:
    rules = landlock_rules(BINDS, listens=True)
    assert list(rules.files) == [*OWN, Access("/work", WRITE), Access("/data/out", WRITE)]
    assert rules.tcp == 0


def test_a_process_that_only_asks_may_not_listen() -> None:
    assert landlock_rules((), listens=False).tcp == BIND_TCP
    assert list(landlock_rules((), listens=False).files) == OWN


def test_nobody_makes_devices_or_talks_to_those_of_the_workspace() -> None:
    assert not WRITE & (MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV)
    assert not READ & ~(READ & WRITE)


def test_a_plan_carries_the_rules_of_its_binds(tmp_path: Path) -> None:
    for name in ("work", "more"):
        (tmp_path / name).mkdir()
    policy = Policy(write=[tmp_path / "more"])
    plan = make_plan(policy, host_facts(), workspace=tmp_path / "work")
    assert plan.landlock == landlock_rules(plan.binds, listens=True)
    silent = make_plan(Policy(), host_facts(), workspace=None, listens=False)
    assert silent.landlock.tcp == BIND_TCP
