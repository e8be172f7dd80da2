"""What a task file says. These models are its documentation; `schema` prints them.

Relative paths in a file start at its folder. `task_file` reads the file; here is its meaning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError
from sandbox_agent_sandbox.policy.policy import (
    Count,
    Duration,
    Policy,
    PolicyPath,
    Strict,
    not_enforced,
)

from sandbox_agent.config.model_settings import RETRIES, TIMEOUT, USUAL, check_address, check_params
from sandbox_agent.config.settings import REPEATS

BUILT_IN_TOOLS = ("shell", "files")
"""Names of built-in tools and sets of tools that a task file may list."""

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _text(value: Any) -> Any:
    """Refuses blank text: a prompt or command of nothing is a slip."""
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


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    check_address(value.strip())
    return value.strip()


_LOCAL = ("scripted", "replay")


class ModelChoice(Strict):
    """Which model answers. As text: the name alone."""

    name: Text
    """As litellm names it (`openai/gpt-4o`, `anthropic/claude-sonnet-4-5`); its key is in the
    environment. `scripted:FILE`: a list of turns in a YAML file; needs no key and no network.
    `replay:RUN`: what the model of a recorded run said; RUN is an id, the beginning of one, a path,
    or `last`."""

    api_base: Annotated[str, BeforeValidator(_address)] | None = None
    """Of another server that speaks the provider's language, such as one of your own."""

    timeout: Annotated[Duration, Field(gt=0, le=86400)] = TIMEOUT
    """How long the provider may be silent, before an answer and between its pieces. What keeps a
    connection alive while a model thinks, such as pings, is no silence."""

    retries: Annotated[Count, Field(le=20)] = RETRIES
    """How often a request is repeated after what may pass: rate limits, overload, connections that
    fail or break off, silence. With growing pauses, or those that the provider asks for."""

    stream: bool = True
    """Have answers come in pieces."""

    params: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `litellm.completion`: temperature, max_tokens, reasoning_effort. Never a
    key: those are in the environment."""

    check: bool = False
    """With `replay:RUN`: results are compared with the recorded ones, and the first that differs
    ends the run as failed."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        kind, _, rest = name.partition(":")
        if kind in _LOCAL and not rest.strip():
            raise PydanticCustomError(
                "unknown_model",
                "{name} names nothing; write scripted:steps.yaml or replay:RUN",
                {"name": repr(name)},
            )
        return name.strip()

    @model_validator(mode="after")
    def _for_providers(self) -> ModelChoice:
        if self.provided:
            check_params(self.params)
            return self
        for field in USUAL:
            if field in self.model_fields_set:
                raise ValueError(f"{field} is for providers' models; remove it")
        return self

    @property
    def provided(self) -> bool:
        """Whether a provider runs it."""
        return self.name.partition(":")[0] not in _LOCAL

    @model_validator(mode="after")
    def _something_to_check(self) -> ModelChoice:
        if self.check and self.replayed is None:
            raise ValueError(
                f"{self.name!r} has no recorded results to check against; write replay:RUN"
            )
        return self

    @property
    def replayed(self) -> str | None:
        """RUN of `replay:RUN`."""
        kind, _, rest = self.name.partition(":")
        return rest.strip() if kind == "replay" else None

    @property
    def steps(self) -> Path:
        """The file of a scripted model."""
        return Path(self.name.partition(":")[2].strip())


