"""Sessions: one worker, many requests, each of which can be stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import kinds
import observer
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.errors import ProtocolError
from sandbox_agent_ipc.messages import CallBorn, FunctionRef
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import SandboxBroken
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.sandbox_process import AboutCalls
from sandbox_agent_sandbox.host.session import Answer, Patience, Session
from sandbox_agent_sandbox.host.supervisor import Supervisor
from sandbox_agent_sandbox.outcome import Rung
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import run, until

FUNCTION = FunctionRef("serving_module", "serve")
SOON = Patience(0.2, 0.2)
LONG = Patience(60, 60)
HURRIED = Patience(0.2, 60)
"""Past the grace period, and in no hurry after SIGTERM."""


@contextlib.asynccontextmanager
async def cell_without_workspace(kind: PlanKind = kinds.IN_FORCE) -> AsyncIterator[Cell]:
    here = Path(__file__).resolve().parent
    plan = make_plan(Policy(), host_facts(), workspace=None, tool_paths=[here], kind=kind)
    cell = Cell(plan, grace=60, term=60)
    await cell.open()
    try:
        yield cell
    finally:
        assert cell.close() == ()


@contextlib.asynccontextmanager
async def a_session() -> AsyncIterator[Session]:
    async with cell_without_workspace() as cell:
        yield await cell.session(FUNCTION, {})


async def asked(
    session: Session, body: bytes, patience: Patience = LONG, token: RunToken | None = None
) -> asyncio.Task[Answer]:
    """A request that has said that it is at work."""
    up = asyncio.Event()
    work = session.ask(body, patience, token=token, on_reply=lambda piece: up.set())
    task = asyncio.ensure_future(work)
    await up.wait()
    return task


@pytest.mark.parametrize("size", [0, 1000, 64 * 1024, 64 * 1024 + 1, 5_000_000])
def test_a_request_of_any_size_gets_its_answer(size: int) -> None:
    async def main() -> None:
        async with a_session() as session:
            answer = await session.ask(b"size " + b"x" * size, LONG)
            assert answer == Answer(str(size + 5).encode())

    run(main)


def test_a_request_that_has_no_room_in_the_socket_is_refused_and_the_next_is_answered() -> None:
    """As on a host with a small net.core.wmem_default."""

    async def main() -> None:
        async with a_session() as session:
            session._inbox.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
            with pytest.raises(ProtocolError, match="does not fit the socket"):
                await session.ask(b"size " + b"x" * 60_000, LONG)
            assert (await session.ask(b"size ", LONG)).body == b"5"

    run(main)


@pytest.mark.parametrize("kind", [kinds.IN_FORCE, PlanKind.NO_NAMESPACES])
def test_nobody_can_look_into_who_serves(kind: PlanKind) -> None:
    """It may hold keys. Without namespaces it could not say so itself."""

    async def main() -> None:
        async with cell_without_workspace(kind) as cell:
            session = await cell.session(FUNCTION, {})
            assert (await session.ask(b"dumpable", LONG)).body == b"0"

    run(main)


def test_pieces_come_in_order_and_before_the_answer() -> None:
    async def main() -> None:
        async with a_session() as session:
            pieces: list[bytes] = []
            answer = await session.ask(b"count", LONG, on_reply=pieces.append)
            assert (pieces, answer.body) == ([b"0", b"1", b"2"], b"count")

    run(main)


def test_a_hundred_requests_share_one_session_and_its_64_slots() -> None:
    async def main() -> None:
        async with a_session() as session:
            bodies = [f"plain {number}".encode() for number in range(100)]
            answers = await asyncio.gather(*(session.ask(body, LONG) for body in bodies))
            assert [answer.body for answer in answers] == bodies

    run(main)


def test_a_request_that_was_stopped_names_its_rung_also_where_the_ladder_is_late() -> None:
    """The session sees the flag, and answers, before the ladder has heard of it."""

    async def main() -> None:
        async with a_session() as session:
            token = RunToken()
            mine = await asked(session, b"wait mine", token=token)
            [pending] = session._pending.values()
            held, go_on = threading.Event(), threading.Event()

            def hold(now: float) -> None:
                held.set()
                go_on.wait(30)

            session._supervisor._commands.add(hold)
            assert await asyncio.to_thread(held.wait, 30)
            token.cancel(CancelReason.INTERRUPT)
            await until(lambda: pending.body is not None)
            assert await asyncio.wait({mine}, timeout=0.05) == (set(), {mine})
            go_on.set()
            answer = await mine
            assert (answer.reason, answer.rung) == (CancelReason.INTERRUPT, Rung.FLAG)

    run(main)


def test_stopping_one_request_leaves_the_others_alone() -> None:
    async def main() -> None:
        async with a_session() as session:
            token = RunToken()
            mine = await asked(session, b"wait mine", token=token)
            other = await asked(session, b"wait other")
            token.cancel(CancelReason.INTERRUPT)
            answer = await mine
            assert (answer.body, answer.reason) == (b"wait mine", CancelReason.INTERRUPT)
            assert answer.rung is Rung.FLAG
            assert not other.done()
            other.cancel()
            with pytest.raises(asyncio.CancelledError):
                await other
            assert session.usable

    run(main)


def test_a_request_that_hangs_ends_its_session_after_grace_and_the_others_are_lost() -> None:
    async def main() -> None:
        async with a_session() as session:
            token = RunToken()
            other = await asked(session, b"wait")
            hung = await asked(session, b"hang", HURRIED, token)
            token.cancel(CancelReason.INTERRUPT)
            answer = await hung
            assert (answer.body, answer.reason) == (None, CancelReason.INTERRUPT)
            assert answer.rung is Rung.TERM
            lost = await other
            assert (lost.body, lost.reason, lost.rung) == (None, None, None)
            assert "signal 15" in lost.lost
            assert not session.usable

    run(main)


def below_us() -> list[observer.Process]:
    return observer.descendants(os.getpid())


def test_a_stopped_session_is_ended_and_a_second_order_skips_the_grace() -> None:
    async def main() -> None:
        async with a_session() as session:
            token, names = RunToken(), list[str]()
            task = asyncio.ensure_future(
                session.ask(b"stop", LONG, token=token, on_sent=names.append)
            )
            # Until it has stopped itself: SIGCONT, which comes with SIGTERM, must come after that.
            await until(lambda: any(observer.state(one.pid) == "T" for one in below_us()))
            token.cancel(CancelReason.INTERRUPT)
            session.escalate(names[0])
            answer = await task
            assert answer.body is None
            assert answer.rung is Rung.TERM

    run(main)


def test_a_request_that_comes_before_the_host_knows_the_sessions_process_can_be_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker says that it serves by itself, and its birth is told by init."""
    go_on = threading.Event()
    on_message = Supervisor._on_message

    def late(self: Supervisor, message: AboutCalls, descriptors: list[int]) -> None:
        if isinstance(message, CallBorn):
            assert go_on.wait(20)
        on_message(self, message, descriptors)

    monkeypatch.setattr(Supervisor, "_on_message", late)

    async def main() -> None:
        async with a_session() as session:
            token, names = RunToken(), list[str]()
            task = asyncio.ensure_future(
                session.ask(b"stop", LONG, token=token, on_sent=names.append)
            )
            await until(lambda: bool(names))
            token.cancel(CancelReason.INTERRUPT)
            session.escalate(names[0])
            go_on.set()
            answer = await task
            assert (answer.body, answer.rung) == (None, Rung.TERM)

    run(main)


