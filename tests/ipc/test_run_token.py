"""The token that the host cancels: from any thread, from signal handlers, whatever they struck."""

from __future__ import annotations

import functools
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from sandbox_agent_ipc.token import Cancelled, CancelReason, RunToken

DEADLINE = 20.0
INTERRUPT = CancelReason.INTERRUPT
Handler = Callable[[int, FrameType | None], object]


@pytest.fixture
def on_signal() -> Iterator[Callable[[Handler], None]]:
    previous = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler) and None
    signal.signal(signal.SIGUSR1, previous)


def test_it_is_cancelled_once_and_for_ever() -> None:
    token = RunToken(deadline=12.5)
    assert not token.is_cancelled and token.reason is None and token.deadline == 12.5
    token.raise_if_cancelled()
    assert token.cancel(INTERRUPT) is True
    assert token.cancel(CancelReason.BUDGET) is False
    assert token.is_cancelled and token.reason is INTERRUPT and token.wait() and token.wait(0)
    with pytest.raises(Cancelled, match="interrupt"):
        token.raise_if_cancelled()


def test_wait_returns_false_when_the_time_is_up() -> None:
    token = RunToken()
    begin = time.monotonic()
    assert token.wait(0.05) is False
    assert time.monotonic() - begin >= 0.05
    assert token.wait(0) is False and token.wait(-3) is False
    assert not token._waiters


def test_one_of_many_threads_wins_and_its_reason_stays() -> None:
    for _ in range(50):
        token = RunToken()
        barrier = threading.Barrier(len(CancelReason))
        won: list[CancelReason] = []

        def cancel(
            reason: CancelReason,
            token: RunToken = token,
            barrier: threading.Barrier = barrier,
            won: list[CancelReason] = won,
        ) -> None:
            barrier.wait()
            if token.cancel(reason):
                won.append(reason)

        threads = [threading.Thread(target=cancel, args=[reason]) for reason in CancelReason]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [token.reason]


def test_every_waiter_wakes_however_it_raced_with_the_cancel() -> None:
    for _ in range(30):
        token = RunToken()
        answers: list[bool] = []

        def wait(token: RunToken = token, answers: list[bool] = answers) -> None:
            answers.append(token.wait())

        threads = [threading.Thread(target=wait) for _ in range(8)]
        for thread in threads[:6]:
            thread.start()
        token.cancel(INTERRUPT)
        for thread in threads[6:]:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert answers == [True] * 8
        assert not token._waiters


def test_a_signal_handler_may_cancel_what_it_interrupted_waiting(
    on_signal: Callable[[Handler], None],
) -> None:
    token = RunToken()
    on_signal(lambda *_: token.cancel(INTERRUPT))
    timer = threading.Timer(
        0.05, signal.pthread_kill, [threading.main_thread().ident, signal.SIGUSR1]
    )
    timer.start()
    assert token.wait(DEADLINE) is True
    timer.join()


@pytest.mark.parametrize("name", ["wait", "cancel", "add_callback"])
def test_a_signal_handler_may_cancel_at_every_step_of_everything(
    name: str, on_signal: Callable[[Handler], None], at_step: Callable[..., bool]
) -> None:
    for step in itertools.count(1):
        token = RunToken()
        ran: list[int] = []
        token.add_callback(lambda ran=ran: ran.append(1))
        won: list[CancelReason] = []

        def cancel(
            reason: CancelReason, token: RunToken = token, won: list[CancelReason] = won
        ) -> None:
            if token.cancel(reason):
                won.append(reason)

        on_signal(lambda *_, cancel=cancel: cancel(CancelReason.BUDGET))
        work: dict[str, Callable[[], object]] = {
            "wait": lambda token=token: token.wait(0.001),
            "cancel": lambda cancel=cancel: cancel(INTERRUPT),
            "add_callback": lambda token=token, ran=ran: token.add_callback(lambda: ran.append(2)),
        }
        strike = functools.partial(signal.raise_signal, signal.SIGUSR1)
        reached = at_step(step, "token.py", strike, work[name])
        cancel(CancelReason.CLOSED)
        assert won == [token.reason], step
        assert ran == ([1, 2] if name == "add_callback" else [1]), step
        assert token.is_cancelled and not token._waiters
        if not reached:
            break
    assert step > 20


def test_wakes_come_at_once_and_not_by_polling() -> None:
    token = RunToken()
    seen: list[float] = []
    ready = threading.Event()

    def wait() -> None:
        ready.set()
        token.wait()
        seen.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    assert ready.wait(DEADLINE)
    begin = time.monotonic()
    token.cancel(INTERRUPT)
    thread.join(DEADLINE)
    assert seen[0] - begin < 1


