"""What model providers accept as the history of a conversation, as functions that name what they
would refuse. Nothing here is used by the product."""

from provider.history_rules.anthropic import anthropic_problems
from provider.history_rules.openai import openai_problems
from provider.history_rules.ours import problems_of_history

__all__ = ["anthropic_problems", "openai_problems", "problems_of_history"]
