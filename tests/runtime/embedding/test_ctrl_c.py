"""Ctrl-C during a blocking `run()`: in its first moments, and where the main thread hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import observer
import pytest
from sandbox_agent.conversation import Conversation
from sandbox_agent.embedding import signal_wakeup
from sandbox_agent.embedding.ctrl_c import CtrlC
from sandbox_agent.journal.events import AnyEvent, Ended
from sandbox_agent.journal.status import Status
from sandbox_agent.models import ModelCall, ModelTurn
from sandbox_agent.models.scripted import ScriptedModel, Step


@pytest.mark.parametrize("where", ["_begin", "_make_folder", "arun", "drive", "_turns", "open"])
def test_ctrl_c_in_any_function_stops_the_run(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes as that function is entered; the command would run for five minutes."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    steps = [
        Step(ModelTurn("", (ModelCall("shell", {"command": "exec sleep 300"}),))),
        Step(ModelTurn("done", final=True)),
    ]
    struck: list[str] = []

    def strike(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == where and "sandbox_agent" in code.co_filename:
            sys.setprofile(None)
            struck.append(where)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Conversation(
            model=ScriptedModel(steps, "steps"), workspace=tmp_path / "work", interrupt=(0.1, 0.1)
        ) as conversation:
            conversation.send_message("go")
            sys.setprofile(strike)
            try:
                with pytest.raises(KeyboardInterrupt):
                    conversation.run()
            finally:
                sys.setprofile(None)
            assert struck == [where]
            assert conversation.status is Status.INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def pythons_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("neighbour", [False, True], ids=["alone", "beside another thread"])
def test_ctrl_c_stops_the_work_while_the_main_thread_hangs(tmp_path: Path, neighbour: bool) -> None:
    """In a system call that no signal interrupts there, as if it were uninterruptible. Another
    thread of the program does not block SIGINT, so the kernel may give the signal to it."""
    mark = observer.new_mark()
    read, write = os.pipe()
    hangs = threading.Event()
    stopped: list[bool] = []

    def on_event(event: AnyEvent) -> None:
        if isinstance(event, Ended) and event.call == "call_1_2":
            hangs.set()
            os.read(read, 1)

    def press() -> None:
        assert hangs.wait(60)
        with observer.watching(observer.marked(mark)) as handles:
            os.kill(os.getpid(), signal.SIGINT)
            stopped.append(observer.wait_gone(handles, 30)[1] == [])
        os.write(write, b"x")

    calls = (
        ModelCall("shell", {"command": f"touch up; exec sleep 300.{mark}"}),
        ModelCall("shell", {"command": "while [ ! -e up ]; do sleep 0.05; done"}),
    )
    (tmp_path / "work").mkdir()
    thread = threading.Thread(target=press)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, () if neighbour else {signal.SIGINT})
    thread.start()  # a thread has the mask of the one that starts it
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        with (
            pythons_own_handler(),
            Conversation(
                model=ScriptedModel([Step(ModelTurn("", calls))], "steps"),
                workspace=tmp_path / "work",
                output_dir=tmp_path / "runs",
                interrupt=(0.2, 0.2),
                on_event=on_event,
            ) as conversation,
        ):
            conversation.send_message("go")
            with pytest.raises(KeyboardInterrupt):
                conversation.run()
            assert conversation.status is Status.INTERRUPTED
        assert stopped == [True]
    finally:
        thread.join()
        os.close(read)
        os.close(write)


def test_each_ctrl_c_counts_once(tmp_path: Path) -> None:
    """Whether the guard's thread takes it or another thread of the program gets it."""
    got: list[int] = []

    def interrupt() -> bool:
        got.append(1)
        return True

    with pythons_own_handler(), CtrlC(interrupt) as guard:
        for sent in range(1, 21):
            if sent % 2:
                os.kill(os.getpid(), signal.SIGINT)
            else:
                thread = threading.Thread(target=to_itself)
                thread.start()
                thread.join()
            observer.eventually(lambda sent=sent: len(got) >= sent, 30)  # type: ignore[misc]
    assert guard.pressed
    assert len(got) == 20


def to_itself() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


def test_a_blocked_sigint_and_a_handler_of_the_program_stay() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with CtrlC(lambda: True):
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with CtrlC(lambda: True):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_wakeup_descriptor_of_the_program_hears_all_signals() -> None:
    read, write = os.pipe2(os.O_NONBLOCK)
    try:
        with pythons_own_handler():
            signal.set_wakeup_fd(write)
            with CtrlC(lambda: True):
                os.kill(os.getpid(), signal.SIGINT)
                heard = observer.eventually(lambda: readable(read), 30)
            assert heard == bytes([signal.SIGINT])
            assert signal.set_wakeup_fd(-1) == write
    finally:
        os.close(read)
        os.close(write)


def readable(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 100)
    except BlockingIOError:
        return b""


def test_a_forked_child_has_ctrl_c_as_before() -> None:
    with pythons_own_handler(), CtrlC(lambda: True) as guard:
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(30)
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        os.kill(os.getpid(), signal.SIGINT)
        observer.eventually(lambda: guard.pressed, 30)  # the parent's thread still takes it


def test_a_wakeup_descriptor_that_was_closed_meanwhile_is_not_put_back() -> None:
    """Its run was left by an exception, and its end was seen by the collector only. Its number may
    be another file's by then."""

    async def main() -> signal_wakeup._Wakeup:
        return signal_wakeup._Wakeup(asyncio.get_running_loop(), -1)

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(main())
    ctrl_c = CtrlC(lambda: True)
    with ctrl_c:
        assert ctrl_c._before == left.fd
        left.close()
    assert signal.set_wakeup_fd(-1) == -1
    loop.close()


def test_a_wakeup_descriptor_that_an_ended_loop_has_left_is_replaced() -> None:
    async def main() -> signal_wakeup._Wakeup:
        return signal_wakeup._Wakeup(asyncio.get_running_loop(), -1)

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(main())

    async def later() -> None:
        with signal_wakeup.signals_wake_the_loop():
            assert signal_wakeup._current is not None
            now = signal.set_wakeup_fd(signal_wakeup._current.fd)
            assert now == signal_wakeup._current.fd != left.fd

    asyncio.run(later())
    left.close()
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1
