"""The control pipe: it interrupts the run, and does nothing else, whatever is written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import observer
import pytest
from sandbox_agent.conversation import Conversation
from sandbox_agent.embedding import control
from sandbox_agent.embedding.control import (
    CONTROL_PIPE,
    Control,
    request_interrupt,
    wait_until_over,
)
from sandbox_agent.journal.events import Ended, Started
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from talking import FINAL, Watch, ends, shell, sleeper, soon, talk

STUBBORN = "trap '' INT; echo up; while :; do sleep 300.{mark}; done"


@pytest.fixture
def mark() -> Iterator[str]:
    mark = observer.new_mark()
    yield mark
    assert observer.marked(mark) == []


def strike(conv: Conversation, times: int = 1) -> None:
    for _ in range(times):
        door = request_interrupt(conv.run_dir)
        assert door is not None
        os.close(door)


def test_a_byte_in_the_pipe_interrupts_and_the_record_says_from_where(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        seen: list[bool] = []

        def write() -> None:
            watch.wait_up()
            pipe = conv.run_dir / CONTROL_PIPE
            assert stat.S_IMODE(pipe.stat().st_mode) == 0o600
            door = request_interrupt(conv.run_dir)
            assert door is not None
            assert not wait_until_over(door, 0) or read_record(conv.run_dir).exit_code
            seen.append(wait_until_over(door, 30))
            seen.append(read_record(conv.run_dir).status is Status.INTERRUPTED)
            os.close(door)

        thread = soon(write)
        result = conv.run()
        thread.join()
        assert seen == [True, True]
        assert (result.status, result.exit_code) == (Status.INTERRUPTED, 130)
        assert result.reason == "cancelled from outside"
        # Over: the pipe is gone, and with it descriptors and thread (conftest looks).
        assert request_interrupt(conv.run_dir) is None
        assert not (conv.run_dir / CONTROL_PIPE).exists()


def test_a_second_byte_skips_the_grace_period(tmp_path: Path, watch: Watch, mark: str) -> None:
    stubborn = shell(STUBBORN.format(mark=mark))
    with talk(tmp_path, watch, stubborn, FINAL, interrupt=(60, 0.2)) as conv:
        soon(lambda: (watch.wait_up(), strike(conv, 2)))
        begin = time.monotonic()
        assert conv.run().status is Status.INTERRUPTED
        assert time.monotonic() - begin < 30
        assert ends(conv)["call_1_1"].rung in ("term", "kill")


def test_a_blocked_event_loop_does_not_delay_it(tmp_path: Path, watch: Watch, mark: str) -> None:
    flagged: list[float] = []
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:

        def also(event: object) -> None:
            if isinstance(event, Started):
                strike(conv)
                token = conv.cancel_token
                assert token is not None
                begin = time.monotonic()
                if token.wait(20):  # in the loop's own thread, so that it is blocked
                    flagged.append(time.monotonic() - begin)

        watch.also = also
        assert conv.run().status is Status.INTERRUPTED
    assert flagged[0] < 5


@pytest.mark.parametrize(
    "data", [b"\0" * 65536, b'{"event":"user_message"}\n' * 100, bytes(range(256)) * 64]
)
def test_any_bytes_in_the_pipe_only_interrupt(
    tmp_path: Path, watch: Watch, mark: str, data: bytes
) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:

        def flood() -> None:
            watch.wait_up()
            with open(conv.run_dir / CONTROL_PIPE, "wb", buffering=0) as pipe:
                os.set_blocking(pipe.fileno(), False)
                pipe.write(data)

        soon(flood)
        result = conv.run()
        assert (result.status, result.exit_code) == (Status.INTERRUPTED, 130)
        # Nothing is left of it for the next run.
        assert conv.run().status is Status.DONE


def test_only_two_bytes_of_a_flood_are_read(tmp_path: Path) -> None:
    heard = threading.Semaphore(0)
    ear = Control(tmp_path, heard.release)
    try:
        for _ in range(5):
            door = request_interrupt(tmp_path)
            assert door is not None
            os.close(door)
        assert heard.acquire(timeout=10)
        assert heard.acquire(timeout=10)
        with open(tmp_path / CONTROL_PIPE, "wb", buffering=0) as pipe:
            os.set_blocking(pipe.fileno(), False)
            while pipe.write(b"x" * 4096):
                pass
        door = request_interrupt(tmp_path)  # full, and no error
        assert door is not None
        os.close(door)
        assert not heard.acquire(blocking=False)
    finally:
        ear.close()
        ear.close()


def test_a_file_that_is_not_a_pipe_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / CONTROL_PIPE
    assert request_interrupt(tmp_path) is None
    assert request_interrupt(tmp_path / "nowhere") is None
    path.write_text("kept")
    assert request_interrupt(tmp_path) is None
    assert path.read_text() == "kept"
    path.unlink()
    target = tmp_path / "pipe"
    os.mkfifo(target)
    path.symlink_to(target)
    assert request_interrupt(tmp_path) is None
    path.unlink()
    path.mkdir()
    assert request_interrupt(tmp_path) is None


def test_the_pipe_of_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / CONTROL_PIPE)
    assert request_interrupt(tmp_path) is None
    Control(tmp_path, lambda: None).close()
    assert not (tmp_path / CONTROL_PIPE).exists()


FORKED = """
import os, select
from pathlib import Path
from sandbox_agent.embedding.control import Control, request_interrupt
ear = Control(Path({path!r}), lambda: None)
ready = os.pipe()
parent = os.pidfd_open(os.getpid())
if os.fork() == 0:
    os.write(ready[1], b"x")
    select.select([parent], [], [])  # until the parent has died
    print(request_interrupt(Path({path!r})), flush=True)
    os._exit(0)
