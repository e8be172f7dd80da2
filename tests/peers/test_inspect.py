"""Inspect's own self-check of sandboxes, on ours."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import peer_programs
import pytest

pytest.importorskip("inspect_ai", reason="needs inspect_ai; tests/peers/run installs it")

from inspect_ai.util._sandbox import self_check
from inspect_ai.util._sandbox.self_check import *  # noqa: F403
from inspect_environment import SandboxAgentEnvironment

IMPOSSIBLE = {
    "test_exec_as_user": "needs root inside: the user id inside is never 0, so nobody can add users"
}
"""Checks that our design rules out, with the reason."""


for _name in self_check.__all__:
    pytest.mark.anyio(getattr(self_check, _name))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sandbox_env(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """What the checks of `self_check` ask for."""
    if reason := IMPOSSIBLE.get(request.node.originalname):
        pytest.skip(reason)
    environments = await SandboxAgentEnvironment.sample_init("self-check", None, {})
    try:
        yield environments["default"]
    finally:
        await SandboxAgentEnvironment.sample_cleanup("self-check", None, environments, False)


def test_the_self_check_is_whole() -> None:
    """So that a version of Inspect which moves its checks cannot pass by having none."""
    assert len(self_check.__all__) >= 44
    assert set(self_check.__all__) <= globals().keys()


def test_an_evaluation_runs_on_it(tmp_path: Path) -> None:
    with peer_programs.start("inspect_program.py", "echo total $((6 * 7))", tmp_path) as process:
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert "success" in said
    assert "total 42" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_an_evaluation_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    left, said = peer_programs.strike("inspect_program.py", tmp_path, number)
    assert left == [], said
