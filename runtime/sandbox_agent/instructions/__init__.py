"""What a model is told beside its own system prompt: the user's instructions, and AGENTS.md."""
