"""The flags of `exec` that change a policy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_agent.config.policy_flags import Pair, with_flags
from sandbox_agent.errors import ConfigError
from sandbox_agent_sandbox.policy.policy import EnvPolicy, Policy


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name in ("work/tests/unit", "data", "other"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "work"


def bound(policy: Policy, work: Path, *flags: str) -> Policy:
    """flags: `--bind PATH`, ..."""
    pairs: list[Pair] = [(flag, path, path) for flag, path in (one.split() for one in flags)]
    return with_flags(policy, pairs, False, work)


def test_binds_are_added_to_what_the_policy_names(work: Path) -> None:
    data, other = work.parent / "data", work.parent / "other"
    found = bound(Policy(read=[data]), work, f"--bind {other}")
    assert (found.read, found.write) == ([data], [other])
    found = bound(Policy(), work, f"--ro-bind {data}")
    assert (found.read, found.write, found.protect) == ([data], [], [])


def test_a_flag_wins_over_the_policy_and_a_later_one_over_an_earlier_one(work: Path) -> None:
    data = work.parent / "data"
    for field in ("read", "write", "protect", "hide"):
        policy = Policy.model_validate({field: [data]})
        found = bound(policy, work, f"--bind {data}")
        assert (found.read, found.write, found.protect, found.hide) == ([], [data], [], [])
        found = bound(policy, work, f"--bind {data}", f"--ro-bind {data}")
        assert (found.read, found.write, found.protect, found.hide) == ([data], [], [], [])


def test_a_read_only_bind_in_what_is_writable_protects(work: Path) -> None:
    tests, unit = work / "tests", work / "tests" / "unit"
    found = bound(Policy(), work, f"--ro-bind {tests}", f"--bind {unit}")
    assert (found.read, found.write, found.protect) == ([], [unit], [tests])
    data = work.parent / "data"
    found = bound(Policy(write=[work.parent]), work, f"--ro-bind {data}")
    assert (found.read, found.write, found.protect) == ([], [work.parent], [data])


def test_a_link_and_its_target_are_the_same_path(work: Path) -> None:
    link = work.parent / "link"
    link.symlink_to("data")
    found = bound(Policy(write=[work.parent / "data"]), work, f"--ro-bind {link}")
    assert (found.read, found.write) == ([link], [])


def test_relative_paths_start_at_the_current_folder(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work.parent)
    found = with_flags(Policy(), [("--bind", "data", f"{work.parent}/data/")], False, work)
    assert found.write == [work.parent / "data"]


@pytest.mark.parametrize(
    ("source", "destination", "what"),
    [
        ("/usr", "/opt", "SRC /usr and DEST /opt differ"),
        ("/not/there", "/not/there", "/not/there does not exist"),
        ("", "", "a path is empty"),
        (os.fsdecode(b"/\xff"), os.fsdecode(b"/\xff"), "is not UTF-8"),
    ],
)
def test_wrong_paths_are_refused_with_the_flag_and_a_hint(
    work: Path, source: str, destination: str, what: str
) -> None:
    for option in ("--bind", "--ro-bind"):
        with pytest.raises(ConfigError, match=what) as raised:
            with_flags(Policy(), [(option, source, destination)], False, work)
        assert raised.value.file == option and raised.value.hint


def test_variables_win_over_the_policy(work: Path) -> None:
    policy = Policy(env=EnvPolicy(pass_=["A", "B"], set={"C": "1", "D": "1"}))
    pairs = [("--setenv", "A", "2"), ("--setenv", "C", "2"), ("--setenv", "C", "")]
    found = with_flags(policy, pairs, False, work)
    assert found.env == EnvPolicy(pass_=["B"], set={"A": "2", "C": "", "D": "1"})
    for name, value in (
        ("A=B", "x"),
        ("", "x"),
        ("API_KEY", "sk-0123456789abcdef0123456789abcdef"),
    ):
        with pytest.raises(ConfigError) as raised:
            with_flags(policy, [("--setenv", name, value)], False, work)
        assert raised.value.file == "--setenv" and raised.value.hint


def test_the_network_is_shared_only_if_asked_for(work: Path) -> None:
    assert with_flags(Policy(), [], False, work) == Policy()
    assert with_flags(Policy(), [], True, work) == Policy(network="host")
    assert with_flags(Policy(network="host"), [], False, work) == Policy(network="host")
