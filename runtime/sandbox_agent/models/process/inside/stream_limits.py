"""Limits on what one attempt reads from its provider: bytes, silence, and time without a pause.

litellm's clients collect a body, or a line of a stream, until it is complete, and litellm passes on
neither before. All of them, over aiohttp or not, read through `httpx.Response.aiter_raw` (as sent)
and `aiter_bytes` (decompressed), so the limits are applied there, to each piece as it arrives.
Source: https://www.python-httpx.org/api/.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from sandbox_agent_ipc.model_messages import Piece

from .own_end import OwnEnd

READ_LIMIT = 8 * 2**20
"""Bytes, compressed or not, of an answer that is not streamed, of an error, or of a stream between
two pieces of its answer. An answer has 1 MiB at most (`Ask.answer_limit`); written with an escape
for each character it is six times as long. Some clients copy all that they hold with each new
piece, so a larger limit would cost processor time too."""

_HEAD = 16 * 1024
"""Bytes of a body that are kept for the error message, in case it is not an answer."""

ALIVE_INTERVAL = 2.0
"""Seconds between two "alive" pieces for the host, which treats long silence as a process that
hangs."""

_LONGEST_BLOCK = 0.005
"""Seconds that a body without pauses may block the event loop."""


class ReadLimitExceeded(Exception):
    """More than `READ_LIMIT` bytes came without progress."""


class StreamLimits:
    """The limits of one attempt. tell: gets an "alive" piece now and then while bytes arrive.

    head: the beginning of the last body. end: how that body says that its answer ended.
    exceeded: `ReadLimitExceeded` was raised; libraries wrap it or replace it by another exception.
    """

    def __init__(self, tell: Callable[[Piece], None]) -> None:
        self.head = b""
        self.end = OwnEnd()
        self.exceeded = False
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._alive_at = self._yielded_at = self._loop.time()
        self._raw = self._decoded = 0
        self._timer: asyncio.Timeout | None = None
        self._longest_silence = 0.0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Applies the limits to what this task, and the tasks that it starts, read meanwhile."""
        mark = _current.set(self)
        try:
            yield
        except BaseException:
            # Timers and connections that began meanwhile keep this context, and what it refers to.
            self.end = OwnEnd()
            raise
        finally:
            _current.reset(mark)

    @asynccontextmanager
    async def silence(self, longest: float) -> AsyncIterator[None]:
        """Raises TimeoutError inside when no byte has come for `longest` seconds."""
        self._longest_silence = longest
        try:
            async with asyncio.timeout(longest) as self._timer:
                yield
        finally:
            self._timer = None

    def new_body(self) -> None:
        """Another body begins."""
        self.head = b""
        self.end = OwnEnd()
        self.progress()

    def progress(self) -> None:
        """A piece of the answer is complete: its reader no longer holds the bytes so far."""
        self._raw = self._decoded = 0

    def on_raw(self, data: bytes) -> None:
        """Counts bytes as they were sent. A comment, a ping or blanks end the silence too: a model
        may think for longer than `silence` allows. Raises ReadLimitExceeded."""
        self._raw += len(data)
        self._check(self._raw)
        now = self._loop.time()
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(now + self._longest_silence)
        if now - self._alive_at > ALIVE_INTERVAL:
            self._alive_at = now
            self._tell(Piece("alive", ""))

    def on_decoded(self, data: bytes) -> None:
        """Counts decompressed bytes. Raises ReadLimitExceeded."""
        if len(self.head) < _HEAD:
            self.head += data[: _HEAD - len(self.head)]
        self._decoded += len(data)
        self._check(self._decoded)
        self.end.feed(data)

    async def yield_to_loop(self) -> None:
        """Lets other tasks run, if this one has not for `_LONGEST_BLOCK`."""
        if self._loop.time() - self._yielded_at > _LONGEST_BLOCK:
            await asyncio.sleep(0)
            self._yielded_at = self._loop.time()

    def _check(self, count: int) -> None:
        if count > READ_LIMIT:
            self.exceeded = True
            raise ReadLimitExceeded


_current: ContextVar[StreamLimits] = ContextVar("stream_limits")


def install_limits() -> None:
    """Makes httpx apply the current limits to every body. Does nothing for an unknown version."""
    with suppress(ImportError, KeyError):
        import httpx

        raw, decoded = (vars(httpx.Response)[name] for name in ("aiter_raw", "aiter_bytes"))
        if getattr(raw, "is_limited", False):
            return

        async def aiter_raw(
            self: httpx.Response, chunk_size: int | None = None
        ) -> AsyncIterator[bytes]:
            limits = _current.get(None)
            if limits is not None:
                limits.new_body()
            async with aclosing(raw(self, chunk_size)) as pieces:
                async for data in pieces:
                    if limits is not None:
                        await _checked(self, limits.on_raw, data)
                        await limits.yield_to_loop()
                    yield data

        async def aiter_bytes(
            self: httpx.Response, chunk_size: int | None = None
        ) -> AsyncIterator[bytes]:
            # A body that was read before is returned from memory.
            limits = None if self.is_stream_consumed else _current.get(None)
            async with aclosing(decoded(self, chunk_size)) as pieces:
                async for data in pieces:
                    if limits is not None:
                        await _checked(self, limits.on_decoded, data)
                    yield data

        vars(aiter_raw)["is_limited"] = True
        httpx.Response.aiter_raw = aiter_raw  # type: ignore[method-assign]
        httpx.Response.aiter_bytes = aiter_bytes  # type: ignore[method-assign]


async def _checked(response: Any, check: Callable[[bytes], None], data: bytes) -> None:
    """Raises ReadLimitExceeded after closing the connection: the libraries that read an error's
    body leave it open."""
    try:
        check(data)
    except ReadLimitExceeded:
        await response.aclose()
        raise
