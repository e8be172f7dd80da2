"""The interface between a conversation and a model. Each kind of model is a module of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken
from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal.history import Message
from sandbox_agent.journal.usage import TokenUsage

if TYPE_CHECKING:
    from sandbox_agent.config.settings import Interrupt
    from sandbox_agent.journal.recording import RecordedSegments
    from sandbox_agent.journal.state import RunState


class ModelCall(msgspec.Struct, frozen=True):
    """A tool call that a model requests.

    arguments: an object, or its JSON text as providers send it. provider_state: see `ModelTurn`.
    """

    name: str
    arguments: dict[str, Any] | str
    provider_state: dict[str, Any] = {}


class ModelTurn(msgspec.Struct, frozen=True):
    """A model's answer: text, calls, or both. final: the model is done (then it has no calls).

        reasoning: the model's visible reasoning, for the record. provider_state: what its provider
    wants back with this turn, such as signed thinking; only a model of the same name gets it.
    usage: None if nothing was counted. finish_reason: in OpenAI's terms where they fit; "" if there
    is none. finish_word: the provider's own word for it. An answer that was cut off, refused or
    paused (`events.LENGTH`, `REFUSED`, `PAUSED`) is not final.
    """

    text: str
    calls: tuple[ModelCall, ...] = ()
    final: bool = False
    reasoning: str = ""
    provider_state: dict[str, Any] = {}
    usage: TokenUsage | None = None
    finish_reason: str = ""
    finish_word: str = ""


class DeltaKind(StrEnum):
    """The kind of a piece of an answer. RESTART: the pieces so far are void, because the request is
    repeated."""

    TEXT = "text"
    REASONING = "reasoning"
    CALL = "call"
    RESTART = "restart"


class ModelDelta(msgspec.Struct, frozen=True):
    """A piece of an answer that is arriving. Of a call: its name, then the text of its
    arguments."""

    kind: DeltaKind
    text: str


OnDelta = Callable[[ModelDelta], object]

STOPPED = frozenset({Outcome.CANCELLED, Outcome.KILLED, Outcome.SKIPPED, Outcome.UNKNOWN})
"""Outcomes of calls that were stopped from outside. A script or a recording cannot foresee them."""


class Model(ABC):
    """Continues a conversation. A subclass must define `name` and `complete`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name, written as in `model:` of a task file."""

    @property
    def options(self) -> dict[str, Any]:
        """The other settings of `model:`, as JSON can hold them. The journal keeps them, and a
        resumed run makes the model from them. Never a secret."""
        return {}

    @property
    def recorded(self) -> RecordedSegments | None:
        """The segments of the recorded run that this model replays; None for other models."""
        return None

    @property
    def keys(self) -> tuple[str, ...]:
        """Environment variables that may hold its key. They are never passed to tools."""
        return ()

    def start(self, interrupt: Interrupt) -> None:  # noqa: B027  (optional)
        """A run begins. Prepares for requests without blocking.

        interrupt: the grace and term periods of a request that is cancelled in this run.
        """

    def instruct(self, text: str) -> None:  # noqa: B027  (optional)
        """What the model is told in this run beside its own system prompt: the instructions of the
        task, and AGENTS.md of the workspace; "" for nothing. Called before the first request of
        each run."""

    def escalate(self) -> None:  # noqa: B027  (optional)
        """A second interrupt: a cancelled request gets no more grace. May be called from any thread
        and from signal handlers."""

    @abstractmethod
    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        """The next turn: one answer, so that budgets are checked before the next one. The task is
        cancelled when the run is stopped.

        on_delta: called in the event loop with pieces of the answer as they arrive, if it streams.
        Raises ModelError if there is no answer (the run ends as `error`), and AgentFailed if the
        agent cannot continue (the run ends as `failed`).
        """

    def take_lost(self) -> TokenUsage | None:
        """The usage of an answer that came after its request was cancelled, so that no turn has it.
        Returned once; None if there is none."""
        return None

    def review(self, state: RunState) -> str:
        """Checks what came of the last answer. Called after the calls of a turn and after `verify`.
        Raises AgentFailed if the agent cannot continue.

        Returns text to append to the reason of the run's end, if the run ends here.
        """
        return ""

    def user_messages(self, turn: int) -> tuple[str, ...]:
        """What the user says after that turn, or before the first turn for 0. Only a model that
        replays a recorded run has any. The caller sends them; the conversation does not."""
        return ()

    async def aclose(self) -> None:
        """Releases what it holds. It is not used afterwards."""
        return
