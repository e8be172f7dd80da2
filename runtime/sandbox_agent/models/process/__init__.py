"""The process that asks providers, and the host's side of it."""
