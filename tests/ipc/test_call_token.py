"""The token that a tool holds: a word that only the host changes, and a pipe that wakes."""

from __future__ import annotations

import copy
import os
import pickle
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sandbox_agent_ipc.board import Board, Slot
from sandbox_agent_ipc.board_view import BoardView
from sandbox_agent_ipc.token import CallToken, Cancelled, CancelReason, CancelToken, RunToken

DEADLINE = 20.0


@dataclass
class Call:
    """Both ends of one call, as host and worker have them."""

    slot: Slot
    token: CallToken
    wake: int

    def cancel(self, reason: CancelReason = CancelReason.INTERRUPT) -> None:
        self.slot.cancel(reason)
        os.write(self.wake, b"!")


@pytest.fixture
def call() -> Iterator[Call]:
    board = Board()
    reader, writer = os.pipe()
    slot = board.claim("call", 0)
    one = Call(slot, BoardView(board.fd).token(slot.index, slot.word, reader), writer)
    yield one
    del one.token  # with it goes the mapping, which holds a descriptor
    board.close()
    os.close(reader)
    os.close(writer)


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def test_wait_wakes_at_the_cancellation_without_polling(call: Call) -> None:
    waits = threading.Event()
    answers: list[bool] = []
    switches: list[int] = []

    def wait() -> None:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        waits.set()
        answers.append(call.token.wait())
        switches.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(DEADLINE)
    thread.join(0.3)  # time in which a polling wait would go to sleep again and again
    assert thread.is_alive()
    call.cancel()
    thread.join(DEADLINE)
    assert answers == [True]
    assert switches[0] < 10


def test_many_threads_and_late_waiters_all_wake(call: Call) -> None:
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(call.token.wait(DEADLINE)))
        for _ in range(20)
    ]
    for thread in threads[:10]:
        thread.start()
    call.cancel()
    for thread in threads[10:]:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == [True] * 20
    assert call.token.wait() and call.token.wait(0)


def test_wait_returns_false_when_the_time_is_up(call: Call) -> None:
    begin = time.monotonic()
    assert call.token.wait(0.05) is False
    assert 0.05 <= time.monotonic() - begin < DEADLINE
    assert call.token.wait(0) is False
    assert call.token.wait(-1) is False


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 10**9])
def test_enormous_timeouts_are_waits_like_any_other(call: Call, timeout: float) -> None:
    timer = threading.Timer(0.05, call.cancel)
    timer.start()
    assert call.token.wait(timeout)
    timer.join()


def test_nan_is_no_timeout(call: Call) -> None:
    with pytest.raises(ValueError, match="NaN"):
        call.token.wait(float("nan"))


def test_a_flag_without_a_wake_up_is_seen_by_whoever_looks(call: Call) -> None:
    call.slot.cancel(CancelReason.TIMEOUT)
    assert call.token.is_cancelled and call.token.wait()


@pytest.mark.parametrize("how", ["host gone", "stray byte", "closed by the tool"])
def test_a_lost_wake_up_burns_no_processor_and_the_flag_still_decides(how: str) -> None:
    board = Board()
    reader, writer = os.pipe()
    slot = board.claim("call", 0)
    token = BoardView(board.fd).token(slot.index, slot.word, reader)
    if how == "host gone":
        os.close(writer)
    elif how == "stray byte":
        os.write(writer, b"!")
    else:
        os.close(reader)
    before = processor_seconds()
    assert token.wait(0.4) is False
    assert processor_seconds() - before < 0.2
    timer = threading.Timer(0.05, slot.cancel, [CancelReason.CLOSED])
    timer.start()
    assert token.wait(DEADLINE) is True
    timer.join()
    board.close()
    for fd in {"host gone": [reader], "stray byte": [reader, writer]}.get(how, [writer]):
        os.close(fd)


def test_a_waiting_child_process_is_woken_by_the_host(
    call: Call, forked: Callable[[Callable[[], object]], Any]
) -> None:
    timer = threading.Timer(0.1, call.cancel, [CancelReason.BUDGET])
    timer.start()
    assert forked(lambda: call.token.wait(DEADLINE) and call.token.reason).answer == "budget"
    timer.join()


def test_a_signal_handler_that_raises_ends_the_wait(call: Call) -> None:
    class Terminated(Exception):
        pass

    def handler(*_: object) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGUSR1, handler)
    timer = threading.Timer(
        0.05, signal.pthread_kill, [threading.main_thread().ident, signal.SIGUSR1]
    )
    timer.start()
    try:
        with pytest.raises(Terminated):
            call.token.wait(DEADLINE)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, previous)


def test_the_deadline_is_told_in_monotonic_seconds() -> None:
    board = Board()
    slot = board.claim("call", 1_500_000_000)
    token = BoardView(board.fd).token(slot.index, slot.word, 0)
    assert token.deadline == 1.5
    slot.shift_deadline(0.25)
    assert token.deadline == 1.75
    without = board.claim("without", 0)
    without.shift_deadline(0.25)
    assert BoardView(board.fd).token(without.index, without.word, 0).deadline is None
    slot.release(True)
    slot.shift_deadline(1)  # nothing: another call may have the slot
    assert token.deadline == 1.75
    board.close()


def test_raise_if_cancelled_raises_past_except_exception(call: Call) -> None:
    call.token.raise_if_cancelled()
    call.cancel(CancelReason.TIMEOUT)

    def tool() -> None:
        try:
            call.token.raise_if_cancelled()
        except Exception:
            pytest.fail("swallowed")

    with pytest.raises(Cancelled, match="timeout") as caught:
        tool()
    assert caught.value.reason is CancelReason.TIMEOUT
    assert not isinstance(caught.value, Exception)
    assert pickle.loads(pickle.dumps(caught.value)).reason is CancelReason.TIMEOUT


def tokens(call: Call) -> list[CancelToken]:
    return [call.token, RunToken()]


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_tokens_are_not_copied_or_pickled(call: Call, copier: Callable[[object], object]) -> None:
    for token in tokens(call):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            copier(token)
        assert "not cancelled" in repr(token)
