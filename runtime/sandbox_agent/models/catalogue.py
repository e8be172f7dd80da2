"""What can be known of a model's name before litellm is imported."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_agent_ipc.model_messages import FailureKind


def problem_with(
    name: str, api_base: str | None, environ: Mapping[str, str]
) -> tuple[FailureKind, str, str] | None:
    """Why this model cannot answer here: kind, what is wrong, mend. None if nothing is known."""
    raise NotImplementedError


def context_window(name: str) -> int | None:
    """Tokens that the model can take in; None when it is not known."""
    raise NotImplementedError


def has_price(name: str) -> bool | None:
    """Whether its cost can be told; None when nothing is known of the model."""
    raise NotImplementedError
