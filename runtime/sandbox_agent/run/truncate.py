"""Cuts the content of a call to the length that a model gets."""

from __future__ import annotations

from sandbox_agent_sandbox.capture import MODEL_BYTES as MODEL_BYTES
from sandbox_agent_sandbox.capture import join


def cut(data: bytes, limit: int = MODEL_BYTES) -> bytes:
    """`data`, or its head and tail with a line between them if it is longer than `limit` bytes."""
    if len(data) <= limit:
        return data
    half = limit // 2
    return join(data[:half], data[len(data) - half :], len(data) - 2 * half)
