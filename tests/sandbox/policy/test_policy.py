"""A policy is data. Values without a meaning, and fields that are not enforced, are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sandbox_agent_sandbox.policy.policy import Limits, Policy


def refusal(**fields: Any) -> tuple[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate(fields)
    (error,) = caught.value.errors(include_url=False)
    return error["loc"], error["msg"]


def test_the_defaults_are_those_of_the_documentation() -> None:
    policy = Policy()
    assert (policy.read, policy.write, policy.hide, policy.protect) == ([], [], [], [])
    assert policy.network == "none"
    assert (policy.env.pass_, policy.env.set) == ([], {})
    assert policy.limits == Limits(
        timeout=120.0,
        memory=4 * 2**30,
        call_memory=None,
        process_memory=None,
        processes=1024,
        cpu_time=3600.0,
        open_files=4096,
        file_size=4 * 2**30,
        tmp=10 * 2**30,
        shm=256 * 2**20,
        disk=20 * 2**30,
        output=2**20,
    )


def test_units_are_read() -> None:
    limits = Limits.model_validate({"timeout": "2m", "memory": "64MiB", "processes": "1k"})
    assert (limits.timeout, limits.memory, limits.processes) == (120.0, 64 * 2**20, 1000)
    lifted = ["timeout", "memory", "call_memory", "processes"]
    lifted += ["cpu_time", "open_files", "file_size", "output"]
    limits = Limits.model_validate(dict.fromkeys(lifted))
    assert [getattr(limits, name) for name in lifted] == [None] * len(lifted)


def test_env_is_written_pass_and_survives_a_round_trip() -> None:
    policy = Policy.model_validate({"env": {"pass": ["LANG"], "set": {"A": "1"}}})
    assert policy.env.pass_ == ["LANG"]
    again = Policy.model_validate_json(policy.model_dump_json(by_alias=True))
    assert again == policy


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Policy.model_validate({"read": ["~/data"]}).read == [Path("/home/somebody/data")]


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        (
            {"env": {"secret": ["KEY"]}},
            ("env", "secret"),
            "this version does not enforce secret variables (env.secret); remove it",
        ),
        (
            {"network": {"allow": ["example.com:443"]}},
            ("network",),
            "this version does not enforce an allow-list of hosts (network: {allow: ...}); "
            "write network: none, loopback or host",
        ),
        ({"network": "all"}, ("network",), "Input should be 'none', 'loopback' or 'host'"),
        ({"netwrok": "none"}, ("netwrok",), "Extra inputs are not permitted"),
        ({"limits": {"timeout": 0}}, ("limits", "timeout"), "Input should be greater than 0"),
        (
            {"limits": {"memory": "1MiB"}},
            ("limits", "memory"),
            "Input should be greater than or equal to 33554432",
        ),
        (
            {"limits": {"call_memory": "2GiB", "memory": "1GiB"}},
            ("limits",),
            "Value error, call_memory is more than memory, which all calls have together; lower it,"
            " or remove it",
        ),
        ({"read": "/opt"}, ("read",), "Input should be a valid list"),
        (
            {"read": [""]},
            ("read", 0),
            "Value error, a path is empty; name a file or folder, or remove the entry",
        ),
        ({"hide": ["a\0b"]}, ("hide", 0), "Value error, a path contains a NUL byte; remove it"),
        (
            {"env": {"pass": ["A=B"]}},
            ("env", "pass", 0),
            "Value error, 'A=B' cannot be the name of an environment variable; write a name "
            "without '='",
        ),
        ({"env": {"set": {"A": 1}}}, ("env", "set", "A"), "Input should be a valid string"),
    ],
)
def test_a_bad_field_is_refused(
    fields: dict[str, Any], place: tuple[Any, ...], message: str
) -> None:
    assert refusal(**fields) == (place, message)


def test_what_is_not_enforced_is_absent_from_the_schema() -> None:
    schema = json.dumps(Policy.model_json_schema())
    assert '"secret"' not in schema
    assert '"allow"' not in schema
    assert '"pass"' in schema


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Policy().network = "host"  # type: ignore[misc]
