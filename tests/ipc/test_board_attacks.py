"""Only the host writes the flag: children that try everything, each attempt shown to be real."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent_ipc.board import Board
from sandbox_agent_ipc.board_view import SIZE, BoardView
from sandbox_agent_ipc.errors import IpcError
from sandbox_agent_ipc.token import CancelReason, RunToken

Forked = Callable[[Callable[[], object]], Any]


@pytest.fixture
def board() -> Iterator[Board]:
    one = Board()
    yield one
    one.close()


def test_an_execed_child_cannot_change_the_board_in_any_way(board: Board, uid: int) -> None:
    slot = board.claim("call", 0)
    before = os.pread(board.fd, SIZE, 0)
    if os.geteuid() == 0:
        os.fchown(board.fd, uid, uid)  # the worst case: it even owns the inode
    result = subprocess.run(
        [sys.executable, "-I", Path(__file__).with_name("attacks.py"), str(board.fd), str(uid)],
        pass_fds=[board.fd], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    outcomes = json.loads(result.stdout)
    assert len(outcomes) == 13
    for attack, outcome in outcomes.items():
        assert outcome["twin"] == "changed", f"{attack} does not work even without seals"
        assert outcome["board"] in ("EPERM", "EACCES"), attack
    assert os.pread(board.fd, SIZE, 0) == before
    slot.cancel(CancelReason.INTERRUPT)  # a truncated page would kill us here
    assert os.pread(board.fd, SIZE, 0) != before


def test_a_forked_child_has_no_page_to_write_to(board: Board, forked: Forked) -> None:
    def write() -> None:
        board._map[:8] = b"\xff" * 8

    before = os.pread(board.fd, SIZE, 0)
    assert forked(write).signal == signal.SIGSEGV
    assert os.pread(board.fd, SIZE, 0) == before


def test_a_forked_child_could_write_a_page_that_is_inherited(forked: Forked) -> None:
    page = mmap.mmap(-1, SIZE)

    def write() -> None:
        page[:8] = b"\xff" * 8

    assert forked(write).signal == 0
    assert page[:8] == b"\xff" * 8


def test_a_forked_copy_of_the_host_touches_nothing(board: Board, forked: Forked) -> None:
    slot = board.claim("call", 0)

    def use_everything() -> str:
        slot.cancel(CancelReason.INTERRUPT)
        slot.release(proven_dead=True)
        try:
            board.claim("other", 0)
            return "claimed"
        except IpcError:
            pass
        board.close()
        return "alive"

    before = os.pread(board.fd, SIZE, 0)
    assert forked(use_everything).answer == "alive"
    assert os.pread(board.fd, SIZE, 0) == before
    assert not slot.is_cancelled


def test_a_forked_copy_may_have_a_board_of_its_own(board: Board, forked: Forked) -> None:
    def use_own() -> bool:
        own = Board()
        slot = own.claim("call", 0)
        token = BoardView(own.fd).token(slot.index, slot.word, 0)
        slot.cancel(CancelReason.INTERRUPT)
        return token.is_cancelled

    assert forked(use_own).answer == "True"


def test_a_forked_child_sees_the_flag_through_an_inherited_view(
    board: Board, forked: Forked
) -> None:
    slot = board.claim("call", 0)
    reader, writer = os.pipe()
    token = BoardView(board.fd).token(slot.index, slot.word, reader)
    slot.cancel(CancelReason.TIMEOUT)
    os.write(writer, b"!")
    assert forked(lambda: (token.wait(10), token.reason)).answer == repr(
        (True, CancelReason.TIMEOUT)
    )
    os.close(reader)
    os.close(writer)


def test_a_run_token_works_on_both_sides_of_a_fork(forked: Forked) -> None:
    token = RunToken()
    assert forked(lambda: (token.cancel(CancelReason.CLOSED), token.wait(1))).answer == str(
        (True, True)
    )
    assert not token.is_cancelled