class ToolEntry(Strict):
    """One entry of `tools`: a built-in name, or `module:function`, and its options."""

    name: str
    """`shell`, `files`, or `package.module:function`."""

    timeout: Annotated[Duration, Field(gt=0)] | None = None
    """Wall time of one call of this tool; instead of sandbox.limits.timeout."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, entry: Any) -> Any:
        if isinstance(entry, str):
            return {"name": entry}
        if not isinstance(entry, Mapping) or "name" in entry:
            return entry
        if len(entry) != 1:
            raise ValueError("an entry is one tool; write `- shell` or `- shell: {timeout: 60s}`")
        ((name, options),) = entry.items()
        if name in ("mcp", "python") or options is None:
            return {"name": name}
        if not isinstance(options, Mapping):
            raise ValueError(f"the options of {name} are a mapping; write {{timeout: 60s}}")
        return {**options, "name": name}

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name == "mcp":
            raise not_enforced("MCP servers (tools: mcp)")
        if name == "python":
            raise not_enforced("the python tool", "remove it, or use shell")
        if name not in BUILT_IN_TOOLS and not _FUNCTION.fullmatch(name):
            raise PydanticCustomError(
                "unknown_tool",
                "{name} is not a tool; write {known}, or package.module:function",
                {"name": repr(name), "known": ", ".join(BUILT_IN_TOOLS)},
            )
        return name


ToolField = Annotated[
    ToolEntry,
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

ModelField = Annotated[
    ModelChoice,
    BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1},
                        "check": {"type": "boolean"},
                        "api_base": {"type": "string", "pattern": "^https?://."},
                        "timeout": {"type": ["number", "string"]},
                        "retries": {"type": "integer", "minimum": 0, "maximum": 20},
                        "stream": {"type": "boolean"},
                        "params": {"type": "object"},
                    },
                },
            ],
        }
    ),
]


class Workspace(Strict):
    """The folder that the agent works in."""

    path: PolicyPath = Path(".")
    """It appears inside the sandbox at the same path."""

    mode: Literal["direct"] = "direct"
    """`direct`: what the tools write is written there at once."""

    @field_validator("mode", mode="before")
    @classmethod
    def _no_overlay(cls, value: Any) -> Any:
        if value == "overlay":
            raise not_enforced("staged changes (workspace.mode: overlay)", "write mode: direct")
        return value


class Interrupt(Strict):
    """How long a stop may take: at most grace + term, and a moment, until all is gone."""

    grace: Annotated[Duration, Field(le=3600)] = 2.0
    """From the flag (SIGINT for a shell command) to SIGTERM."""

    term: Annotated[Duration, Field(le=3600)] = 1.0
    """From SIGTERM to SIGKILL."""


class Budgets(Strict):
    """When to end a run that goes on and on.

    `turns`, `tokens` and `cost_usd` are looked at before each request to the model: the answer that
    crosses one of them is the last, and the calls that it asks for are still made.
    """

    turns: Annotated[Count, Field(ge=1)] | None = 40
    """Answers of the model; null for no limit."""

    time: Annotated[Duration, Field(gt=0)] | None = None
    """Wall time of a run; null for no limit."""

    tokens: Annotated[Count, Field(ge=1)] | None = None
    """Tokens that the model reads and writes, all requests of a run together, as its provider
    counts them; one that does not count ends the run as an error. A scripted model spends none."""

    cost_usd: Amount | None = None
    """US dollars that the model's answers cost. Of a model whose price is not known the first
    answer ends the run as an error."""

    repeats: Annotated[Count, Field(ge=2)] | None = REPEATS
    """How often in a row the model may ask for exactly the same calls and get exactly the same
    results; then the run has failed. null for no limit, as for a model that waits by asking again
    and again."""


class Output(Strict):
    """Where the record goes."""

    unenforced: ClassVar[Mapping[str, str]] = {"junit": "JUnit reports (output.junit)"}

    dir: PolicyPath | None = None
    """Folder of run folders. Default: ${XDG_STATE_HOME:-~/.local/state}/sandbox-agent."""


class Task(Strict):
    """A task: what to do, with which model and tools, within which walls."""

    unenforced: ClassVar[Mapping[str, str]] = {"approval": "approval of calls (approval)"}

    version: Literal[1]
    """Of this format."""

    name: Annotated[str, Field(pattern=NAME)] | None = None
    """Letters, digits, dots, dashes and underscores. Default: the name of the file."""

    prompt: Text | None = None
    """What the agent is told. `${name}` is what `--var name=value` gave; `$${` is a plain `${`."""

    prompt_file: PolicyPath | None = None
    """A file with the prompt, taken as it is. Instead of `prompt`."""

    model: ModelField
    """Which model answers."""

    workspace: Workspace = Workspace()
    """The folder that the agent works in."""

    tools: list[ToolField] = Field(
        default_factory=lambda: [ToolEntry(name=name) for name in BUILT_IN_TOOLS]
    )
    """What the model may call: `shell`, `files` (read_file, write_file, edit_file, list_files,
    find_files, search_files), and functions of installed modules or of the workspace's."""

    sandbox: Policy = Policy()
    """What the tools may see, change and use."""

    interrupt: Interrupt = Interrupt()
    """How long a stop may take."""

    budgets: Budgets = Budgets()
    """When to end a run that goes on and on."""

    parallel: Annotated[Count, Field(ge=1, le=64)] = 8
    """Calls at once."""

    verify: list[Text] = Field(default_factory=list)
    """Shell commands that run in the sandbox after the agent says it is done. All must succeed, or
    the run has failed."""

    output: Output = Output()
    """Where the record goes."""

    @field_validator("version", mode="before")
    @classmethod
    def _this_version(cls, value: Any) -> Any:
        if isinstance(value, bool) or value != 1:
            raise ValueError(f"version {value!r} is not known; write version: 1, or upgrade")
        return value

    @field_validator("tools")
    @classmethod
    def _each_once(cls, tools: list[ToolEntry]) -> list[ToolEntry]:
        names = [tool.name for tool in tools]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is listed twice; remove one of them")
        return tools

    @model_validator(mode="after")
    def _one_prompt(self) -> Task:
        if self.prompt is not None and self.prompt_file is not None:
            raise ValueError("prompt and prompt_file are both there; remove one of them")
        return self
