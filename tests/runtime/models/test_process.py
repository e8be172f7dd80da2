"""The life of the model process, as those see it whose conversations need it: how many there are,
when it starts and ends, and what becomes of requests when it dies or hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import observer
import pytest
from provider import Answer, By, Script, Stub
from providing import (
    AT_ONCE,
    NOISE,
    chat,
    keys,
    model_of,
    model_processes,
    sh,
    struck,
    warm,
)
from sandbox_agent.journal.events import SegmentStarted
from sandbox_agent.journal.result import RunResult
from sandbox_agent.journal.status import Status
from sandbox_agent.models import DeltaKind, ModelDelta
from talking import Watch, ends, soon, talk

OK = Answer(text="Done.")


@pytest.fixture(autouse=True)
def with_keys() -> Iterator[None]:
    with keys():
        yield


def folders(parent: Path, count: int) -> list[Path]:
    made = [parent / str(number) for number in range(count)]
    for folder in made:
        folder.mkdir()
    return made


def test_one_process_serves_from_the_first_run_to_the_last_close_and_then_nothing_is_left(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        first, second = (chat(folder, Watch(), stub) for folder in folders(tmp_path, 2))
        async with second:
            async with first:
                both = await asyncio.gather(first.arun(), second.arun())
                assert [result.status for result in both] == [Status.DONE] * 2
                [pid] = model_processes(os.getpid())
            assert model_processes(os.getpid()) == [pid]
            second.send_message("still there?")
            assert (await second.arun()).status is Status.DONE
        assert observer.look(pid) is None
        assert before == {one.pid for one in observer.descendants(os.getpid())}

    before = {one.pid for one in observer.descendants(os.getpid())}
    with Stub([OK] * 3) as stub:
        asyncio.run(main())
        assert stub.violations == []


def test_a_variable_that_is_not_utf8_is_no_reason_to_fail(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD", os.fsdecode(b"b\xfcro"))
    with Stub([OK]) as stub, chat(tmp_path, watch, stub) as conversation:
        assert conversation.run().status is Status.DONE


def test_closed_or_interrupted_while_litellm_is_still_imported_it_returns_at_once(
    tmp_path: Path, watch: Watch
) -> None:
    with Stub([OK]) as stub:
        conv = chat(tmp_path, watch, stub)
        # The sandbox is there, so what the run waits for is the model.
        after = struck(conv.run, lambda: watch.wait_event(SegmentStarted), conv.interrupt)
        assert after.result.status is Status.INTERRUPTED
        assert after.seconds < AT_ONCE * NOISE
        after = struck(conv.run, lambda: watch.wait_event(SegmentStarted, 2), conv.close)
        assert after.result.status is Status.INTERRUPTED
        assert after.seconds < 0.5 * NOISE
        assert stub.requests == ()


def test_a_model_that_another_conversation_closes_fails_its_requests(
    tmp_path: Path,
) -> None:
    """Nobody has interrupted that run, so its record must not say so."""
    with Stub([Answer(text="late", hold_at=0)]) as stub:
        one, other = folders(tmp_path, 2)
        model = model_of(stub)
        with talk(one, Watch(), model=model) as first, talk(other, Watch(), model=model) as second:
            second.send_message("go")
            soon(lambda: (stub.wait_requests(1, 60), first.close()))
            result = second.run()
        assert (result.status, result.exit_code) == (Status.ERROR, 4)
        assert "give each conversation its own model" in result.reason


def test_a_killed_one_is_replaced_and_the_request_repeated_unseen(
    tmp_path: Path, watch: Watch
) -> None:
    deltas: list[ModelDelta] = []
    script = Script((sh("echo once >> once"), Answer(text="half and half", hold_at=3)), by=By.TURN)
    with Stub(script) as stub:
        with chat(tmp_path, watch, stub, on_delta=deltas.append) as conv:
            killed: list[int] = []

            def ready() -> None:
                stub.wait_events(1, 3)

            def kill() -> None:
                killed.extend(model_processes(os.getpid()))
                os.kill(killed[0], signal.SIGKILL)
                stub.wait_requests(3, timeout=60)
                stub.open()

            result = struck(conv.run, ready, kill).result
            assert (result.status, result.message) == (Status.DONE, "half and half")
            assert len(ends(conv)) == 1
            [replaced] = model_processes(os.getpid())
            assert replaced != killed[0]
            restarts = [delta for delta in deltas if delta.kind is DeltaKind.RESTART]
            assert len(restarts) == 1 and "replaced" in restarts[0].text
            # Idle is no time to die, either.
            os.kill(replaced, signal.SIGKILL)
            conv.send_message("and on")
            assert conv.run().status is Status.DONE
        assert stub.violations == []
        assert (tmp_path / "work" / "once").read_text() == "once\n"


def test_a_wedged_one_is_ended_within_grace_and_term_and_who_shared_it_is_answered(
    tmp_path: Path,
) -> None:
    """Its process is stopped, so it ignores the cancellation."""

    async def main() -> None:
        one, other = (chat(folder, Watch(), stub) for folder in folders(tmp_path, 2))
        one.send_message("wedged")
        async with one, other:
            tasks = [asyncio.create_task(each.arun()) for each in (one, other)]
            await asyncio.to_thread(stub.wait_requests, 2)
            [pid] = model_processes(os.getpid())
            os.kill(pid, signal.SIGSTOP)
            begin = time.monotonic()
            one.interrupt()
            result: RunResult = await tasks[0]
            seconds = time.monotonic() - begin
            assert result.status is Status.INTERRUPTED
            assert 0.5 <= seconds < 0.5 + 0.5 + 0.15 * NOISE  # grace and term of `talk`
            assert observer.look(pid) is None
            stub.open()
            assert (await tasks[1]).status is Status.DONE
            one.send_message("again")
            assert (await one.arun()).status is Status.DONE

    held = Answer(text="Done.", hold_at=0)
    with Stub(lambda request: held) as stub:
        asyncio.run(main())
        assert stub.violations == []


def test_interrupts_by_the_dozen_cost_the_others_nothing_but_time(tmp_path: Path) -> None:
    async def main() -> None:
        one, other = (chat(folder, Watch(), stub) for folder in folders(tmp_path, 2))
        one.send_message("struck")
        async with one, other:
            tasks = [asyncio.create_task(each.arun()) for each in (one, other)]
            await asyncio.to_thread(stub.wait_requests, 2)
            [pid] = model_processes(os.getpid())
            for _ in range(12):
                one.interrupt()
            assert (await tasks[0]).status is Status.INTERRUPTED
            stub.open()
            assert (await tasks[1]).status is Status.DONE
            assert model_processes(os.getpid()) == [pid]

    with Stub(lambda request: Answer(text="Done.", hold_at=0)) as stub:
        asyncio.run(main())
        assert stub.violations == []
        assert len(stub.requests) == 2


FORKED = """
import asyncio, os, sys
from pathlib import Path
from sandbox_agent.conversation import Conversation
from sandbox_agent.models.provider import ProviderModel

