"""Runs an LLM agent's tool calls in sandboxed processes, and stops them.

This module is the public interface: `__all__` lists it. Each name is imported when it is first
used, because tools inside the walls say `from sandbox_agent import tool, CancelToken` and must not
pay for the rest.
"""

import sys

# Python may have put a folder first in `sys.path` where a tool has written a module with the name
# of one of Python's or ours. `python -m sandbox_agent` needs nothing of it. While our package is
# looked for, argv[0] is "-m". Nothing is imported before this, not even `__future__`. pytest
# imports our plugin in every project: there the folder is the project's, and is what is tested.
_OURS = any(one.removeprefix("-m") == "sandbox_agent" for one in sys.orig_argv)
_FIRST = not (_OURS and sys.argv[:1] == ["-m"] and not sys.flags.safe_path)
if not _FIRST:
    del sys.path[0]
if "_pytest" not in sys.modules:
    from sandbox_agent.first_imports import guard

    guard(first=_FIRST)

from importlib import import_module  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sandbox_agent_ipc.cancel_reason import CancelReason as CancelReason
    from sandbox_agent_ipc.errors import SandboxAgentError as SandboxAgentError
    from sandbox_agent_ipc.messages import FunctionRef as FunctionRef
    from sandbox_agent_ipc.messages import ToolSpec as ToolSpec
    from sandbox_agent_ipc.model_messages import FailureKind as FailureKind
    from sandbox_agent_ipc.token import Cancelled as Cancelled
    from sandbox_agent_ipc.token import CancelToken as CancelToken
    from sandbox_agent_ipc.token import RunToken as RunToken
    from sandbox_agent_sandbox.errors import PolicyError as PolicyError
    from sandbox_agent_sandbox.errors import SandboxBroken as SandboxBroken
    from sandbox_agent_sandbox.errors import SandboxError as SandboxError
    from sandbox_agent_sandbox.errors import SandboxUnavailable as SandboxUnavailable
    from sandbox_agent_sandbox.inside.worker.tool_result import Image as Image
    from sandbox_agent_sandbox.inside.worker.tool_result import ToolError as ToolError
    from sandbox_agent_sandbox.inside.worker.tool_result import ToolResult as ToolResult
    from sandbox_agent_sandbox.outcome import CallResult as CallResult
    from sandbox_agent_sandbox.outcome import LimitMet as LimitMet
    from sandbox_agent_sandbox.outcome import Outcome as Outcome
    from sandbox_agent_sandbox.outcome import Rung as Rung
    from sandbox_agent_sandbox.outcome import StartedState as StartedState
    from sandbox_agent_sandbox.outcome import Survivor as Survivor
    from sandbox_agent_sandbox.policy.policy import EnvPolicy as EnvPolicy
    from sandbox_agent_sandbox.policy.policy import Limits as Limits
    from sandbox_agent_sandbox.policy.policy import Policy as Policy
    from sandbox_agent_sandbox.protection.finding import Finding as Finding
    from sandbox_agent_sandbox.protection.finding import FindingKind as FindingKind

    from sandbox_agent.box.blocking import BlockingSandbox as BlockingSandbox
    from sandbox_agent.box.request import CallOptions as CallOptions
    from sandbox_agent.box.request import RunOptions as RunOptions
    from sandbox_agent.box.sandbox import Sandbox as Sandbox
    from sandbox_agent.config.settings import Budgets as Budgets
    from sandbox_agent.config.settings import Interrupt as Interrupt
    from sandbox_agent.config.settings import Settings as Settings
    from sandbox_agent.config.settings import ToolChoice as ToolChoice
    from sandbox_agent.config.settings import Workspace as Workspace
    from sandbox_agent.config.task import ModelChoice as ModelChoice
    from sandbox_agent.config.task import Output as Output
    from sandbox_agent.config.task import Task as Task
    from sandbox_agent.config.task import TaskBudgets as TaskBudgets
    from sandbox_agent.config.task_file import load_task as load_task
    from sandbox_agent.conversation import Conversation as Conversation
    from sandbox_agent.errors import AgentError as AgentError
    from sandbox_agent.errors import AgentFailed as AgentFailed
    from sandbox_agent.errors import ConfigError as ConfigError
    from sandbox_agent.errors import JournalError as JournalError
    from sandbox_agent.errors import ModelError as ModelError
    from sandbox_agent.errors import StateError as StateError
    from sandbox_agent.journal.events import AgentsFile as AgentsFile
    from sandbox_agent.journal.events import AnyEvent as AnyEvent
    from sandbox_agent.journal.events import CancelRequested as CancelRequested
    from sandbox_agent.journal.events import Dispatching as Dispatching
    from sandbox_agent.journal.events import Ended as Ended
    from sandbox_agent.journal.events import JournalOpened as JournalOpened
    from sandbox_agent.journal.events import RecordedSettings as RecordedSettings
    from sandbox_agent.journal.events import SegmentEnded as SegmentEnded
    from sandbox_agent.journal.events import SegmentStarted as SegmentStarted
    from sandbox_agent.journal.events import Started as Started
    from sandbox_agent.journal.events import ToolCall as ToolCall
    from sandbox_agent.journal.events import ToolEntry as ToolEntry
    from sandbox_agent.journal.events import TurnTaken as TurnTaken
    from sandbox_agent.journal.events import UserText as UserText
    from sandbox_agent.journal.events import Verified as Verified
    from sandbox_agent.journal.history import AssistantMessage as AssistantMessage
    from sandbox_agent.journal.history import History as History
    from sandbox_agent.journal.history import Message as Message
    from sandbox_agent.journal.history import ToolMessage as ToolMessage
    from sandbox_agent.journal.history import UserMessage as UserMessage
    from sandbox_agent.journal.recorder import OnEvent as OnEvent
    from sandbox_agent.journal.recording import RecordedSegments as RecordedSegments
    from sandbox_agent.journal.recording import Recording as Recording
    from sandbox_agent.journal.recording import Verdict as Verdict
    from sandbox_agent.journal.result import RunResult as RunResult
    from sandbox_agent.journal.result_file import CallRecord as CallRecord
    from sandbox_agent.journal.result_file import Record as Record
    from sandbox_agent.journal.result_file import Times as Times
    from sandbox_agent.journal.result_file import Usage as Usage
    from sandbox_agent.journal.result_file import VerifyRecord as VerifyRecord
    from sandbox_agent.journal.state import CallState as CallState
    from sandbox_agent.journal.state import Phase as Phase
    from sandbox_agent.journal.state import RunState as RunState
    from sandbox_agent.journal.status import Status as Status
    from sandbox_agent.journal.usage import TokenUsage as TokenUsage
    from sandbox_agent.models import DeltaKind as DeltaKind
    from sandbox_agent.models import Model as Model
    from sandbox_agent.models import ModelCall as ModelCall
    from sandbox_agent.models import ModelDelta as ModelDelta
    from sandbox_agent.models import ModelTurn as ModelTurn
    from sandbox_agent.models import OnDelta as OnDelta
    from sandbox_agent.models.process.shared import Lease as Lease
    from sandbox_agent.models.provider import ProviderModel as ProviderModel
    from sandbox_agent.models.replay import ReplayModel as ReplayModel
    from sandbox_agent.models.replay import load_replay as load_replay
    from sandbox_agent.models.scripted import ScriptedModel as ScriptedModel
    from sandbox_agent.models.scripted import Step as Step
    from sandbox_agent.models.scripted import load_script as load_script
    from sandbox_agent.resume import PastRun as PastRun
    from sandbox_agent.run.call import OnOutput as OnOutput
    from sandbox_agent.run.setup import Options as Options
    from sandbox_agent.stream import OutputPiece as OutputPiece
    from sandbox_agent.stream import StreamItem as StreamItem
    from sandbox_agent.tools.decorator import tool as tool