def test_callbacks_run_once_in_order_in_the_thread_that_cancels() -> None:
    token = RunToken()
    ran: list[tuple[int, int]] = []
    for n in range(5):
        token.add_callback(lambda n=n: ran.append((n, threading.get_ident())))
    thread = threading.Thread(target=token.cancel, args=[INTERRUPT])
    thread.start()
    ident = thread.ident
    thread.join()
    token.cancel(INTERRUPT)
    assert ran == [(n, ident) for n in range(5)]


def test_a_callback_added_after_the_cancel_runs_immediately() -> None:
    token = RunToken()
    token.cancel(INTERRUPT)
    ran: list[CancelReason | None] = []
    token.add_callback(lambda: ran.append(token.reason))
    assert ran == [INTERRUPT]


def test_a_callback_that_was_taken_back_does_not_run() -> None:
    token = RunToken()
    ran: list[str] = []
    remove = token.add_callback(lambda: ran.append("first"))
    keep = token.add_callback(lambda: ran.append("second"))
    remove()
    remove()
    token.cancel(INTERRUPT)
    keep()
    assert ran == ["second"]


def test_a_callback_that_an_earlier_one_takes_back_does_not_run() -> None:
    token = RunToken()
    ran: list[str] = []
    token.add_callback(lambda: remove())
    remove = token.add_callback(lambda: ran.append("second"))
    token.add_callback(lambda: ran.append("third"))
    token.cancel(INTERRUPT)
    assert ran == ["third"]


@pytest.mark.parametrize("error", [RuntimeError, IndexError, KeyError])
def test_a_failing_callback_is_reported_and_stops_nobody(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = RunToken()
    ran: list[int] = []
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: reported.append(kind))

    def fail() -> None:
        raise error

    for n in range(3):
        token.add_callback(fail)
        token.add_callback(lambda n=n: ran.append(n))
    assert token.cancel(INTERRUPT)
    assert ran == [0, 1, 2] and reported == [error] * 3


def test_a_callback_that_is_interrupted_lets_the_others_run_and_the_waiters_wake() -> None:
    token = RunToken()
    ran: list[int] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    token.add_callback(interrupted)
    token.add_callback(lambda: ran.append(1))
    waiter = threading.Thread(target=token.wait)
    waiter.start()
    with pytest.raises(KeyboardInterrupt):
        token.cancel(INTERRUPT)
    waiter.join(DEADLINE)
    assert ran == [1] and not waiter.is_alive()


def test_a_callback_that_a_signal_handler_struck_is_called_once_more() -> None:
    """Else what it was to tell would never be: a call that is told of no interrupt goes on."""
    token, ran = RunToken(), list[str]()
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)

    def tells() -> None:
        if not ran:
            ran.append("struck")
            signal.raise_signal(signal.SIGUSR1)
        ran.append("told")

    token.add_callback(tells)
    token.add_callback(lambda: ran.append("other"))
    try:
        with pytest.raises(KeyboardInterrupt):
            token.cancel(INTERRUPT)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ran == ["struck", "told", "other"]


def test_an_exception_at_any_step_of_a_cancellation_loses_no_callback_and_no_waiter(
    at_step: Callable[..., bool],
) -> None:
    """As a signal handler raises one: what was not told of the cancellation would go on."""

    def strike() -> None:
        raise KeyboardInterrupt

    for step in itertools.count(1):
        token, ran = RunToken(), set[int]()
        for n in range(3):
            token.add_callback(lambda n=n, ran=ran: ran.add(n))
        waiter = threading.Thread(target=token.wait)
        waiter.start()
        while not token._waiters:
            pass
        try:
            reached = at_step(step, "token.py", strike, lambda token=token: token.cancel(INTERRUPT))
        except KeyboardInterrupt:
            reached = True
        if not token.is_cancelled:  # it came before the cancellation, and the caller knows
            assert not ran, step
            token.cancel(INTERRUPT)
        waiter.join(DEADLINE)
        assert ran == {0, 1, 2} and not waiter.is_alive(), step
        if not reached:
            break
    assert step > 20


def test_callbacks_added_and_removed_by_threads_during_a_cancel_run_at_most_once() -> None:
    for _ in range(30):
        token = RunToken()
        ran: list[int] = []

        def add(base: int, token: RunToken = token, ran: list[int] = ran) -> None:
            for n in range(20):
                token.add_callback(lambda n=n: ran.append(base + n))

        threads = [threading.Thread(target=add, args=[base]) for base in (0, 100, 200)]
        for thread in threads:
            thread.start()
        token.cancel(INTERRUPT)
        for thread in threads:
            thread.join()
        assert sorted(ran) == sorted(base + n for base in (0, 100, 200) for n in range(20))