base, folder = sys.argv[1:]

def conversation(name):
    model = ProviderModel("openai/gpt-4o", api_base=base)
    runs = f"{folder}/{name}"
    return Conversation(model=model, tools=["shell"], workspace=folder, output_dir=runs)

def run(conv, text):
    conv.send_message(text)
    return conv.run().message

with conversation("parent") as parent:
    print("parent", run(parent, "before"), flush=True)
    pid = os.fork()
    if pid == 0:
        try:
            with conversation("child") as own:
                print("child", run(own, "of a fork"), flush=True)
            parent.close()  # inherited, and not its own
            print("child closed", flush=True)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    print("parent", run(parent, "after"), flush=True)
print("litellm" in sys.modules)
"""


def test_a_fork_starts_its_own_process_and_leaves_the_other_alone(tmp_path: Path) -> None:
    with Stub([Answer(text=str(number)) for number in range(3)]) as stub:
        done = subprocess.run(
            [sys.executable, "-c", FORKED, stub.openai_base, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.stdout.splitlines() == [
            "parent 0",
            "child 1",
            "child closed",
            "parent 2",
            "False",
        ], done.stderr
        assert done.stderr == ""
        assert stub.violations == []


def test_a_hundred_requests_and_interrupts_leave_what_was_there_before(tmp_path: Path) -> None:
    """Slots, pipes, threads and memory of the host."""

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with warm(), Stub(lambda request: Answer(text="a b c", hold_at=2)) as stub:
        # Without spares, which are made when there is time for it.
        with chat(tmp_path, Watch(), stub, spares=0) as conv:
            struck(conv.run, lambda: stub.wait_events(0, 2), conv.interrupt)
            before = held()
            for number in range(1, 71):  # more than a board has slots
                after = struck(
                    conv.run, lambda number=number: stub.wait_events(number, 2), conv.interrupt
                )
                assert after.result.status is Status.INTERRUPTED

            def no_more() -> bool:
                return all(now <= then for now, then in zip(held(), before, strict=True))

            # The stub is here as well, and lets go of its connections when its own loop comes by.
            assert observer.eventually(no_more, 20), (held(), before)
        assert stub.violations == []
