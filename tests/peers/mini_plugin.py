"""A pytest plugin: mini-swe-agent's own tests of its local environment test ours in its place, with
`-p mini_plugin`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import minisweagent.environments.local as local
import pytest
from mini_environment import SandboxAgentEnvironment

_made: list[SandboxAgentEnvironment] = []


class _Closed(SandboxAgentEnvironment):
    """These tests never close an environment; the fixture below does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(inherit=["EXISTING_VAR", "CONFLICT_VAR"], **options)
        _made.append(self)


local.LocalEnvironment = _Closed


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()
