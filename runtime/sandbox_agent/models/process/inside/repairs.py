"""Repairs of litellm and the library below it, which give up on answers that can be used.

Each does nothing for a version of the library that it does not know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

_MARK = "is_repaired"


def repair() -> None:
    """Applies all repairs, once."""
    with suppress(ImportError, KeyError):
        _skip_empty_events()
    with suppress(ImportError, KeyError):
        _keep_deep_arguments()


def _skip_empty_events() -> None:
    """An event whose data is empty is a keep-alive. The openai library reads it as JSON, and fails.

    Source: `openai/_streaming.py`, https://github.com/openai/openai-python.
    """
    from openai import AsyncStream

    usual: Any = vars(AsyncStream)["_iter_events"]
    if hasattr(usual, _MARK):
        return

    async def iterate(self: Any) -> AsyncIterator[Any]:
        async with aclosing(usual(self)) as events:
            async for event in events:
                if event.data.strip():
                    yield event

    setattr(iterate, _MARK, True)
    AsyncStream._iter_events = iterate  # type: ignore[method-assign]


def _keep_deep_arguments() -> None:
    """litellm reads the arguments of calls to repair calls of one kind. Arguments that are nested
    too deeply for that are an error of the call, which the model is told.

    Source: `litellm/litellm_core_utils/llm_response_utils/convert_dict_to_response.py`.
    """
    from litellm.litellm_core_utils.llm_response_utils import convert_dict_to_response as module

    usual: Any = vars(module)["_handle_invalid_parallel_tool_calls"]
    if hasattr(usual, _MARK):
        return

    def handle(tool_calls: Any) -> Any:
        try:
            return usual(tool_calls)
        except RecursionError:
            return None  # the calls stay as they are

    setattr(handle, _MARK, True)
    vars(module)["_handle_invalid_parallel_tool_calls"] = handle
