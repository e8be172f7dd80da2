"""What every waiting end does with its future."""

from __future__ import annotations

import asyncio


def resolve(future: asyncio.Future[None]) -> None:
    """End the wait for it, if that has not been done or given up."""
    if not future.done():
        future.set_result(None)
