"""For tests of tools and agents: `from sandbox_agent.testing import ...`.

- `FakeToken`: a cancel token for unit tests of a tool, without any process.
- `run_tool`, `start_tool`: a tool in a real sandbox, with a token that the test controls.
- `AgentRun`: what the pytest fixture `agent_run` is; see `plugin`.

Each name is imported when it is first used: pytest loads `plugin` in every run of every project in
whose environment sandbox-agent is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox_agent.testing.agent_result import AgentResult as AgentResult
    from sandbox_agent.testing.agent_result import CallSeen as CallSeen
    from sandbox_agent.testing.agent_run import AgentRun as AgentRun
    from sandbox_agent.testing.agent_run import RunningAgent as RunningAgent
    from sandbox_agent.testing.fake_token import FakeToken as FakeToken
    from sandbox_agent.testing.tool_run import RunningTool as RunningTool
    from sandbox_agent.testing.tool_run import run_tool as run_tool
    from sandbox_agent.testing.tool_run import start_tool as start_tool

__all__ = [
    "AgentResult",
    "AgentRun",
    "CallSeen",
    "FakeToken",
    "RunningAgent",
    "RunningTool",
    "run_tool",
    "start_tool",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "FakeToken":
        from sandbox_agent.testing import fake_token as home
    elif name in ("RunningTool", "run_tool", "start_tool"):
        from sandbox_agent.testing import tool_run as home  # type: ignore[no-redef]
    elif name in ("AgentResult", "CallSeen"):
        from sandbox_agent.testing import agent_result as home  # type: ignore[no-redef]
    else:
        from sandbox_agent.testing import agent_run as home  # type: ignore[no-redef]
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
