"""Child tokens: cancelled with their parent, or alone, and given up without a trace."""

from __future__ import annotations

import functools
import gc
import itertools
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
from sandbox_agent_ipc.token import CancelReason, RunToken

DEADLINE = 20.0
INTERRUPT, BUDGET = CancelReason.INTERRUPT, CancelReason.BUDGET
Handler = Callable[[int, FrameType | None], object]


@pytest.fixture
def on_signal() -> Iterator[Callable[[Handler], None]]:
    previous = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler) and None
    signal.signal(signal.SIGUSR1, previous)


def test_a_child_is_cancelled_with_its_parent_for_the_same_reason() -> None:
    parent = RunToken(deadline=12.5)
    child = parent.child()
    grandchild = child.child()
    assert not child.is_cancelled and child.deadline == 12.5
    parent.cancel(BUDGET)
    assert (child.reason, grandchild.reason) == (BUDGET, BUDGET)
    assert child.wait(0) and grandchild.wait(0)


def test_a_child_is_cancelled_as_soon_as_its_parent_is() -> None:
    """Not only once the parent's callbacks have reached it: a call could begin in between."""
    parent = RunToken()
    found: list[object] = []
    parent.add_callback(lambda: found.extend([child.is_cancelled, child.reason, child.wait(0)]))
    parent.add_callback(lambda: found.append(child.cancel(BUDGET)))
    child = parent.child()
    parent.cancel(INTERRUPT)
    assert found == [True, INTERRUPT, True, False]
    assert child.reason is INTERRUPT


def test_a_child_that_is_detached_in_the_middle_of_the_parents_cancellation_tells_of_it() -> None:
    parent = RunToken()
    ran: list[CancelReason | None] = []
    parent.add_callback(lambda: child.detach())
    child = parent.child()
    child.add_callback(lambda: ran.append(child.reason))
    parent.cancel(INTERRUPT)
    assert ran == [INTERRUPT]


def test_a_child_of_a_cancelled_token_is_cancelled_from_the_start() -> None:
    parent = RunToken()
    parent.cancel(BUDGET)
    assert parent.child().reason is BUDGET


def test_a_child_that_is_cancelled_alone_leaves_its_parent_and_siblings_alone() -> None:
    parent = RunToken()
    child, sibling = parent.child(), parent.child()
    assert child.cancel(CancelReason.CANCEL_CALL)
    assert not parent.is_cancelled and not sibling.is_cancelled
    parent.cancel(INTERRUPT)
    assert (child.reason, sibling.reason) == (CancelReason.CANCEL_CALL, INTERRUPT)


def test_callbacks_of_a_child_run_once_before_the_parents_cancel_returns() -> None:
    parent = RunToken()
    child, ran = parent.child(), list[CancelReason | None]()
    child.add_callback(lambda: ran.append(child.reason))
    parent.cancel(INTERRUPT)
    child.cancel(BUDGET)
    assert ran == [INTERRUPT]


def test_a_thread_that_waits_on_a_child_wakes_with_the_parents_cancellation() -> None:
    parent = RunToken()
    child, answers = parent.child(), list[bool]()
    thread = threading.Thread(target=lambda: answers.append(child.wait()))
    thread.start()
    parent.cancel(INTERRUPT)
    thread.join(DEADLINE)
    assert answers == [True]


def test_a_detached_child_is_no_longer_cancelled_by_its_parent() -> None:
    parent = RunToken()
    child = parent.child()
    child.detach()
    child.detach()
    parent.cancel(INTERRUPT)
    assert not child.is_cancelled
    assert child.cancel(BUDGET)
    RunToken().detach()  # a token that is no child


def test_a_child_that_is_detached_after_its_cancellation_stays_cancelled() -> None:
    parent = RunToken()
    child = parent.child()
    parent.cancel(INTERRUPT)
    child.detach()
    assert child.reason is INTERRUPT


def test_nothing_is_left_of_children_that_were_detached() -> None:
    parent = RunToken()
    gc.disable()  # reference counts suffice: no collector has to come by
    try:
        watched = []
        for _ in range(100):
            child = parent.child()
            watched.append(weakref.ref(child))
            child.detach()
        del child
        assert [ref() for ref in watched] == [None] * 100
    finally:
        gc.enable()
    assert not parent._callbacks


