"""The settings of a conversation as plain data: the one place of their defaults.

`settings.Settings` has the same fields, and checks what people write. A run reads either of them. A
command whose settings nobody has written runs with these, and does not pay for pydantic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
from sandbox_agent_sandbox.policy.fields.plain import POLICY, PlainPolicy


class PlainWorkspace(msgspec.Struct, frozen=True):
    """See `settings.Workspace`."""

    path: Path = Path(".")
    mode: Literal["direct"] = "direct"
    allow_home: bool = False


class PlainTool(msgspec.Struct, frozen=True):
    """See `settings.ToolChoice`."""

    tool: Any
    timeout: float | None = None


MAX_PERIOD = 3600.0
"""The longest grace and term periods, in seconds."""


class PlainInterrupt(msgspec.Struct, frozen=True):
    """See `settings.Interrupt`. Seconds."""

    grace: float = 2.0
    term: float = 1.0


class PlainBudgets(msgspec.Struct, frozen=True):
    """See `settings.Budgets`. None for no limit."""

    turns: int | None = None
    time: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    repeats: int | None = 5


class PlainSettings(msgspec.Struct, frozen=True):
    """See `settings.Settings`."""

    workspace: PlainWorkspace = PlainWorkspace()
    tools: list[PlainTool] = []
    instructions: str | None = None
    agents_md: bool = True
    sandbox: PlainPolicy = POLICY
    interrupt: PlainInterrupt = PlainInterrupt()
    budgets: PlainBudgets = PlainBudgets()
    parallel: int = 8
    spares: int = 2
    verify: list[str] = []


SETTINGS = PlainSettings()
"""The default settings."""


def plain_record(settings: PlainSettings) -> dict[str, Any]:
    """The settings as a journal keeps them: what `settings.as_record` gives for the same ones."""
    record: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=str)
    return record
