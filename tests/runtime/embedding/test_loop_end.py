"""An exception of a signal handler may leave the event loop: the work stops all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import observer
import paths
import pytest
import talking
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.events import CancelRequested, SegmentEnded
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from talking import FINAL, Watch, shell, sleeper, soon, talk

STUBBORN = "trap '' INT TERM; echo up; while :; do sleep 300.{mark}; done"


@pytest.fixture
def mark() -> Iterator[str]:
    mark = observer.new_mark()
    yield mark
    assert observer.marked(mark) == []


async def aclose(conv: Conversation) -> None:
    await conv.aclose()


@pytest.fixture(params=[SystemExit, KeyboardInterrupt])
def raised(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """What the handler of SIGUSR1 raises."""
    kind: type[BaseException] = request.param

    def handler(number: int, frame: object) -> None:
        raise kind

    before = signal.signal(signal.SIGUSR1, handler)
    yield kind
    signal.signal(signal.SIGUSR1, before)


def strike() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def strike_twice(watch: Watch) -> None:
    """Once in the run, and once while the loop, left, waits for its tasks to end."""
    watch.wait_up()
    strike()
    watch.wait_event(CancelRequested)
    strike()


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + talking.DEADLINE
    while not condition() and time.monotonic() < end:
        threading.Event().wait(0.005)


def is_ending() -> bool:
    """Whether the main thread waits for the work of a run whose loop is closed. A moment before, an
    exception would leave the loop's own `close`."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    names = [frame.f_code.co_name for frame, _ in traceback.walk_stack(frame)]
    return "wait_until_over" in names and "_end_without_loop" in names


def check_ended(conv: Conversation) -> None:
    assert conv.wait_stopped(0)
    record = read_record(conv.run_dir)
    assert record.status is conv.status is Status.INTERRUPTED
    assert isinstance(conv.events[-1], SegmentEnded)
    assert set(talking.ends(conv)) == {"call_1_1"}
    assert record.calls[0].started == "yes"
    assert not (conv.run_dir / "control").exists()


def by_run(conv: Conversation) -> None:
    conv.run()


def by_arun(conv: Conversation) -> None:
    asyncio.run(conv.arun())


WAYS = pytest.mark.parametrize("way", [by_run, by_arun])


@WAYS
def test_a_second_exception_of_a_signal_handler_is_raised_after_the_work_has_stopped(
    tmp_path: Path,
    watch: Watch,
    mark: str,
    raised: type[BaseException],
    way: Callable[[Conversation], None],
) -> None:
    with talk(tmp_path, watch, shell(STUBBORN.format(mark=mark)), FINAL) as conv:
        soon(lambda: strike_twice(watch))
        with pytest.raises(raised):
            way(conv)
        assert observer.marked(mark) == []
        check_ended(conv)
        # Nothing is left of it for the next run, which has the same sandbox.
        assert conv.run().status is Status.DONE


@WAYS
def test_a_third_exception_skips_the_grace_period(
    tmp_path: Path,
    watch: Watch,
    mark: str,
    raised: type[BaseException],
    way: Callable[[Conversation], None],
) -> None:
    command, limits = shell(STUBBORN.format(mark=mark)), Interrupt(60, 0.3)
    with talk(tmp_path, watch, command, FINAL, interrupt=limits) as conv:
        soon(lambda: (strike_twice(watch), wait_until(is_ending), strike()))
        begun = time.monotonic()
        with pytest.raises(raised):
            way(conv)
        assert time.monotonic() - begun < 30
        assert observer.marked(mark) == []
        check_ended(conv)


def test_ctrl_c_again_and_again_under_asyncio_run_leaves_no_work(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    """The first cancels the task, the second leaves its loop, the third leaves the loop's end."""
    with talk(tmp_path, watch, shell(STUBBORN.format(mark=mark)), FINAL) as conv:

        def press() -> None:
            watch.wait_up()
            os.kill(os.getpid(), signal.SIGINT)
            watch.wait_event(CancelRequested)
            os.kill(os.getpid(), signal.SIGINT)
            # asyncio's handler is gone as soon as the second one has left the loop.
            wait_until(lambda: signal.getsignal(signal.SIGINT) is signal.default_int_handler)
            os.kill(os.getpid(), signal.SIGINT)

        soon(press)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(conv.arun())
        assert observer.marked(mark) == []
        check_ended(conv)


@pytest.mark.parametrize(
    "close", [Conversation.close, lambda conv: asyncio.run(aclose(conv))], ids=["close", "aclose"]
)
def test_close_ends_a_run_whose_loop_was_left(
    tmp_path: Path,
    watch: Watch,
    mark: str,
    raised: type[BaseException],
    close: Callable[[Conversation], object],
) -> None:
    loop = asyncio.new_event_loop()
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        soon(lambda: (watch.wait_up(), strike()))
        with pytest.raises(raised):
            loop.run_until_complete(conv.arun())
        close(conv)
        assert observer.marked(mark) == []
        check_ended(conv)
    # Running that loop once more changes nothing in the journal or the record.
    events, record = conv.events, read_record(conv.run_dir)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert (conv.events, read_record(conv.run_dir)) == (events, record)


LEAVE = """
import asyncio, os, signal, sys, threading
from pathlib import Path
sys.path.append({here!r})
from talking import FINAL, Watch, shell, talk
watch = Watch()
conv = talk(Path({folder!r}), watch, shell({command!r}), FINAL)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(3))
def strike():
    watch.wait_up()
    signal.raise_signal(signal.SIGUSR1)
threading.Thread(target=strike).start()
loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(conv.arun())
except SystemExit:
    pass
if (child := os.fork()) == 0:
    conv.close()  # the run is not this one's
    sys.exit(0)
os.waitpid(child, 0)
print(conv.run_dir, conv.status, flush=True)
sys.exit(3)
"""


def test_the_exit_of_the_program_ends_a_run_whose_loop_was_left(tmp_path: Path, mark: str) -> None:
    code = LEAVE.format(
        here=str(paths.TESTS / "support"), folder=str(tmp_path), command=sleeper(mark)
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3, done.stderr
    assert observer.marked(mark) == []
    folder, status = done.stdout.split()
    assert status in ("running", "interrupted")  # where the signal struck is the loop's luck
    assert read_record(Path(folder)).status is Status.INTERRUPTED


@WAYS
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_the_exit_that_a_listener_calls_at_the_end_is_raised_after_the_record(
    tmp_path: Path, watch: Watch, kind: type[BaseException], way: Callable[[Conversation], None]
) -> None:
    def also(event: object) -> None:
        if isinstance(event, SegmentEnded):
            raise kind

    with talk(tmp_path, watch, FINAL) as conv:
        watch.also = also
        with pytest.raises(kind):
            way(conv)
        assert conv.status is read_record(conv.run_dir).status is Status.DONE
        assert [type(event) for event in conv.events].count(SegmentEnded) == 1
