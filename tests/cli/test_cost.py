"""Small things stay small. How long they take is measured, and bounded, by `scripts/bench`."""

from __future__ import annotations

from collections.abc import Iterator

import costs
import identity
import pytest
from identity import Person


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # the user who runs the tests, root or not


def test_a_one_call_run_is_small_and_imports_no_litellm(me: Person) -> None:
    task = str(costs.one_call_task(me.folder))
    seen = costs.look(me, ["run", task])
    assert seen.peak <= 42e6
    heavy = {"litellm", "openai", "jinja2", "ray", "mcp", "rich"}
    put_off = {"ssl", "_ssl", "secrets", "hashlib", "locale", "platform", "urllib.parse", "ctypes"}
    assert not (heavy | put_off) & seen.modules
    view = ("sandbox_agent.cli.terminal", "sandbox_agent.reports.terminal")
    assert not [name for name in seen.modules if name.startswith(view)]


def test_exec_imports_nothing_that_it_can_do_without(me: Person) -> None:
    seen = costs.look(me, ["exec", "--", "/bin/true"])
    heavy = {"pydantic", "yaml", "asyncio", "psutil", "litellm", "sandbox_agent.conversation"}
    slow = {"logging", "concurrent", "inspect", "dataclasses", "typing_extensions", "shutil"}
    put_off = {"gettext", "locale", "platform", "textwrap", "ntpath", "urllib.parse", "ipaddress"}
    assert not (heavy | slow | put_off | {"msgspec.inspect"}) & seen.modules


def test_exec_has_what_a_policy_file_and_a_signal_need(me: Person) -> None:
    """What is left out at first is there when it is needed."""
    policy = me.folder / "policy.yaml"
    policy.write_text("env: {set: {GREETING: hello}}\n")
    text = 'test "$GREETING" = hello && trap "" TERM INT && sleep 60'
    arguments = ["--policy", str(policy), "--timeout", "0.1s", "--grace", "0", "--", "sh", "-c"]
    seen = costs.look(me, ["exec", *arguments, text], code=124)
    assert {"pydantic", "yaml", "psutil"} <= seen.modules


def test_help_imports_nothing_heavy(me: Person) -> None:
    seen = costs.look(me, ["--help"])
    assert not {"pydantic", "psutil", "rich", "asyncio", "yaml", "litellm"} & seen.modules
