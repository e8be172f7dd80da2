"""Exactly one cause decides how a run ends, in any thread and any signal handler."""

from __future__ import annotations

import signal
import threading

from sandbox_agent.run.stop_decision import StopDecision
from sandbox_agent_ipc.cancel_reason import CancelReason


def test_the_first_stop_counts() -> None:
    stopping = StopDecision(None)
    assert stopping.stop(CancelReason.BUDGET, "spent", 3)
    assert not stopping.stop(CancelReason.INTERRUPT, "interrupted", 130)
    assert stopping.token.reason is CancelReason.BUDGET
    assert (stopping.why, stopping.exit_code) == ("spent", 3)
    assert stopping.end_naturally() is CancelReason.BUDGET


def test_after_a_natural_end_nothing_cancels_the_token() -> None:
    stopping = StopDecision(None)
    assert stopping.end_naturally() is None
    assert not stopping.stop(CancelReason.INTERRUPT)
    assert not stopping.token.is_cancelled


def test_one_of_many_threads_decides_and_all_agree() -> None:
    for _ in range(50):
        stopping = StopDecision(None)
        go = threading.Barrier(9)
        won: list[bool] = []

        def strike(stopping: StopDecision = stopping, go: threading.Barrier = go) -> None:
            go.wait()
            won.append(stopping.stop(CancelReason.INTERRUPT))  # noqa: B023

        threads = [threading.Thread(target=strike) for _ in range(8)]
        for thread in threads:
            thread.start()
        go.wait()
        reason = stopping.end_naturally()
        for thread in threads:
            thread.join()
        assert won.count(True) == (0 if reason is None else 1)
        assert stopping.token.is_cancelled is (reason is not None)


def test_the_reason_is_stored_before_the_token_is_cancelled() -> None:
    stopping = StopDecision(None)
    seen: list[str] = []
    stopping.token.add_callback(lambda: seen.append(stopping.why))
    stopping.stop(CancelReason.INTERRUPT, "because")
    assert seen == ["because"]


def test_a_signal_handler_may_stop_while_stopping() -> None:
    stopping = StopDecision(None)
    answers: list[bool] = []

    def handler(number: int, frame: object) -> None:
        answers.append(stopping.stop(CancelReason.INTERRUPT, "handler"))

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        stopping.token.add_callback(lambda: signal.raise_signal(signal.SIGUSR1))
        assert stopping.stop(CancelReason.BUDGET, "first")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answers == [False]
    assert stopping.token.reason is CancelReason.BUDGET
