"""What a conversation asks of a model. Each kind of model is a module of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken

from sandbox_agent.history import Message


class ModelCall(msgspec.Struct, frozen=True):
    """A tool call that a model asks for.

    arguments: an object, or JSON text of one as providers send it.
    """

    name: str
    arguments: dict[str, Any] | str


class ModelTurn(msgspec.Struct, frozen=True):
    """A model's answer: text, or calls to be made, or both. final: it is done (without calls)."""

    text: str
    calls: tuple[ModelCall, ...] = ()
    final: bool = False


class Model(Protocol):
    """Something that goes on with a conversation."""

    @property
    def name(self) -> str:
        """As in `model:` of a task file."""
        ...

    async def complete(
        self, history: Sequence[Message], tools: Sequence[ToolSpec], token: CancelToken
    ) -> ModelTurn:
        """The next turn. Its task is cancelled when the run is stopped.

        Raises ModelError when there is no answer to be had (the run ends as `error`), AgentFailed
        when the agent cannot go on (it ends as `failed`).
        """
        ...

    async def aclose(self) -> None:
        """Let go of what it holds. Nothing is asked of it afterwards."""
        ...
