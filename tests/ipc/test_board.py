"""Slots of the cancel board: claimed, cancelled, released, reused, quarantined."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent_ipc.board import Board, Slot
from sandbox_agent_ipc.board_view import SLOTS, BoardView
from sandbox_agent_ipc.cancel_reason import cancelled_word, idle_word, live_word, reason_in
from sandbox_agent_ipc.errors import BoardFull, IpcError
from sandbox_agent_ipc.token import CallToken, CancelReason


@pytest.fixture
def board() -> Iterator[Board]:
    one = Board()
    yield one
    one.close()


def token_of(board: Board, slot: Slot) -> CallToken:
    return BoardView(board.fd).token(slot.index, slot.word, 0)


def test_a_cancelled_slot_is_seen_by_its_token_with_the_reason(board: Board) -> None:
    slot = board.claim("call", 0)
    token = token_of(board, slot)
    assert not token.is_cancelled and token.reason is None
    slot.cancel(CancelReason.BUDGET)
    assert token.is_cancelled and token.reason is CancelReason.BUDGET
    assert slot.is_cancelled and slot.reason is CancelReason.BUDGET


def test_cancelling_one_slot_leaves_all_others_alone(board: Board) -> None:
    slots = [board.claim(f"call {n}", n) for n in range(SLOTS)]
    tokens = [token_of(board, slot) for slot in slots]
    slots[17].cancel(CancelReason.CANCEL_CALL)
    assert [n for n, token in enumerate(tokens) if token.is_cancelled] == [17]


def test_the_first_reason_wins(board: Board) -> None:
    slot = board.claim("call", 0)
    slot.cancel(CancelReason.TIMEOUT)
    slot.cancel(CancelReason.INTERRUPT)
    assert slot.reason is token_of(board, slot).reason is CancelReason.TIMEOUT


def test_the_first_reason_wins_among_many_threads(board: Board) -> None:
    slot = board.claim("call", 0)
    barrier = threading.Barrier(len(CancelReason))

    def cancel(reason: CancelReason) -> None:
        barrier.wait()
        slot.cancel(reason)
        seen.append(token.reason)

    token = token_of(board, slot)
    seen: list[CancelReason | None] = []
    threads = [threading.Thread(target=cancel, args=[reason]) for reason in CancelReason]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {slot.reason}


def test_a_full_board_says_so_and_a_release_makes_room(board: Board) -> None:
    slots = [board.claim(f"call {n}", 0) for n in range(SLOTS)]
    assert len({slot.index for slot in slots}) == SLOTS
    with pytest.raises(BoardFull, match="64 slots"):
        board.claim("one too many", 0)
    slots[5].release(proven_dead=True)
    assert board.claim("fits now", 0).index == slots[5].index


def test_reuse_under_a_new_generation_never_uncancels_an_old_token(board: Board) -> None:
    old = board.claim("old", 0)
    cancelled, released = token_of(board, old), token_of(board, old)
    old.cancel(CancelReason.INTERRUPT)
    assert cancelled.is_cancelled
    old.release(proven_dead=True)
    for n in range(300):
        new = board.claim(f"new {n}", 0)
        assert new.index == old.index and new.word != old.word
        assert cancelled.is_cancelled and released.is_cancelled
        assert released.reason is not None
        assert not token_of(board, new).is_cancelled
        new.release(proven_dead=True)
        assert released.is_cancelled


def test_cancelling_a_released_slot_does_not_hit_the_next_call(board: Board) -> None:
    old = board.claim("old", 0)
    old.release(proven_dead=True)
    new = board.claim("new", 0)
    assert new.index == old.index
    old.cancel(CancelReason.INTERRUPT)
    old.release(proven_dead=False)
    assert not token_of(board, new).is_cancelled and not old.is_cancelled


def test_a_release_in_the_middle_of_a_cancel_never_hits_the_next_call(
    board: Board, at_step: Callable[..., bool]
) -> None:
    for step in itertools.count(1):
        old = board.claim("old", 0)
        claimed: list[Slot] = []

        def replace(old: Slot = old, claimed: list[Slot] = claimed) -> None:
            old.release(proven_dead=True)
            claimed.append(board.claim("new", 0))

        def cancel(old: Slot = old) -> None:
            old.cancel(CancelReason.INTERRUPT)

        if not at_step(step, "board.py", replace, cancel):
            break
        assert claimed[0].index == old.index
        assert not token_of(board, claimed[0]).is_cancelled, step
        claimed[0].release(proven_dead=True)
    assert step > 10


def test_a_cancel_in_the_middle_of_a_cancel_agrees_on_one_reason(
    board: Board, at_step: Callable[..., bool]
) -> None:
    for step in itertools.count(1):
        slot = board.claim("call", 0)
        token = token_of(board, slot)
        seen: list[CancelReason | None] = []

        def second(slot: Slot = slot, seen: list[CancelReason | None] = seen) -> None:
            slot.cancel(CancelReason.TIMEOUT)
            seen.append(token_of(board, slot).reason)

        def first(slot: Slot = slot) -> None:
            slot.cancel(CancelReason.INTERRUPT)

        if not at_step(step, "board.py", second, first):
            break
        assert seen == [slot.reason] and token.reason is slot.reason, step
        slot.release(proven_dead=True)
    assert step > 10


def test_a_quarantined_slot_is_never_used_again_and_reads_as_cancelled(board: Board) -> None:
    slot = board.claim("cannot be killed", 0)
    token = token_of(board, slot)
    slot.release(proven_dead=False)
    assert token.is_cancelled
    others = [board.claim(f"call {n}", 0) for n in range(SLOTS - 1)]
    assert slot.index not in {other.index for other in others}
    with pytest.raises(BoardFull):
        board.claim("no room", 0)
    slot.release(proven_dead=True)
    with pytest.raises(BoardFull):
        board.claim("still none", 0)


def test_closing_cancels_what_is_still_claimed_and_frees_everything() -> None:
    board = Board()
    slot = board.claim("call", 0)
    token = token_of(board, slot)
    board.close()
    board.close()
    assert token.is_cancelled and token.reason is CancelReason.CLOSED
    slot.cancel(CancelReason.INTERRUPT)
    slot.release(proven_dead=True)
    assert token.reason is CancelReason.CLOSED
    with pytest.raises(IpcError, match="closed"):
        board.claim("late", 0)


def test_threads_claim_and_release_without_sharing_a_slot(board: Board) -> None:
    owners: dict[int, int] = {}
    clashes: list[int] = []

    def work(me: int) -> None:
        for _ in range(300):
            slot = board.claim("call", 0)
            if owners.setdefault(slot.index, me) != me:
                clashes.append(slot.index)
            del owners[slot.index]
            slot.release(proven_dead=True)

    threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
    assert len({board.claim("call", 0).index for _ in range(SLOTS)}) == SLOTS


def test_deadline_and_call_id_are_on_the_page_for_debuggers(board: Board) -> None:
    slot = board.claim("c" * 60 + "é", 5_000_000_000)
    page = os.pread(board.fd, 4096, 0)[slot.index * 64 :][:64]
    assert page[8:16] == (5_000_000_000).to_bytes(8, "little")
    assert page[16:] == b"c" * 48


def test_what_is_no_board_is_refused() -> None:
    reader, writer = os.pipe()
    with pytest.raises(IpcError, match="no cancel board"):
        BoardView(reader)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("slot", [-1, SLOTS, 2**40])
def test_a_slot_that_is_not_on_the_board_is_refused(board: Board, slot: int) -> None:
    with pytest.raises(IpcError, match="not on the cancel board"):
        BoardView(board.fd).token(slot, 1, 0)


def test_the_child_cannot_write_through_its_view(board: Board) -> None:
    with pytest.raises(TypeError):
        BoardView(board.fd)._words[0] = 1


@given(st.integers(1, 2**48 - 2), st.sampled_from(CancelReason), st.integers(1, 1000))
@settings(database=None, deadline=None, max_examples=50)
def test_words_of_one_generation_are_never_those_of_another(
    generation: int, reason: CancelReason, later: int
) -> None:
    live = live_word(generation)
    assert reason_in(live, live) is None
    assert reason_in(cancelled_word(live, reason), live) is reason
    newer = min(generation + later, 2**48 - 1)
    for word in (idle_word(newer), live_word(newer), cancelled_word(live_word(newer), reason)):
        assert word < 2**64
        assert reason_in(word, live) is CancelReason.CLOSED


def test_reason_codes_are_stable() -> None:
    codes = {reason.value: reason.code for reason in CancelReason}
    assert codes == {
        "interrupt": 1, "cancel_call": 2, "timeout": 3, "budget": 4,
        "cancelled": 5, "closed": 6, "failed": 7,
    }  # fmt: skip
    assert all(CancelReason.from_code(reason.code) is reason for reason in CancelReason)
    assert CancelReason.from_code(200) is CancelReason.FAILED
