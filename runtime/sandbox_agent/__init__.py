"""Runs an LLM agent's tool calls in sandboxed processes, and stops them.

This module is the public interface. Nothing is imported before it is used: tools inside the walls
say `from sandbox_agent import tool, CancelToken`, and should not pay for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox_agent_ipc.cancel_reason import CancelReason as CancelReason
    from sandbox_agent_ipc.errors import SandboxAgentError as SandboxAgentError
    from sandbox_agent_ipc.model_messages import FailureKind as FailureKind
    from sandbox_agent_ipc.token import Cancelled as Cancelled
    from sandbox_agent_ipc.token import CancelToken as CancelToken
    from sandbox_agent_sandbox.inside.worker.tool_result import Image as Image
    from sandbox_agent_sandbox.inside.worker.tool_result import ToolError as ToolError
    from sandbox_agent_sandbox.inside.worker.tool_result import ToolResult as ToolResult
    from sandbox_agent_sandbox.outcome import Outcome as Outcome
    from sandbox_agent_sandbox.outcome import StartedState as StartedState
    from sandbox_agent_sandbox.outcome import Survivor as Survivor
    from sandbox_agent_sandbox.policy.policy import Policy as Policy

    from sandbox_agent.config.settings import Budgets as Budgets
    from sandbox_agent.config.settings import Interrupt as Interrupt
    from sandbox_agent.config.settings import ToolChoice as ToolChoice
    from sandbox_agent.config.task import Task as Task
    from sandbox_agent.config.task_file import load_task as load_task
    from sandbox_agent.conversation import Conversation as Conversation
    from sandbox_agent.errors import AgentError as AgentError
    from sandbox_agent.errors import AgentFailed as AgentFailed
    from sandbox_agent.errors import ConfigError as ConfigError
    from sandbox_agent.errors import JournalError as JournalError
    from sandbox_agent.errors import ModelError as ModelError
    from sandbox_agent.errors import StateError as StateError
    from sandbox_agent.journal.result import RunResult as RunResult
    from sandbox_agent.journal.status import Status as Status
    from sandbox_agent.models import Model as Model
    from sandbox_agent.models import ModelCall as ModelCall
    from sandbox_agent.models import ModelDelta as ModelDelta
    from sandbox_agent.models import ModelTurn as ModelTurn
    from sandbox_agent.models.process.shared import Lease as Lease
    from sandbox_agent.models.provider import ProviderModel as ProviderModel
    from sandbox_agent.models.replay import ReplayModel as ReplayModel
    from sandbox_agent.models.replay import load_replay as load_replay
    from sandbox_agent.models.scripted import ScriptedModel as ScriptedModel
    from sandbox_agent.models.scripted import load_script as load_script
    from sandbox_agent.tools.decorator import tool as tool

_HOMES = {
    "sandbox_agent_ipc.errors": ("SandboxAgentError",),
    "sandbox_agent_ipc.model_messages": ("FailureKind",),
    "sandbox_agent_ipc.cancel_reason": ("CancelReason",),
    "sandbox_agent_ipc.token": ("CancelToken", "Cancelled"),
    "sandbox_agent_sandbox.outcome": ("Outcome", "StartedState", "Survivor"),
    "sandbox_agent_sandbox.policy.policy": ("Policy",),
    "sandbox_agent_sandbox.inside.worker.tool_result": ("Image", "ToolError", "ToolResult"),
    "sandbox_agent.conversation": ("Conversation",),
    "sandbox_agent.errors": (
        "AgentError",
        "AgentFailed",
        "ConfigError",
        "JournalError",
        "ModelError",
        "StateError",
    ),
    "sandbox_agent.models": ("Model", "ModelCall", "ModelDelta", "ModelTurn"),
    "sandbox_agent.models.replay": ("ReplayModel", "load_replay"),
    "sandbox_agent.models.process.shared": ("Lease",),
    "sandbox_agent.models.provider": ("ProviderModel",),
    "sandbox_agent.models.scripted": ("ScriptedModel", "load_script"),
    "sandbox_agent.journal.result": ("RunResult",),
    "sandbox_agent.config.settings": ("Budgets", "Interrupt", "ToolChoice"),
    "sandbox_agent.journal.status": ("Status",),
    "sandbox_agent.config.task": ("Task",),
    "sandbox_agent.config.task_file": ("load_task",),
    "sandbox_agent.tools.decorator": ("tool",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
