"""A provider of models on this machine, for one test: real HTTP, answers from a script."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

from provider.requests import Request, Requests
from provider.script import Answer, By, Script
from provider.server import Choose, Server


class Stub:
    """`with Stub([Answer(...)]) as stub:` serves both providers in a thread of this process.

    script: answers in their order, a Script, or a callable from request to answer, which is called
    in the server's thread. validate: refuse what the providers would refuse, and note it in
    `violations`. keep: the requests' bodies, of which long conversations make gigabytes. port: 0
    for a free one.
    """

    def __init__(
        self,
        script: Script | Sequence[Answer] | Answer | Callable[[Request], Answer] = (),
        *,
        validate: bool = True,
        keep: bool = True,
        port: int = 0,
    ) -> None:
        self._log = Requests()
        self._server = Server(chooser(script), self._log, validate=validate, keep=keep)
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="provider-stub", daemon=True)

    def __enter__(self) -> Stub:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if error is None and self._server.failures:
            raise self._server.failures[0]

    def close(self) -> None:
        """Break off what is going on, and serve no more: a provider that is gone. Idempotent."""
        assert self._loop is not None
        if self._thread.is_alive():
            with suppress(RuntimeError):  # its loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told by __enter__
            self._error = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._port = await self._server.start(self._port)
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            await self._server.stop()

    # --- addresses ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def openai_base(self) -> str:
        """For litellm's `api_base`."""
        return f"{self.address}/v1"

    @property
    def anthropic_base(self) -> str:
        """For litellm's `api_base`, which adds the rest of the path itself."""
        return self.address

    # --- what was asked ------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[Request, ...]:
        return tuple(self._log.all)

    @property
    def violations(self) -> list[str]:
        """Rules of the providers that requests broke."""
        return self._log.violations

    @property
    def strays(self) -> list[str]:
        """Paths asked for that no provider has."""
        return self._log.strays

    def wait_requests(self, count: int, timeout: float = 60) -> tuple[Request, ...]:
        """Until so many requests have come. Seconds; raises TimeoutError, as all of these do."""
        self._log.wait(lambda: len(self._log.all) >= count, timeout, f"{count} requests")
        return self.requests

    def wait_events(self, number: int, count: int, timeout: float = 60) -> None:
        """Until so many pieces of an answer have been written."""
        self._await(number, lambda one: one.events >= count, timeout, f"{count} pieces written")

    def wait_answered(self, number: int, timeout: float = 10) -> float:
        """Until an answer has been written. Returns when, in CLOCK_MONOTONIC seconds."""
        self._await(number, lambda one: one.answered is not None, timeout, "its end")
        return self._log.all[number].answered or 0.0

    def wait_closed(self, number: int, timeout: float = 10) -> float:
        """Until the client has let go of a connection before it was answered. Returns when."""
        self._await(number, lambda one: one.closed is not None, timeout, "the client go")
        return self._log.all[number].closed or 0.0

    def _await(
        self, number: int, ready: Callable[[Request], bool], timeout: float, what: str
    ) -> None:
        log = self._log
        log.wait(
            lambda: len(log.all) > number and ready(log.all[number]),
            timeout,
            f"{what} of request {number}",
        )

    # --- what goes on ----------------------------------------------------------------------------

    def open(self, number: int | None = None) -> None:
        """Let the answer to this request go on from its `hold_at`; None: all, now and later."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._server.gates.open, number)


def chooser(
    script: Script | Sequence[Answer] | Answer | Callable[[Request], Answer],
) -> Choose:
    """What gives each request its answer."""
    if callable(script):
        return script
    if isinstance(script, Answer):
        script = (script,)
    whole = script if isinstance(script, Script) else Script(tuple(script))
    return lambda one: whole.answer(one.number if whole.by is By.REQUEST else one.turn)
