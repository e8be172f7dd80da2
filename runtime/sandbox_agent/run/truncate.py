"""Cuts the content of a call to the length that a model gets."""

from __future__ import annotations

from sandbox_agent_sandbox.capture import join

MODEL_BYTES = 32 * 1024
"""A model gets at most this much of one call."""


def cut(data: bytes, limit: int = MODEL_BYTES) -> bytes:
    """`data`, or its head and tail with a line between them if it is longer than `limit` bytes."""
    if len(data) <= limit:
        return data
    half = limit // 2
    return join(data[:half], data[len(data) - half :], len(data) - 2 * half)
