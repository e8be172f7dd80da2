"""The pytest plugin: the fixture `agent_run` and the marker `agent`.

pytest loads this module in every run of every project in whose environment sandbox-agent is
installed (entry point `pytest11`). So it imports nothing that pytest has not imported, and does
nothing before a test asks for it. `-p no:sandbox_agent` turns it off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sandbox_agent.testing.agent_run import AgentRun

MARKER = (
    "agent(check_processes=True, **options): the options that `agent_run` gives to its"
    " `sandbox_agent.Conversation`s. A test with this marker, or with the fixture, fails if it"
    " leaves a process behind."
)

_WATCHING = "sandbox-agent-watching"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests are watched only where one asks for it."""
    if config.pluginmanager.has_plugin(_WATCHING) or not any(map(_asks, items)):
        return
    from sandbox_agent.testing.watching import Watching

    config.pluginmanager.register(Watching(), _WATCHING)


def _asks(item: pytest.Item) -> bool:
    return "agent_run" in getattr(item, "fixturenames", ()) or bool(
        item.get_closest_marker("agent")
    )


@pytest.fixture
def agent_run(request: pytest.FixtureRequest) -> Iterator[AgentRun]:
    """Runs agents with a scripted model and real tools in a real sandbox, below `tmp_path`.

    `agent_run(steps)` returns how the run ended, `agent_run.start(steps)` a run that the test can
    interrupt, `agent_run.tool(function, arguments)` the result of one call of a tool. The marker
    `agent` gives options: `@pytest.mark.agent(tools=[search], budgets={"turns": 3})`.
    """
    from sandbox_agent.testing.agent_run import AgentRun
    from sandbox_agent.testing.watching import options_of

    # Asked for here: with `tmp_path` as an argument, each use of this fixture would make a folder
    # also where the marker is wrong.
    options = options_of(request.node)
    run = AgentRun(request.getfixturevalue("tmp_path"), **options)
    try:
        yield run
    finally:
        survivors = run.close()
    if survivors:
        lines = "\n  ".join(f"process {one.pid}: {one.command}" for one in survivors)
        pytest.fail(f"could not be stopped:\n  {lines}", pytrace=False)