__all__ = [
    "AgentError",
    "AgentFailed",
    "AgentsFile",
    "AnyEvent",
    "AssistantMessage",
    "BlockingSandbox",
    "Budgets",
    "CallOptions",
    "CallRecord",
    "CallResult",
    "CallState",
    "CancelReason",
    "CancelRequested",
    "CancelToken",
    "Cancelled",
    "ConfigError",
    "Conversation",
    "DeltaKind",
    "Dispatching",
    "Ended",
    "EnvPolicy",
    "FailureKind",
    "Finding",
    "FindingKind",
    "FunctionRef",
    "History",
    "Image",
    "Interrupt",
    "JournalError",
    "JournalOpened",
    "Lease",
    "LimitMet",
    "Limits",
    "Message",
    "Model",
    "ModelCall",
    "ModelChoice",
    "ModelDelta",
    "ModelError",
    "ModelTurn",
    "OnDelta",
    "OnEvent",
    "OnOutput",
    "Options",
    "Outcome",
    "Output",
    "OutputPiece",
    "PastRun",
    "Phase",
    "Policy",
    "PolicyError",
    "ProviderModel",
    "Record",
    "RecordedSegments",
    "RecordedSettings",
    "Recording",
    "ReplayModel",
    "RunOptions",
    "RunResult",
    "RunState",
    "RunToken",
    "Rung",
    "Sandbox",
    "SandboxAgentError",
    "SandboxBroken",
    "SandboxError",
    "SandboxUnavailable",
    "ScriptedModel",
    "SegmentEnded",
    "SegmentStarted",
    "Settings",
    "Started",
    "StartedState",
    "StateError",
    "Status",
    "Step",
    "StreamItem",
    "Survivor",
    "Task",
    "TaskBudgets",
    "Times",
    "TokenUsage",
    "ToolCall",
    "ToolChoice",
    "ToolEntry",
    "ToolError",
    "ToolMessage",
    "ToolResult",
    "ToolSpec",
    "TurnTaken",
    "Usage",
    "UserMessage",
    "UserText",
    "Verdict",
    "Verified",
    "VerifyRecord",
    "Workspace",
    "__version__",
    "load_replay",
    "load_script",
    "load_task",
    "tool",
]