def test_silence_is_a_timeout_and_pieces_are_not_silence() -> None:
    async def main() -> None:
        async with a_session() as session:
            answer = await session.ask(b"wait", Patience(60, 60, 0.3))
            assert (answer.body, answer.reason) == (b"wait", CancelReason.TIMEOUT)
            quiet = await session.ask(b"hang", Patience(0.2, 0.2, 0.3))
            assert (quiet.body, quiet.reason) == (None, CancelReason.TIMEOUT)

    run(main)


def test_messages_that_came_while_the_whole_program_was_stopped_were_no_silence() -> None:
    script = Path(__file__).with_name("stopped_host.py")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "up\n"
        host.send_signal(signal.SIGSTOP)
        # Not a synchronisation: so long is it stopped, thrice what the session may be silent for.
        time.sleep(1.5)
        host.send_signal(signal.SIGCONT)
        assert host.communicate(timeout=30)[0] == "b'talk' None ()\n"


def test_a_session_that_dies_says_how_to_every_request() -> None:
    async def main() -> None:
        async with a_session() as session:
            other = await asked(session, b"wait")
            answer = await session.ask(b"die", LONG)
            assert answer == await other
            assert answer.lost == "it ended with exit code 3: last words"
            late = await session.ask(b"plain", LONG)
            assert (late.body, late.lost) == (None, answer.lost)

    run(main)


def test_a_session_that_does_not_start_says_why_and_the_next_one_works() -> None:
    async def main() -> None:
        async with cell_without_workspace() as cell:
            with pytest.raises(SandboxBroken, match="No module named 'nowhere'"):
                await cell.session(FunctionRef("nowhere", "serve"), {})
            with pytest.raises(SandboxBroken, match="the session refuses"):
                await cell.session(FUNCTION, {"REFUSE": "1"})
            session = await cell.session(FUNCTION, {})
            assert (await session.ask(b"plain", LONG)).body == b"plain"

    run(main)


def test_a_cancelled_task_raises_after_its_request_has_stopped() -> None:
    async def main() -> None:
        async with a_session() as session:
            for body, patience, usable in ((b"wait", LONG, True), (b"hang", SOON, False)):
                task = await asked(session, body, patience)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert session.usable is usable

    run(main)


def test_a_request_that_is_cancelled_before_it_is_sent_is_never_sent() -> None:
    async def main() -> None:
        async with a_session() as session:
            token = RunToken()
            token.cancel(CancelReason.INTERRUPT)
            answer = await session.ask(b"die", LONG, token=token)
            assert (answer.body, answer.reason) == (None, CancelReason.INTERRUPT)
            assert session.usable

    run(main)


def test_a_session_that_reads_nothing_does_not_delay_a_cancellation() -> None:
    async def main() -> None:
        async with a_session() as session:
            hung = await asked(session, b"hang")
            token = RunToken()
            # The socket fills: most of these are never sent.
            many = [
                asyncio.ensure_future(session.ask(b"plain" + b"x" * 60_000, LONG, token=token))
                for _ in range(20)
            ]
            await asyncio.sleep(0)  # each has tried once
            token.cancel(CancelReason.INTERRUPT)
            done, _ = await asyncio.wait(many, timeout=2, return_when=asyncio.FIRST_COMPLETED)
            assert done
            os.kill(_worker_of(session), signal.SIGKILL)
            answers = await asyncio.gather(hung, *many)
            assert all(answer.body is None for answer in answers)

    run(main)


def _worker_of(session: Session) -> int:
    call_process = session._call_process
    assert call_process is not None
    assert call_process.process is not None
    return call_process.process.pid


def test_closing_the_cell_ends_session_and_requests_and_leaves_nothing() -> None:
    async def main() -> None:
        async with cell_without_workspace() as cell:
            session = await cell.session(FUNCTION, {})
            waiting = await asked(session, b"hang")
            assert cell.close() == ()
            assert (await waiting).body is None
            assert not session.usable

    run(main)
