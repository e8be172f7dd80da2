"""Where no fresh /proc can be mounted, tools get a copy of the starter's: what is said of others in
it is closed, covered or read-only, and what is said of themselves is right."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.inside.walls.landlock import OLDEST, landlock_abi
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import command, run, sandbox

pytestmark = pytest.mark.skipif(landlock_abi() < OLDEST, reason="needs Landlock")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    tmp_path.chmod(0o777)
    return tmp_path


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process outside that began before the sandbox, with a command line that no other has."""
    process = subprocess.Popen(["sleep", f"300.{observer.new_mark()}"])
    yield process
    process.kill()
    process.wait()


def in_sandbox(work: Path, main: Callable[[Cell], Coroutine[Any, Any, CallResult]]) -> CallResult:
    async def opened() -> CallResult:
        async with sandbox(work, plan="shared_proc") as cell:
            return await main(cell)

    return run(opened)


def run_in(work: Path, text: str) -> CallResult:
    return in_sandbox(work, lambda cell: cell.call(command(work, text)))


def test_what_runs_when_a_call_begins_is_covered(
    work: Path, bystander: subprocess.Popen[bytes]
) -> None:
    listed = f"$(ls /proc/{bystander.pid} | wc -l)"
    everyone = "cat /proc/*/cmdline 2>/dev/null"  # others come and go between the glob and the look
    mark = str(bystander.args[-1]).replace("3", "[3]", 1)  # which the looking shell does not match
    look = f"echo {listed} $({everyone} | tr '\\0' '\\n' | grep -acx '{mark}')"
    assert run_in(work, look).output.split() == ["0", "0"]


def test_threads_outside_are_covered_too(work: Path) -> None:
    go_on = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(go_on.wait)
        try:
            numbers = os.listdir("/proc/self/task")
            result = run_in(work, f"for n in {' '.join(numbers)}; do cat /proc/$n/cmdline; done")
        finally:
            go_on.set()
        assert waiting.result()
    assert len(numbers) > 1
    assert result.output.count("No such file") == len(numbers), result.output


def test_the_own_processes_are_shown(work: Path) -> None:
    seconds = f"9.{observer.new_mark()}"
    is_shown = f"cat /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -aqx '[9]{seconds[1:]}'"
    text = f"tr '\\0' ' ' < /proc/self/cmdline; until {is_shown}; do :; done; echo shown; kill $!"
    result = run_in(work, f"sleep {seconds} & {text}")
    assert result.output.split() == ["tr", "\\0", "shown"]


def test_another_call_that_begins_later_keeps_its_environment(work: Path) -> None:
    """It is not covered: its number and its command line are shown, and nothing else of it."""
    os.mkfifo(work / "go")
    (work / "go").chmod(0o666)
    look = """
    read line < go
    for folder in /proc/[0-9]*; do
        grep -aq 'later[-]call' $folder/cmdline 2>/dev/null || continue
        echo shown
        for name in environ mem maps; do cat $folder/$name 2>&1 | grep -a secret-of-the-call; done
        readlink $folder/fd/* $folder/cwd $folder/root; cat $folder/fd/1 2>/dev/null
    done
    echo looked
    """

    async def main(cell: Cell) -> CallResult:
        first = asyncio.create_task(cell.call(command(work, look)))
        heard = asyncio.Event()
        later = command(
            work,
            "echo later-call; sleep 9; true",
            env={"S": "secret-of-the-call"},
            on_output=lambda *_: heard.set(),
        )
        second = asyncio.create_task(cell.call(later))
        await heard.wait()
        await asyncio.to_thread((work / "go").write_text, "\n")
        result = await first
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        return result

    assert set(in_sandbox(work, main).output.split()) == {"shown", "looked"}


def test_nothing_in_it_can_be_written(work: Path, bystander: subprocess.Popen[bytes]) -> None:
    names = f"self/oom_score_adj self/comm {bystander.pid}/oom_score_adj sys/kernel/domainname"
    result = run_in(work, f"for n in {names}; do echo 1 > /proc/$n; done; echo > mine && ls")
    assert result.output.splitlines()[-1] == "mine"
    assert result.output.count("cannot create") + result.output.count("Read-only") >= 4


def test_no_user_namespace_can_be_made_below(work: Path) -> None:
    assert "refused" in run_in(work, "unshare -U true || echo refused").output


def test_background_processes_are_waited_for_and_named(work: Path) -> None:
    result = run_in(work, "(sleep 0.3; echo late > late) & setsid sleep 300 > /dev/null 2>&1 &")
    assert result.outcome is Outcome.OK
    assert result.detail == "1 process in the background ended with the call: sleep 300"
    assert (work / "late").read_text() == "late\n"


def test_the_largest_process_is_ended_where_no_group_counts(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox_agent_sandbox.policy import probe

    monkeypatch.setattr(probe, "find_places", lambda: None)
    eat = "python3 -c 'import time; kept = bytearray(200 << 20); time.sleep(20)'; echo went on"

    async def main() -> CallResult:
        limits = {"call_memory": "100MiB", "timeout": "30s"}
        async with sandbox(work, plan="shared_proc", limits=limits) as cell:
            return await cell.call(command(work, eat))

    result = run(main)
    assert "went on" in result.output
    assert [met.limit for met in result.limits] == ["call_memory"]
