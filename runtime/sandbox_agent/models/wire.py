"""Our history as providers read it: OpenAI's format, which litellm translates for the others."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_agent_ipc.messages import ToolSpec

from sandbox_agent.history import Message


class Wire:
    """Encodes for one model of one conversation; each message once.

    model: its name; what other models want kept is not sent to it. system: the system prompt.
    """

    def __init__(self, model: str, system: str) -> None:
        self._model = model
        self._system = system

    def messages(self, history: Sequence[Message]) -> bytes:
        """The JSON array of `messages`."""
        raise NotImplementedError

    def tools(self, specs: Sequence[ToolSpec]) -> bytes:
        """The JSON array of `tools`; b"" when there are none."""
        raise NotImplementedError
