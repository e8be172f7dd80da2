"""What a conversation asks of a model. Each kind of model is a module of this package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken

from sandbox_agent.journal.history import Message
from sandbox_agent.journal.usage import TokenUsage

if TYPE_CHECKING:
    from sandbox_agent.config.settings import Interrupt
    from sandbox_agent.journal.recording import RecordedSegments
    from sandbox_agent.journal.state import RunState


class ModelCall(msgspec.Struct, frozen=True):
    """A tool call that a model asks for.

    arguments: an object, or JSON text of one as providers send it. provider_state: as
    `ModelTurn.provider_state`.
    """

    name: str
    arguments: dict[str, Any] | str
    provider_state: dict[str, Any] = {}


class ModelTurn(msgspec.Struct, frozen=True):
    """A model's answer: text, or calls to be made, or both. final: it is done (without calls).

    reasoning: what it thought aloud, for the record. kept: what its provider wants to be given
    back with this turn, such as signed thinking; only a model of the same name gets it.
    usage: None where nothing was used up that anybody counts. finish: why it ended, in OpenAI's
    words; "" where nobody says. One that was cut off (`events.LENGTH`) is not final.
    """

    text: str
    calls: tuple[ModelCall, ...] = ()
    final: bool = False
    reasoning: str = ""
    provider_state: dict[str, Any] = {}
    usage: TokenUsage | None = None
    finish: str = ""


class DeltaKind(StrEnum):
    """Of what a piece of an answer is part. RESTART: the pieces so far are void, since the request
    is repeated."""

    TEXT = "text"
    REASONING = "reasoning"
    CALL = "call"
    RESTART = "restart"


class ModelDelta(msgspec.Struct, frozen=True):
    """A piece of an answer that is still coming. Of a call: its name, then its arguments' text."""

    kind: DeltaKind
    text: str


OnDelta = Callable[[ModelDelta], object]


class Model(ABC):
    """Something that goes on with a conversation. Only `name` and `complete` must be given."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As in `model:` of a task file."""

    @property
    def options(self) -> dict[str, Any]:
        """What else `model:` says, as JSON can hold it: the journal keeps it, and a resumed run
        makes the model anew from it. Never a secret."""
        return {}

    @property
    def recorded(self) -> RecordedSegments | None:
        """Of a model that repeats a recorded run: how that was divided. Else None."""
        return None

    @property
    def keys(self) -> tuple[str, ...]:
        """Environment variables that its key may be in: no tool is handed one of them."""
        return ()

    def start(self, interrupt: Interrupt) -> None:  # noqa: B027  (optional)
        """A run begins: get ready, without waiting.

        interrupt: how long a request that is told to stop may take, in this run.
        """

    def escalate(self) -> None:  # noqa: B027  (optional)
        """A second interrupt: what was told to stop gets no more time. From any thread and signal
        handlers."""

    @abstractmethod
    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        """The next turn: one answer, so that budgets are looked at before there is another. Its
        task is cancelled when the run is stopped.

        on_delta: called in the event loop with pieces of the answer as they come, if they do.
        Raises ModelError when there is no answer to be had (the run ends as `error`), AgentFailed
        when the agent cannot go on (it ends as `failed`).
        """

    def take_lost(self) -> TokenUsage | None:
        """What was used up since it was asked last, as far as is known, and is in no turn that it
        returned: the answer came when nobody wanted it any more. Told once."""
        return None

    def review(self, state: RunState) -> str:
        """See what came of its last answer: called when the calls of a turn have ended, and when
        `verify` has had its say. Raises AgentFailed when the agent cannot go on from there.

        Returns what the end of the run is to say of that, if this is the end.
        """
        return ""

    def user_messages(self, turn: int) -> tuple[str, ...]:
        """What a user says after that turn, or before the first for 0: nothing that a model could
        know, unless it repeats a conversation. For whoever speaks for the user; nobody else sends
        it."""
        return ()

    async def aclose(self) -> None:
        """Let go of what it holds. Nothing is asked of it afterwards."""
        return
