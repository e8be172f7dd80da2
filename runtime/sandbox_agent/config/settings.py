"""What a conversation is made with: the one place where it is said, and where it is checked.

A task file, a library call, a resumed and a replayed run all end in `Settings`. These models are
also the documentation of a task file's fields; `sandbox-agent schema` prints them. The defaults
are those of `plain`, where a run finds them without pydantic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from sandbox_agent_sandbox.nearest import nearest
from sandbox_agent_sandbox.policy.fields.types import Count, Duration, PolicyPath
from sandbox_agent_sandbox.policy.policy import Policy, Strict, not_enforced
from sandbox_agent_sandbox.put_off import expression

from sandbox_agent.config.functions import FunctionPlace, place_of
from sandbox_agent.config.plain import SETTINGS
from sandbox_agent.errors import JournalError

BUILT_IN_TOOLS = ("shell", "files")
"""Names of built-in tools and sets of tools."""

FILE_TOOLS = (
    *("read_file", "write_file", "edit_file"),
    *("list_files", "find_files", "search_files"),
)
"""The tools of the set `files`."""

_FUNCTION = expression(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class ConfigModel(Strict):
    """Base of the models of this package: making one in Python raises ConfigError.

    _prefix: the field of a task that the model stands for, which messages name.
    """

    _prefix: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def _error_from(cls, error: ValidationError) -> Exception:
        from sandbox_agent.config.validation_errors import config_error

        return config_error(error, cls, prefix=cls._prefix)


def _text(value: Any) -> Any:
    """Refuses blank text: an empty prompt or command is a slip."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; write some text or remove it")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("contains a NUL byte; remove it")
    return value


Text = Annotated[str, BeforeValidator(_text)]


def _amount(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{value!r} is not an amount of money; write a number such as 2 or 0.5")
    return value


Amount = Annotated[float, BeforeValidator(_amount), Field(gt=0)]


class Workspace(ConfigModel):
    """The folder that the agent works in."""

    path: PolicyPath = SETTINGS.workspace.path
    """It appears inside the sandbox at the same path."""

    mode: Literal["direct"] = SETTINGS.workspace.mode
    """`direct`: what the tools write is written there at once."""

    allow_home: bool = SETTINGS.workspace.allow_home
    """true: it may be your home folder, or hold it. Tools could then change what your shell, your
    editor and other programs run. The command line has to say so too (`--allow-home`)."""

    @field_validator("mode", mode="before")
    @classmethod
    def _no_overlay(cls, value: Any) -> Any:
        if value == "overlay":
            raise not_enforced("staged changes (workspace.mode: overlay)", "write mode: direct")
        return value


class ToolChoice(ConfigModel):
    """A tool, or a built-in set of tools, that a conversation offers to the model.

    In Python: `ToolChoice(tool, timeout=None)`, where tool may be a function.
    """

    _prefix = ("tools",)

    tool: Annotated[Any, PlainSerializer(msgspec.to_builtins)]
    """`shell`, `files`, or `package.module:function`; for a function that was given as an object,
    its FunctionPlace."""

    timeout: Annotated[Duration, Field(gt=0)] | None = None
    """Wall time of one call of this tool; instead of sandbox.limits.timeout."""

    if TYPE_CHECKING:

        def __init__(self, tool: Any, timeout: float | str | None = None) -> None: ...

    def __str__(self) -> str:
        """As a task file names it."""
        return self.tool if isinstance(self.tool, str) else str(self.tool)

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, entry: Any) -> Any:
        if isinstance(entry, str) or callable(entry):
            return {"tool": entry}
        if not isinstance(entry, Mapping) or "tool" in entry:
            return entry
        if "name" in entry:
            return {"tool" if key == "name" else key: value for key, value in entry.items()}
        if len(entry) != 1:
            raise ValueError("an entry is one tool; write `- shell` or `- shell: {timeout: 60s}`")
        ((name, options),) = entry.items()
        if name in ("mcp", "python") or options is None:
            return {"tool": name}
        if not isinstance(options, Mapping):
            raise ValueError(f"the options of {name} are a mapping; write {{timeout: 60s}}")
        return {**options, "tool": name}

    @field_validator("tool")
    @classmethod
    def _known(cls, tool: Any) -> Any:
        if isinstance(tool, FunctionPlace):
            return tool
        if callable(tool):
            return place_of(tool)
        if tool == "mcp":
            raise not_enforced("MCP servers (tools: mcp)")
        if tool == "python":
            raise not_enforced("the python tool", "remove it, or use shell")
        if not isinstance(tool, str) or not (tool in BUILT_IN_TOOLS or _FUNCTION.fullmatch(tool)):
            raise PydanticCustomError(
                "unknown_tool",
                "{name} is not a tool; {hint}",
                {"name": repr(tool), "hint": _tool_hint(str(tool))},
            )
        return tool


def _tool_hint(name: str) -> str:
    near = nearest(name, [*BUILT_IN_TOOLS, *FILE_TOOLS])
    if near in FILE_TOOLS:
        return f"write files, the set that {near} is in"
    if near is not None:
        return f"did you mean {near}?"
    return f"write {', '.join(BUILT_IN_TOOLS)}, or package.module:function"


ToolField = Annotated[
    ToolChoice,
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(BUILT_IN_TOOLS)},
                {"type": "string", "pattern": r"^[\w.]+:[\w.]+$"},
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "timeout": {
                                "type": ["number", "string"],
                                "description": "Wall time of one call of this tool.",
                            }
                        },
                    },
                },
            ]
        }
    ),
]


