"""What a conversation is made from, put together once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from sandbox_agent.config.settings import Budgets, Interrupt, budgets_from, interrupt_from
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal import folder as run_folder
from sandbox_agent.journal.events import Settings
from sandbox_agent.journal.recorder import OnEvent, Recorder
from sandbox_agent.models import Model, OnDelta
from sandbox_agent.run.call import OnOutput
from sandbox_agent.run.sandbox import ConversationSandbox, Walls, existing_folder, policy_from
from sandbox_agent.run.secrets import check_keys
from sandbox_agent.tools.registry import choose, setting_of

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.policy import Policy


class Options(TypedDict, total=False):
    """The options of a `Conversation` that may change when a run is resumed."""

    model: Model
    tools: Sequence[Any] | None
    workspace: Path | str
    sandbox: Policy | Mapping[str, Any] | None
    interrupt: Interrupt | tuple[float, float]
    budgets: Budgets | Mapping[str, Any]
    parallel: int
    verify: Sequence[str]
    durable: bool
    on_event: OnEvent | None
    on_output: OnOutput | None
    on_delta: OnDelta | None
    separate_output: bool


@dataclass(frozen=True)
class Setup:
    """What does not change between the runs of a conversation. durable: sync the journal to the
    disk once per turn, against power cuts."""

    model: Model
    host: ConversationSandbox
    recorder: Recorder
    budgets: Budgets
    parallel: int
    verify: tuple[str, ...]
    name: str | None
    on_output: OnOutput | None
    on_delta: OnDelta | None
    separate_output: bool
    durable: bool

    @property
    def settings(self) -> Settings:
        """As the journal keeps them."""
        return _settings(self.model, self.host, self.budgets, self.parallel, self.verify)


def make_setup(
    run_dir: Path,
    *,
    model: Model,
    tools: Sequence[Any] | None,
    workspace: Path | str,
    sandbox: Policy | Mapping[str, Any] | None,
    interrupt: Interrupt | tuple[float, float],
    budgets: Budgets | Mapping[str, Any],
    parallel: int,
    verify: Sequence[str],
    name: str | None,
    durable: bool,
    on_event: OnEvent | None,
    on_output: OnOutput | None,
    on_delta: OnDelta | None,
    separate_output: bool,
) -> Setup:
    """A conversation's setup, from options as `Conversation` describes them. Starts and writes
    nothing. Raises ConfigError for what cannot be."""
    if not isinstance(model, Model):
        raise ConfigError(
            f"{model!r} is no model",
            field="model",
            hint="give a ProviderModel(NAME), load_script(FILE) or load_replay(FOLDER)",
        )
    if isinstance(verify, str) or not all(isinstance(command, str) for command in verify):
        raise ConfigError(
            f"{verify!r} is no list of commands", field="verify", hint="give a list of strings"
        )
    if not 1 <= parallel <= 64:
        raise ConfigError(
            f"{parallel} calls at once", field="parallel", hint="give a number from 1 to 64"
        )
    folder = existing_folder(workspace)
    walls = Walls(
        policy=policy_from(sandbox),
        workspace=folder,
        hidden=tuple(run_folder.hidden_from_tools(run_dir, run_dir.parent, folder)),
        interrupt=interrupt_from(interrupt),
    )
    check_keys(walls.policy.env, model, os.environ)
    host = ConversationSandbox(walls, choose(tools))
    bounds = budgets_from(budgets)
    settings = _settings(model, host, bounds, parallel, tuple(verify))
    _refuse_other_bytes(settings)
    return Setup(
        model=model,
        host=host,
        recorder=Recorder(run_dir, name, on_event, settings),
        budgets=bounds,
        parallel=parallel,
        verify=tuple(verify),
        name=name,
        on_output=on_output,
        on_delta=on_delta,
        separate_output=separate_output,
        durable=durable,
    )


def _refuse_other_bytes(settings: Settings) -> None:
    """The journal is UTF-8, and a file that is named otherwise could not be named in it."""
    try:
        msgspec.json.encode(settings)
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{os.fsencode(str(error.object))!r} is not UTF-8, and the journal is",
            hint="rename it, or name another",
        ) from None


def _settings(
    model: Model,
    host: ConversationSandbox,
    budgets: Budgets,
    parallel: int,
    verify: tuple[str, ...],
) -> Settings:
    walls = host.walls
    return Settings(
        model=model.name,
        workspace=str(walls.workspace),
        choices=tuple(setting_of(choice) for choice in host.choices),
        policy=walls.policy.model_dump(mode="json", by_alias=True),
        grace=walls.interrupt.grace,
        term=walls.interrupt.term,
        parallel=parallel,
        verify=verify,
        model_options=model.options,
        **msgspec.structs.asdict(budgets),
    )
