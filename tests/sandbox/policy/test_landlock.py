"""Binds -> the rules of Landlock."""

from __future__ import annotations

from pathlib import Path

from sandbox_agent_sandbox.plan import Access, Bind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandbox_agent_sandbox.policy.rules.landlock import (
    BIND_TCP,
    EXECUTE,
    IOCTL_DEV,
    MAKE_BLOCK,
    MAKE_CHAR,
    READ,
    READ_FILE,
    TRUNCATE,
    USE,
    WRITE,
    WRITE_FILE,
    WRITE_ONE,
    landlock_rules,
)

OWN = [
    Access("/", READ),
    Access("/proc", USE),
    Access("/dev", USE | IOCTL_DEV),
    Access("/dev/shm", WRITE),
    Access("/tmp", WRITE),
    Access("/var/tmp", WRITE),
]


def test_what_is_written_has_a_rule_and_all_else_is_read() -> None:
    """Folders that lie in another one that is written have none of their own."""
    binds = (
        Bind("/usr"),
        Bind("/usr/local", writable=True),
        Bind("/usr/local/bin"),
        Bind("/tmp/elsewhere", writable=True),
        Bind("/usr/local/bin/more", writable=True),
    )
    rules = landlock_rules(binds, listens=True)
    assert list(rules.files) == [*OWN, Access("/usr/local", WRITE)]
    assert rules.tcp == 0


def test_a_file_has_the_rights_that_a_file_can_have() -> None:
    """With another one the kernel refuses the rule: landlock_add_rule(2), EINVAL."""
    one = landlock_rules([Bind("/etc/passwd", writable=True)], listens=True).files[-1]
    assert one == Access("/etc/passwd", WRITE_ONE)
    assert not WRITE_ONE & ~(EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV)


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