os.read(ready[0], 1)
os.kill(os.getpid(), 9)
"""


def test_a_forked_child_does_not_keep_the_pipe_open(tmp_path: Path) -> None:
    code = FORKED.format(path=str(tmp_path))
    done = subprocess.run(
        # Python 3.12 warns of each fork in a program that has threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_a_run_goes_on_with_a_warning_if_the_pipe_cannot_be_made(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(control.os, "mkfifo", refuse)
    with (
        pytest.warns(RuntimeWarning, match="cannot reach this run"),
        talk(tmp_path, watch, FINAL) as conv,
    ):
        assert conv.run().status is Status.DONE


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


class Struck(BaseException):
    """What a signal handler raises."""


def struck_when_started(self: threading.Thread) -> None:
    START(self)
    raise Struck


def struck_before(self: threading.Thread) -> None:
    raise Struck


START = threading.Thread.start


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("start", [struck_when_started, struck_before])
def test_an_exception_while_the_thread_starts_leaves_nothing_and_the_next_run_begins(
    tmp_path: Path,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[threading.Thread], None],
) -> None:
    with talk(tmp_path, watch, FINAL) as conv:
        before, threads = descriptors(), threading.active_count()
        with monkeypatch.context() as patch, pytest.raises(Struck):
            patch.setattr(threading.Thread, "start", start)
            conv.run()
        assert conv.status is Status.IDLE
        assert not (conv.run_dir / CONTROL_PIPE).exists()
        assert (descriptors(), threading.active_count()) == (before, threads)
        assert conv.run().status is Status.DONE
        assert read_record(conv.run_dir).segment == 1


def test_without_a_thread_there_is_no_pipe_but_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.warns(RuntimeWarning, match="cannot reach this run: no more processes.*hint: "):
        assert control.listen(tmp_path, lambda: None) is None
    assert descriptors() == before
    assert os.listdir(tmp_path) == []


def test_a_token_callback_that_calls_exit_does_not_stop_later_interrupts(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    stubborn = shell(STUBBORN.format(mark=mark))
    with talk(tmp_path, watch, stubborn, FINAL, interrupt=(60, 0.2)) as conv:

        def also(event: object) -> None:
            if isinstance(event, Started):
                assert conv.cancel_token is not None
                conv.cancel_token.add_callback(lambda: sys.exit(1))

        watch.also = also
        # The second interrupt has its effect although the callback raised at the first.
        soon(lambda: (watch.wait_up(), strike(conv, 2)))
        with pytest.warns(RuntimeWarning, match=r"raised SystemExit\(1\)"):
            result = conv.run()
        assert (result.status, result.exit_code) == (Status.INTERRUPTED, 130)
        assert ends(conv)["call_1_1"].rung in ("term", "kill")
        assert request_interrupt(conv.run_dir) is None


HOSTILE = """\
kill -INT 1; kill -TERM 1  # its own init, which heeds neither
ls {run} > seen; echo ii > {run}/control && echo written >> seen
kill -INT {agent} && echo signalled >> seen
find / -xdev -name control -type p >> seen
echo tried
"""


def test_a_tool_can_neither_signal_the_agent_nor_reach_the_pipe(
    tmp_path: Path, watch: Watch
) -> None:
    """An interrupt from within a tool: there is no way to one."""
    conv = talk(tmp_path, watch)
    script = HOSTILE.format(run=conv.run_dir, agent=os.getpid())
    with talk(tmp_path, watch, shell(f"trap '' INT TERM; ({script}) 2>/dev/null"), FINAL) as conv:
        result = conv.run()
        assert result.status is Status.DONE, result.reason
        (end,) = (event for event in conv.events if isinstance(event, Ended))
        assert "tried" in end.content
    assert (tmp_path / "work" / "seen").read_text() == ""
