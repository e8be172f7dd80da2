"""What one attempt hears of its provider, in bytes, whichever of litellm's clients reads them.

Clients gather a body, or a line of a stream, for as long as it goes on, and litellm tells of
neither before it is whole. All of them, over aiohttp or not, read with `httpx.Response.aiter_raw`
and `aiter_bytes` in the end, as it came and decompressed: there each piece is seen when it comes.
Source: https://www.python-httpx.org/api/.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from sandbox_agent_ipc.model_messages import Piece

MOST = 8 * 2**20
"""Bytes, compressed or not, of an answer that comes whole, of an error, or of a stream between two
pieces of its answer. An answer has 1 MiB at most (`Ask.answer_limit`), and the longest way to write
it, each character as an escape, has six times as many. Some clients copy all that they have with
each piece that comes, so a larger bound would be paid for in processor time, too."""

_HEAD = 16 * 1024
"""Bytes of a body that are kept, for when it turns out to be no answer."""

_SIGN_OF_LIFE = 2.0
"""Seconds between two signs of life for the host, which takes long silence for a process that
hangs."""


_BREATH = 0.005
"""Seconds that a body which never pauses may keep the loop from everything else."""


class AnswerTooLarge(Exception):
    """More than `MOST` bytes came, and nothing of use was in them."""


class StreamLimits:
    """What is heard in one attempt. tell: gets a sign of life now and then while bytes come.

    head: how the body begins that was read last. is_too_much: `AnswerTooLarge` was raised;
    libraries wrap it, or make something else of it.
    """

    def __init__(self, tell: Callable[[Piece], None]) -> None:
        self.head = b""
        self.is_too_much = False
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._told = self._breath = self._loop.time()
        self._came = self._read = 0
        self._timer: asyncio.Timeout | None = None
        self._silence = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """What is read meanwhile, in this task and in those that it starts, is heard here."""
        mark = _hearing.set(self)
        try:
            yield
        finally:
            _hearing.reset(mark)

    @asynccontextmanager
    async def patience(self, silence: float) -> AsyncIterator[None]:
        """Raises TimeoutError inside when nothing at all was heard for that many seconds."""
        self._silence = silence
        try:
            async with asyncio.timeout(silence) as self._timer:
                yield
        finally:
            self._timer = None

    def begin(self) -> None:
        """Another body."""
        self.head = b""
        self.heed()

    def heed(self) -> None:
        """What has come so far was of use, and is no longer held by those who read it."""
        self._came = self._read = 0

    def came(self, data: bytes) -> None:
        """Some of it, as it was sent. A comment, a ping or blanks are signs of life too: a model
        may think for longer than anybody would wait for silence. Raises AnswerTooLarge."""
        self._came += len(data)
        self._bound(self._came)
        now = self._loop.time()
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(now + self._silence)
        if now - self._told > _SIGN_OF_LIFE:
            self._told = now
            self._tell(Piece("alive", ""))

    def read(self, data: bytes) -> None:
        """Some of it, decompressed. Raises AnswerTooLarge."""
        if len(self.head) < _HEAD:
            self.head += data[: _HEAD - len(self.head)]
        self._read += len(data)
        self._bound(self._read)

    async def breathe(self) -> None:
        """Let others have the loop, if it has been a while."""
        if self._loop.time() - self._breath > _BREATH:
            await asyncio.sleep(0)
            self._breath = self._loop.time()

    def _bound(self, count: int) -> None:
        if count > MOST:
            self.is_too_much = True
            raise AnswerTooLarge


_hearing: ContextVar[StreamLimits] = ContextVar("hearing")


def listen() -> None:
    """Have every body be heard by who listens. Where httpx is another than is known, nothing."""
    with suppress(ImportError, KeyError):
        import httpx

        raw, decoded = (vars(httpx.Response)[name] for name in ("aiter_raw", "aiter_bytes"))
        if getattr(raw, "is_heard", False):
            return

        async def aiter_raw(
            self: httpx.Response, chunk_size: int | None = None
        ) -> AsyncIterator[bytes]:
            hearing = _hearing.get(None)
            if hearing is not None:
                hearing.begin()
            async with aclosing(raw(self, chunk_size)) as pieces:
                async for data in pieces:
                    if hearing is not None:
                        await _heard(self, hearing.came, data)
                        await hearing.breathe()
                    yield data

        async def aiter_bytes(
            self: httpx.Response, chunk_size: int | None = None
        ) -> AsyncIterator[bytes]:
            # What was read before is given again and again.
            hearing = None if self.is_stream_consumed else _hearing.get(None)
            async with aclosing(decoded(self, chunk_size)) as pieces:
                async for data in pieces:
                    if hearing is not None:
                        await _heard(self, hearing.read, data)
                    yield data

        vars(aiter_raw)["is_heard"] = True
        httpx.Response.aiter_raw = aiter_raw  # type: ignore[method-assign]
        httpx.Response.aiter_bytes = aiter_bytes  # type: ignore[method-assign]


async def _heard(response: Any, hear: Callable[[bytes], None], data: bytes) -> None:
    """Raises AnswerTooLarge, after it has closed the connection: the libraries that read an error's
    body leave it open."""
    try:
        hear(data)
    except AnswerTooLarge:
        await response.aclose()
        raise
