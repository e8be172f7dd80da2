"""A `LoneLoop` does for one coroutine what asyncio does, and the code above it cannot tell."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from sandbox_agent_ipc.aio import OutputReader
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.futures import (
    LoneCancelled,
    LoneLoop,
    call_soon,
    cancellation,
    cancelled_errors,
    is_future,
    resolve,
    running_loop,
    wait,
)
from sandbox_agent_ipc.token import RunToken

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def lone() -> Iterator[LoneLoop]:
    loop = LoneLoop()
    yield loop
    loop.close()


@pytest.fixture(params=["asyncio", "lone"])
def run(request: pytest.FixtureRequest, lone: LoneLoop) -> Run:
    return asyncio.run if request.param == "asyncio" else lone.run


def test_a_coroutine_gets_what_another_thread_says(run: Run) -> None:
    async def work() -> str:
        loop = running_loop()
        future: Any = loop.create_future()
        threading.Thread(target=call_soon, args=(loop, future.set_result, "done")).start()
        await wait([future])
        assert is_future(future)
        return str(await future)

    assert run(work()) == "done"


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_what_was_begun_is_gone_on_with(lone: LoneLoop, *, waits: bool, fails: bool) -> None:
    """A thread may answer it before anybody runs it."""
    seen: list[str] = []

    async def work() -> str:
        seen.append("begun")
        loop = running_loop()
        future: Any = loop.create_future()
        if waits:
            thread = threading.Thread(target=call_soon, args=(loop, future.set_result, None))
            thread.start()
            thread.join()
            await future
        seen.append("gone on")
        if fails:
            raise ValueError("of the work")
        return "done"

    begun = work()
    lone.begin(begun)
    assert seen == (["begun"] if waits else ["begun", "gone on"])
    with pytest.raises(RuntimeError):
        running_loop()  # the thread may do something else
    if fails:
        with pytest.raises(ValueError, match="of the work"):
            lone.run(begun)
    else:
        assert lone.run(begun) == "done"
    assert seen == ["begun", "gone on"]


def test_what_was_begun_is_stopped(lone: LoneLoop) -> None:
    stopped = []

    async def work() -> None:
        try:
            await running_loop().create_future()
        except LoneCancelled:
            stopped.append(True)
            raise

    begun = work()
    lone.begin(begun)
    with pytest.raises(LoneCancelled):
        lone.run(begun, lambda: True)
    assert stopped == [True]


def test_a_loop_is_closed_while_another_thread_calls_into_it() -> None:
    """Its descriptor must not be another one's while that thread writes to it."""
    wrong: list[BaseException] = []

    def call(loop: LoneLoop, up: threading.Event) -> None:
        try:
            while call_soon(loop, up.set):
                up.set()
        except BaseException as error:
            wrong.append(error)

    for _ in range(300):
        loop, up = LoneLoop(), threading.Event()
        thread = threading.Thread(target=call, args=(loop, up))
        thread.start()
        assert up.wait(20)
        loop.close()
        thread.join()
    assert wrong == []


def test_waiting_ends_with_the_first_with_all_or_with_the_time(run: Run) -> None:
    async def work() -> None:
        loop = running_loop()
        one, other = loop.create_future(), loop.create_future()
        loop.call_later(0.01, resolve, one)
        await wait([one, other], first=True)
        assert (one.done(), other.done()) == (True, False)
        before = time.monotonic()
        await wait([one, other], timeout=0.05)
        assert time.monotonic() - before >= 0.04
        assert not other.done()
        loop.call_soon(resolve, other)
        await wait([one, other])
        assert other.done()

    run(work())


def test_a_reader_gets_every_byte_and_the_end(run: Run) -> None:
    async def work() -> bytes:
        read, write = os.pipe()
        got: list[bytes] = []
        ended: Any = running_loop().create_future()
        reader = OutputReader(read, got.append, lambda error: resolve(ended))
        reader.start(running_loop())
        with subprocess.Popen(["seq", "50000"], stdout=write):
            os.close(write)
            await ended
        assert reader.closed
        return b"".join(got)

    assert run(work()) == b"".join(b"%d\n" % n for n in range(1, 50001))


def test_a_token_that_another_thread_cancels_wakes_it(run: Run) -> None:
    async def work() -> None:
        token = RunToken()
        with cancellation(token) as cancelled:
            threading.Thread(target=token.cancel, args=(CancelReason.INTERRUPT,)).start()
            await CancelShield().wait([cancelled])
        assert token.is_cancelled

    run(work())


def test_a_signal_handler_wakes_it(lone: LoneLoop) -> None:
    async def work() -> None:
        future: Any = running_loop().create_future()
        before = signal.signal(signal.SIGUSR1, lambda *_: call_soon(loop, resolve, future))
        loop = running_loop()
        try:
            timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGUSR1))
            timer.start()
            await future
        finally:
            signal.signal(signal.SIGUSR1, before)

    main = threading.get_ident()
    lone.run(work())


def test_stopped_it_raises_where_the_coroutine_waits_once(lone: LoneLoop) -> None:
    seen: list[str] = []
    stopped = threading.Event()

    async def work() -> str:
        loop = running_loop()
        call_soon(loop, stopped.set)
        future: Any = loop.create_future()
        try:
            await wait([future])
        except cancelled_errors() as error:
            seen.append(type(error).__name__)
        loop.call_later(0.01, resolve, future)
        await future  # `stop` still says True, and was heard
        return "cleaned up"

    assert lone.run(work(), stopped.is_set) == "cleaned up"
    assert seen == [LoneCancelled.__name__]


def test_ordinary_code_in_a_thread_gives_its_result_or_its_error(run: Run) -> None:
    def fails() -> None:
        raise ValueError("no")

    async def work() -> tuple[int, str]:
        loop = running_loop()
        number = await loop.run_in_executor(None, max, 1, 2)
        with pytest.raises(ValueError) as caught:
            await loop.run_in_executor(None, fails)
        return number, str(caught.value)

    assert run(work()) == (2, "no")


def test_a_callback_that_fails_is_said_and_ends_nothing(lone: LoneLoop) -> None:
    async def work() -> None:
        loop = running_loop()
        future: Any = loop.create_future()
        loop.call_soon(lambda: 1 / 0)
        loop.call_soon(resolve, future)
        await future

    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        lone.run(work())


def test_a_closed_loop_refuses_as_asyncios_does(lone: LoneLoop) -> None:
    lone.close()
    assert not call_soon(lone, resolve, lone.create_future())


def test_it_needs_no_asyncio() -> None:
    text = (
        "import sys\n"
        "from sandbox_agent_ipc import aio, cancel_shield, futures\n"
        "async def work():\n"
        "    await futures.wait([], timeout=0)\n"
        "loop = futures.LoneLoop()\n"
        "loop.run(work())\n"
        "futures.cancelled_errors()\n"
        "assert 'asyncio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
