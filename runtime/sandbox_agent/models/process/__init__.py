"""The model process: a sandboxed process that holds the keys and asks providers."""
