"""What a model is told before anything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def system_prompt(workspace: Path, tools: Sequence[str]) -> str:
    """The default one. The same for the same arguments, so that providers can cache it."""
    raise NotImplementedError
