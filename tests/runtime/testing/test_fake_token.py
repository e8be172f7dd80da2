"""A tool's unit test decides when its token is cancelled."""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

import pytest
from sandbox_agent import Cancelled, CancelReason, CancelToken
from sandbox_agent.testing import FakeToken


def copy_all(items: list[int], token: CancelToken) -> list[int]:
    """A tool as users write them: it looks before each item."""
    done: list[int] = []
    for item in items:
        if token.is_cancelled:
            break
        done.append(item)
    return done


def test_it_is_cancelled_at_the_look_that_the_test_names() -> None:
    token = FakeToken(cancel_at_look=3)
    assert copy_all([1, 2, 3, 4, 5], token) == [1, 2]
    assert (token.looks, token.reason) == (3, CancelReason.INTERRUPT)
    assert copy_all([1], token) == []  # once cancelled, cancelled for ever


def test_without_a_look_it_is_never_cancelled_and_says_who_never_looked() -> None:
    token = FakeToken()
    assert token.looks == 0
    assert copy_all([1, 2], token) == [1, 2]
    assert (token.looks, token.reason, token.waits) == (2, None, ())


def test_the_test_cancels_it_with_a_reason_and_once() -> None:
    token = FakeToken(deadline=12.5)
    assert token.deadline == 12.5
    assert token.cancel(CancelReason.TIMEOUT)
    assert not token.cancel()
    assert token.reason is CancelReason.TIMEOUT
    with pytest.raises(Cancelled, match="timeout"):
        token.raise_if_cancelled()


def test_waits_take_no_time_where_the_look_is_named() -> None:
    token = FakeToken(cancel_at_look=3, reason=CancelReason.BUDGET)
    begun = time.monotonic()
    assert [token.wait(600), token.wait(1200), token.wait(2400)] == [False, False, True]
    assert time.monotonic() - begun < 60
    assert token.waits == (600, 1200, 2400)
    assert token.reason is CancelReason.BUDGET


@pytest.mark.parametrize("limit", [None, float("inf")])
def test_a_wait_without_a_limit_ends_with_the_cancellation(limit: float | None) -> None:
    token = FakeToken(cancel_at_look=100)
    assert token.wait(limit)
    assert token.is_cancelled


def test_a_real_wait_wakes_when_another_thread_cancels() -> None:
    token = FakeToken()
    woken = threading.Event()
    thread = threading.Thread(target=lambda: (token.wait(60), woken.set()))
    thread.start()
    assert token.wait(0) is False
    token.cancel()
    assert woken.wait(20)
    thread.join()


def test_many_threads_look_and_no_look_is_lost() -> None:
    token = FakeToken(cancel_at_look=4001)
    threads = [
        threading.Thread(target=lambda: [token.is_cancelled for _ in range(1000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert token.reason is None
    assert token.is_cancelled


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "3"])
def test_a_look_that_is_no_number_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        FakeToken(cancel_at_look=wrong)


def test_no_time_and_a_wrong_reason_are_refused_and_a_copy_too() -> None:
    with pytest.raises(ValueError, match="NaN"):
        FakeToken().wait(float("nan"))
    with pytest.raises(ValueError):
        FakeToken().cancel("because")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pickled or copied"):
        pickle.dumps(FakeToken())
