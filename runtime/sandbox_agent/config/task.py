"""What a task file says beside the settings of `settings`: these models are its documentation.

Relative paths in a file start at its folder. `task_file` reads the file; this module says what it
means. `sandbox-agent schema` prints the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError
from sandbox_agent_sandbox.policy.fields.types import Count, Duration, PolicyPath

from sandbox_agent.config.model_settings import RETRIES, TIMEOUT, USUAL, check_address, check_params
from sandbox_agent.config.settings import Budgets, ConfigModel, Settings, Text

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    check_address(value.strip())
    return value.strip()


LOCAL = ("scripted", "replay")
"""Kinds of models that no provider runs."""


class ModelChoice(ConfigModel):
    """Which model answers. As text: the name alone."""

    _prefix = ("model",)

    name: Text
    """As litellm names it (`openai/gpt-4o`, `anthropic/claude-sonnet-4-5`); its key is in the
    environment. `scripted:FILE`: a list of turns in a YAML file; it needs no key and no network.
    `replay:RUN`: the answers of a recorded run; RUN is an id, the beginning of one, a path, or
    `last`."""

    api_base: Annotated[str, BeforeValidator(_address)] | None = None
    """The address of another server with the provider's API, such as one of your own."""

    timeout: Annotated[Duration, Field(gt=0, le=86400)] = TIMEOUT
    """How long the provider may be silent, before an answer and between its pieces. Pings that
    keep a connection alive while a model thinks do not count as silence."""

    retries: Annotated[Count, Field(le=20)] = RETRIES
    """How often a request is repeated after a temporary failure: rate limits, overload, connections
    that fail or break off, silence. With exponential backoff, or with the pauses that the provider
    asks for."""

    stream: bool = True
    """Whether answers come in pieces."""

    params: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `litellm.completion`: temperature, max_tokens, reasoning_effort. No key:
    keys are in the environment."""

    check: bool = False
    """With `replay:RUN`: compares results with the recorded ones. The first that differs ends the
    run as failed."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        kind, _, rest = name.partition(":")
        if kind in LOCAL and not rest.strip():
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
        return self.name.partition(":")[0] not in LOCAL

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


class TaskBudgets(Budgets):
    __doc__ = Budgets.__doc__

    turns: Annotated[Count, Field(ge=1)] | None = 40


class Output(ConfigModel):
    """Where the record and the reports go."""

    dir: PolicyPath | None = None
    """Folder of run folders. Default: ${XDG_STATE_HOME:-~/.local/state}/sandbox-agent."""

    run_dir: PolicyPath | None = None
    """The folder of this run itself, for a CI job that keeps it as an artifact. It must not be
    there, or be empty. Instead of a folder in `dir`."""

    junit: PolicyPath | None = None
    """A JUnit XML file: a case for the run and one for each command of `verify`."""

    summary: PolicyPath | None = None
    """A Markdown file with what happened, for people."""

    codequality: PolicyPath | None = None
    """A Code Quality report of GitLab."""

    dotenv: PolicyPath | None = None
    """A file of variables for later jobs of GitLab: status, exit code, cost."""


class Task(Settings):
    """A task: what to do, with which model and tools, and in which sandbox."""

    unenforced: ClassVar[Mapping[str, str]] = {"approval": "approval of calls (approval)"}

    version: Literal[1]
    """Of this format."""

    name: Annotated[str, Field(pattern=NAME)] | None = None
    """Letters, digits, dots, dashes and underscores. Default: the name of the file."""

    prompt: Text | None = None
    """The first message to the agent. `${name}` stands for the value of `--var name=value`, and
    `$${` for a plain `${`."""

    prompt_file: PolicyPath | None = None
    """A file with the prompt, used as it is. Instead of `prompt`."""

    model: ModelField
    """Which model answers."""

    budgets: TaskBudgets = TaskBudgets()
    """Limits that end a run."""

    output: Output = Output()
    """Where the record goes."""

    @field_validator("version", mode="before")
    @classmethod
    def _this_version(cls, value: Any) -> Any:
        if isinstance(value, bool) or value != 1:
            raise ValueError(f"version {value!r} is not known; write version: 1, or upgrade")
        return value

    @model_validator(mode="after")
    def _one_prompt(self) -> Task:
        if self.prompt is not None and self.prompt_file is not None:
            raise ValueError("prompt and prompt_file are both there; remove one of them")
        return self