class Interrupt(ConfigModel):
    """How long a call that is stopped may take: at most grace + term, and a moment for SIGKILL."""

    _prefix = ("interrupt",)

    grace: Annotated[Duration, Field(le=3600)] = SETTINGS.interrupt.grace
    """From the cancel flag (SIGINT for a shell command) to SIGTERM."""

    term: Annotated[Duration, Field(le=3600)] = SETTINGS.interrupt.term
    """From SIGTERM to SIGKILL."""

    if TYPE_CHECKING:

        def __init__(
            self,
            grace: float | str = SETTINGS.interrupt.grace,
            term: float | str = SETTINGS.interrupt.term,
        ) -> None: ...


class Budgets(ConfigModel):
    """Limits that end a run.

    `turns`, `tokens` and `cost_usd` are checked before each request to the model. So the answer
    that crosses one of them is the last, and its calls are still made.
    """

    _prefix = ("budgets",)

    turns: Annotated[Count, Field(ge=1)] | None = SETTINGS.budgets.turns
    """Answers of the model; null for no limit."""

    time: Annotated[Duration, Field(gt=0)] | None = SETTINGS.budgets.time
    """Wall time of a run; null for no limit."""

    tokens: Annotated[Count, Field(ge=1)] | None = SETTINGS.budgets.tokens
    """Tokens that the model reads and writes, in all requests of a run together, as its provider
    counts them. If the provider does not count them, the run ends as an error. A scripted model
    uses none."""

    cost_usd: Amount | None = SETTINGS.budgets.cost_usd
    """US dollars that the model's answers cost. If the price of the model is not known, the first
    answer ends the run as an error."""

    repeats: Annotated[Count, Field(ge=2)] | None = SETTINGS.budgets.repeats
    """How often in a row the model may make exactly the same calls with exactly the same results;
    then the run has failed. null for no limit, for instance for a model that polls."""


class Settings(ConfigModel):
    """What a conversation is made with, beside its model."""

    workspace: Workspace = Workspace()
    """The folder that the agent works in."""

    tools: list[ToolField] = Field(
        default_factory=lambda: [ToolChoice(name) for name in BUILT_IN_TOOLS]
    )
    """What the model may call: `shell`, `files` (read_file, write_file, edit_file, list_files,
    find_files, search_files), and functions of installed modules or of the workspace's."""

    instructions: Text | None = SETTINGS.instructions
    """What the model is told beside the runtime's own system prompt, such as the style to write
    in."""

    agents_md: bool = SETTINGS.agents_md
    """Whether the model is told what `AGENTS.md` of the workspace says, up to 32 KiB of it. You are
    warned if an earlier run may have written the file. The record names it."""

    sandbox: Policy = Policy()
    """What the tools may see, change and use."""

    interrupt: Interrupt = Interrupt()
    """How long a call that is stopped may take."""

    budgets: Budgets = Budgets()
    """Limits that end a run."""

    parallel: Annotated[Count, Field(ge=1, le=64)] = SETTINGS.parallel
    """How many calls may go at the same time."""

    spares: Annotated[Count, Field(ge=0)] = SETTINGS.spares
    """How many workers are kept ready for calls to come, so that a call begins at once. Each takes
    some 7 MB of memory. 0: each call starts its own. At most 8 are kept; with less room for them,
    fewer, and you are told."""

    verify: list[Text] = Field(default_factory=list)
    """Shell commands that run in the sandbox after the agent says it is done. All must succeed, or
    the run has failed."""

    @field_validator("tools")
    @classmethod
    def _each_once(cls, tools: list[ToolChoice]) -> list[ToolChoice]:
        names = [str(choice) for choice in tools]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is listed twice; remove one of them")
        return tools


def settings_from(
    options: Mapping[str, Any], recorded: Mapping[str, Any] | None = None
) -> Settings:
    """The settings that a program gives; None stands for what is not given.

    recorded: what a journal says, for what is not given. A mapping replaces only what it names.
    Raises ConfigError, and JournalError for a record that is damaged.
    """
    known = from_record(recorded or {})
    options = {name: value for name, value in options.items() if value is not None}
    data = {**known, **options}
    for name, given in options.items():
        if isinstance(given, Mapping) and isinstance(known.get(name), Mapping):
            data[name] = merge(known[name], _by_alias(given))
    if isinstance(data.get("workspace"), str | Path):
        data["workspace"] = {"path": data["workspace"]}
    if isinstance(data.get("interrupt"), tuple) and len(data["interrupt"]) == 2:
        data["interrupt"] = dict(zip(("grace", "term"), data["interrupt"], strict=True))
    return Settings(**{name: value for name, value in data.items() if value is not None})


def _by_alias(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A policy's data with `env.pass` under the name that a record has: Python calls it `pass_`."""
    env = given.get("env")
    if not isinstance(env, Mapping) or "pass_" not in env:
        return given
    return {**given, "env": {"pass" if key == "pass_" else key: env[key] for key in env}}


def merge(farther: Mapping[str, Any], nearer: Mapping[str, Any]) -> dict[str, Any]:
    """Both, field by field; the nearer wins."""
    merged = dict(farther)
    for key, value in nearer.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def as_record(settings: Settings) -> dict[str, Any]:
    """The settings as a journal keeps them, under a task's names."""
    return settings.model_dump(mode="json", by_alias=True, include=set(Settings.model_fields))


def from_record(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `as_record` wrote, as data that `Settings` and `Task` take.

    Raises JournalError if it is something else.
    """
    if "tools" not in data:
        return dict(data)
    try:
        tools = msgspec.convert(data["tools"], list[_RecordedTool])
    except msgspec.ValidationError as error:
        raise JournalError(f"the tools in the journal are damaged: {error}") from None
    return {**data, "tools": [msgspec.structs.asdict(tool) for tool in tools]}


class _RecordedTool(msgspec.Struct, frozen=True):
    tool: str | FunctionPlace
    timeout: float | None = None