@pytest.mark.parametrize("name", ["child", "detach", "cancel the child", "cancel the parent"])
def test_a_signal_handler_may_cancel_the_parent_at_every_step(
    name: str, on_signal: Callable[[Handler], None], at_step: Callable[..., bool]
) -> None:
    for step in itertools.count(1):
        parent = RunToken()
        children = [parent.child()]
        work: dict[str, Callable[[], object]] = {
            "child": lambda parent=parent, children=children: children.append(parent.child()),
            "detach": children[0].detach,
            "cancel the child": functools.partial(children[0].cancel, INTERRUPT),
            "cancel the parent": functools.partial(parent.cancel, INTERRUPT),
        }
        on_signal(lambda *_, parent=parent: parent.cancel(BUDGET))
        strike = functools.partial(signal.raise_signal, signal.SIGUSR1)
        reached = at_step(step, "token.py", strike, work[name])
        if name == "detach":
            assert children[0].reason in (None, BUDGET), step
            parent.cancel(BUDGET)
        elif not reached:
            parent.cancel(BUDGET)
        if name != "detach":
            assert all(child.is_cancelled for child in children), step
        if name in ("child", "detach"):
            assert {child.reason for child in children} <= {BUDGET, None}, step
        assert not parent._callbacks, step
        if not reached:
            break
    assert step > 5


@pytest.mark.parametrize("name", ["child", "cancel the child"])
def test_a_signal_handler_may_make_and_detach_children_at_every_step(
    name: str, on_signal: Callable[[Handler], None], at_step: Callable[..., bool]
) -> None:
    for step in itertools.count(1):
        parent = RunToken()
        child = parent.child()
        made = list[RunToken]()

        def handler(*_: object, parent: RunToken = parent, made: list[RunToken] = made) -> None:
            made.append(parent.child())
            made.append(parent.child())
            made[-1].detach()

        on_signal(handler)
        work = parent.child if name == "child" else functools.partial(child.cancel, INTERRUPT)
        strike = functools.partial(signal.raise_signal, signal.SIGUSR1)
        reached = at_step(step, "token.py", strike, work)
        parent.cancel(BUDGET)
        assert [token.reason for token in made] == ([BUDGET, None] if reached else []), step
        if not reached:
            break
    assert step > 5


def test_children_that_threads_make_during_a_cancel_are_all_cancelled() -> None:
    for _ in range(30):
        parent = RunToken()
        barrier = threading.Barrier(4)
        children: list[RunToken] = []

        def make(
            parent: RunToken = parent,
            barrier: threading.Barrier = barrier,
            children: list[RunToken] = children,
        ) -> None:
            barrier.wait()
            for _ in range(20):
                children.append(parent.child())

        threads = [threading.Thread(target=make) for _ in range(3)]
        for thread in threads:
            thread.start()
        barrier.wait()
        parent.cancel(INTERRUPT)
        for thread in threads:
            thread.join(DEADLINE)
        assert [child.reason for child in children] == [INTERRUPT] * 60
        assert not parent._callbacks


def test_of_a_parent_and_a_child_that_threads_cancel_at_once_one_reason_stays() -> None:
    for _ in range(50):
        parent = RunToken()
        child, ran = parent.child(), list[CancelReason | None]()
        child.add_callback(lambda child=child, ran=ran: ran.append(child.reason))
        barrier = threading.Barrier(2)

        def cancel(
            token: RunToken, reason: CancelReason, barrier: threading.Barrier = barrier
        ) -> None:
            barrier.wait()
            token.cancel(reason)

        threads = [
            threading.Thread(target=cancel, args=arguments)
            for arguments in ((parent, INTERRUPT), (child, BUDGET))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert child.reason in (INTERRUPT, BUDGET) and parent.reason is INTERRUPT
        assert ran == [child.reason]


def test_an_exception_that_strikes_one_child_spares_the_others() -> None:
    parent = RunToken()
    struck, spared = parent.child(), parent.child()
    ran: list[str] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    struck.add_callback(interrupted)
    struck.add_callback(lambda: ran.append("struck"))
    spared.add_callback(lambda: ran.append("spared"))
    with pytest.raises(KeyboardInterrupt):
        parent.cancel(INTERRUPT)
    assert sorted(ran) == ["spared", "struck"]
    assert struck.reason is INTERRUPT and spared.reason is INTERRUPT
