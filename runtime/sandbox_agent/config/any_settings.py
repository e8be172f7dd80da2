"""What a run takes for its settings: what people wrote, or plain data. For type checkers."""

from __future__ import annotations

from sandbox_agent.config.plain import PlainBudgets, PlainInterrupt, PlainSettings
from sandbox_agent.config.settings import Budgets, Interrupt, Settings

AnySettings = Settings | PlainSettings
AnyInterrupt = Interrupt | PlainInterrupt
AnyBudgets = Budgets | PlainBudgets
