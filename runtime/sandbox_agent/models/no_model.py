"""What stands where a conversation has its model, in a record without one."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken

from sandbox_agent.journal.history import Message
from sandbox_agent.models import Model, ModelTurn, OnDelta


class NoModel(Model):
    """It is never asked. name: what the record says instead of a model's name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """As it was given."""
        return self._name

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        raise NotImplementedError