_HOMES = {
    "sandbox_agent_ipc.cancel_reason": "CancelReason",
    "sandbox_agent_ipc.errors": "SandboxAgentError",
    "sandbox_agent_ipc.messages": "FunctionRef ToolSpec",
    "sandbox_agent_ipc.model_messages": "FailureKind",
    "sandbox_agent_ipc.token": "CancelToken Cancelled RunToken",
    "sandbox_agent_sandbox.errors": ("PolicyError SandboxBroken SandboxError SandboxUnavailable"),
    "sandbox_agent_sandbox.inside.worker.tool_result": "Image ToolError ToolResult",
    "sandbox_agent_sandbox.outcome": "CallResult LimitMet Outcome Rung StartedState Survivor",
    "sandbox_agent_sandbox.policy.policy": "EnvPolicy Limits Policy",
    "sandbox_agent_sandbox.protection.finding": "Finding FindingKind",
    "sandbox_agent.box.blocking": "BlockingSandbox",
    "sandbox_agent.box.request": "CallOptions RunOptions",
    "sandbox_agent.box.sandbox": "Sandbox",
    "sandbox_agent.config.settings": "Budgets Interrupt Settings ToolChoice Workspace",
    "sandbox_agent.config.task": "ModelChoice Output Task TaskBudgets",
    "sandbox_agent.config.task_file": "load_task",
    "sandbox_agent.conversation": "Conversation",
    "sandbox_agent.errors": (
        "AgentError AgentFailed ConfigError JournalError ModelError StateError"
    ),
    "sandbox_agent.journal.events": (
        "AgentsFile AnyEvent CancelRequested Dispatching Ended JournalOpened RecordedSettings "
        "SegmentEnded SegmentStarted Started ToolCall ToolEntry TurnTaken UserText Verified"
    ),
    "sandbox_agent.journal.history": ("AssistantMessage History Message ToolMessage UserMessage"),
    "sandbox_agent.journal.recorder": "OnEvent",
    "sandbox_agent.journal.recording": "RecordedSegments Recording Verdict",
    "sandbox_agent.journal.result": "RunResult",
    "sandbox_agent.journal.result_file": "CallRecord Record Times Usage VerifyRecord",
    "sandbox_agent.journal.state": "CallState Phase RunState",
    "sandbox_agent.journal.status": "Status",
    "sandbox_agent.journal.usage": "TokenUsage",
    "sandbox_agent.models": "DeltaKind Model ModelCall ModelDelta ModelTurn OnDelta",
    "sandbox_agent.models.process.shared": "Lease",
    "sandbox_agent.models.provider": "ProviderModel",
    "sandbox_agent.models.replay": "ReplayModel load_replay",
    "sandbox_agent.models.scripted": "ScriptedModel Step load_script",
    "sandbox_agent.resume": "PastRun",
    "sandbox_agent.run.call": "OnOutput",
    "sandbox_agent.run.setup": "Options",
    "sandbox_agent.stream": "OutputPiece StreamItem",
    "sandbox_agent.tools.decorator": "tool",
}
"""The names of each module."""

_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> "Any":
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
