"""What a call leaves behind: it gets a moment to finish, and what then ends with it is said."""

from __future__ import annotations

import gzip
import subprocess
import time
from pathlib import Path

import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import Result, ResultKind
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.host.verdict import _left
from sandbox_agent_sandbox.inside.worker import leftovers
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import command, function, run, sandbox, until


def call(workspace: Path, text: str) -> CallResult:
    async def main() -> CallResult:
        async with sandbox(workspace) as cell:
            return await cell.call(command(workspace, text))

    return run(main)


def call_python(workspace: Path, module: str, name: str) -> CallResult:
    async def main() -> CallResult:
        async with sandbox(workspace) as cell:
            return await cell.call(function(workspace, module, name, {}))

    return run(main)


def test_a_process_substitution_finishes_its_file(tmp_path: Path) -> None:
    result = call(tmp_path, "seq 1 300000 | tee >(sort > sorted) >(gzip > all.gz) | tail -1")
    assert (result.outcome, result.output, result.detail) == (Outcome.OK, "300000\n", "")
    assert len((tmp_path / "sorted").read_text().splitlines()) == 300_000
    assert gzip.decompress((tmp_path / "all.gz").read_bytes()).count(b"\n") == 300_000


def test_what_is_still_there_ends_with_the_call_and_is_named(tmp_path: Path) -> None:
    result = call(tmp_path, "sleep 987 & sleep 986 & echo started; exit 3")
    assert (result.outcome, result.exit_status) == (Outcome.ERROR, 3)
    assert result.detail == (
        "2 processes in the background ended with the call: sleep 987, sleep 986"
    )


def test_a_tool_that_leaves_its_worker_no_descriptors_has_its_own_result(tmp_path: Path) -> None:
    result = call(tmp_path, "prlimit --pid $PPID --nofile=0:0 && echo hi; exit 3")
    assert (result.outcome, result.exit_status, result.output) == (Outcome.ERROR, 3, "hi\n")


_TAKES = """
import os, resource
from concurrent.futures import ThreadPoolExecutor

def _opened() -> None:
    global file, pool
    file = open("file", "w")
    file.write("all of it")
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()

def lowers_the_limit() -> str:
    _opened()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    return "done"

def takes_them_all() -> str:
    _opened()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.dup(2)
    except OSError:
        return "done"

def takes_all_memory() -> str:
    _opened()
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used, used))
    return "done"
"""


@pytest.mark.parametrize("name", ["lowers_the_limit", "takes_them_all", "takes_all_memory"])
def test_a_python_tool_that_leaves_its_worker_nothing_has_its_own_result(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "takes.py").write_text(_TAKES)

    result = call_python(tmp_path, "takes", name)
    assert (result.outcome, result.content, result.detail) == (Outcome.OK, "done", "")
    assert (tmp_path / "file").read_text() == "all of it"


def test_a_daemon_that_holds_no_output_is_not_waited_for_but_named(tmp_path: Path) -> None:
    text = "setsid sleep 987 >/dev/null 2>&1 </dev/null & while ! pgrep -x sleep; do :; done"
    result = call(tmp_path, text)
    assert result.detail == "1 process in the background ended with the call: sleep 987"


def test_a_daemon_that_closes_its_output_later_ends_the_wait(tmp_path: Path) -> None:
    # It holds the output until the command has ended, and a moment longer.
    ended = "while kill -0 $$ 2>/dev/null; do sleep 0.01; done"
    result = call(tmp_path, f"({ended}; exec sleep 987 >&- 2>&- 3>closed) & echo done")
    assert (tmp_path / "closed").exists()
    assert result.detail == "1 process in the background ended with the call: sleep 987"


def test_a_python_tools_children_are_named_too_but_not_pythons_own_helpers(tmp_path: Path) -> None:
    (tmp_path / "starts.py").write_text(
        "import subprocess\n"
        "from multiprocessing import resource_tracker\n"
        "def starts() -> str:\n"
        "    resource_tracker.ensure_running()\n"
        "    subprocess.Popen(['sleep', '987'], stdout=subprocess.DEVNULL,\n"
        "                     stderr=subprocess.DEVNULL)\n"
        "    return 'started'\n"
    )

    result = call_python(tmp_path, "starts", "starts")
    assert (result.outcome, result.content) == (Outcome.OK, "started")
    assert result.detail == "1 process in the background ended with the call: sleep 987"


def test_the_arguments_of_a_process_that_is_just_being_made_are_waited_for() -> None:
    # Popen returns in the middle of the child's execve(2), when its arguments cannot be read yet.
    for _ in range(100):
        with subprocess.Popen(["sleep", "987"]) as process:
            said = leftovers._command(process.pid, time.monotonic() + 20)
            process.kill()
        assert said == "sleep 987"


_THREADS = """
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def works() -> str:
    global file, pool, processes
    processes = ProcessPoolExecutor(1)
    processes.submit(int).result()
    file = open("file", "w")
    file.write("all of it")
    begun = threading.Event()
    def late() -> None:
        begun.wait()
        threading.Event().wait(0.3)
        open("late", "w").write("late")
    threading.Thread(target=late).start()
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    begun.set()
    return "done"

def hangs() -> str:
    threading.Thread(target=threading.Event().wait, name="for ever").start()
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return "done"

def speaks() -> str:
    import sys
    sys.__stdout__.write("said")
    return "done"

def speaks_late() -> str:
    import sys
    begun = threading.Event()
    def late() -> None:
        begun.wait()
        threading.Event().wait(0.1)
        print("late", end="")
    print("said, ", end="")
    threading.Thread(target=late).start()
    begun.set()
    return "done"

def is_silent() -> str:
    import sys
    sys.stdout.close()
    return "done"

def has_none() -> str:
    import sys
    sys.stdout = None
    return "done"

def turns_away() -> str:
    import sys
    class Other:
        def write(self, text: str) -> int:
            return len(text)
    print("said", end="")
    sys.stdout = Other()
    print("unheard", end="")
    return "done"

def loses_its_words() -> str:
    import sys
    class Broken:
        closed = False
        def flush(self) -> None:
            raise ValueError("broken")
    sys.stdout = Broken()
    return "done"

def full() -> str:
    global file
    file = open("/dev/full", "w")
    file.write("lost")
    return "done"
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("works", ""),
        ("speaks", "said"),
        ("speaks_late", "said, late"),
        ("is_silent", ""),
        ("has_none", ""),
        ("turns_away", "said"),
        (
            "hangs",
            "sandbox-agent: 1 thread was still at work when the tool returned, and ended with the "
            "call: for ever\n",
        ),
        (
            "full",
            "sandbox-agent: what the tool wrote to '/dev/full' is lost: [Errno 28] No space left "
            "on device\n",
        ),
    ],
)
def test_a_python_tools_threads_and_open_files_are_finished_or_said(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "threads.py").write_text(_THREADS)

    result = call_python(tmp_path, "threads", name)
    assert (result.outcome, result.content, result.output) == (Outcome.OK, "done", said)
    if name == "works":
        assert (tmp_path / "file").read_text() == "all of it"
        assert (tmp_path / "late").read_text() == "late"


def test_a_stream_that_the_tool_broke_costs_its_words_and_not_its_result(tmp_path: Path) -> None:
    (tmp_path / "threads.py").write_text(_THREADS)

    result = call_python(tmp_path, "threads", "loses_its_words")
    assert (result.outcome, result.content) == (Outcome.OK, "done")
    said = "sandbox-agent: what the tool printed is lost: ValueError\n"
    assert said in result.output


def test_an_interrupt_ends_the_wait_and_what_is_waited_for(tmp_path: Path) -> None:
    async def main() -> CallResult:
        import asyncio

        token = RunToken()
        async with sandbox(tmp_path, grace=20, term=20) as cell:
            waits = "until [ -e started ]; do sleep 0.01; done"
            holds = f"(trap '' INT; {waits}; echo > up; while :; do sleep 0.05; done)"
            text = f"{holds} & echo started; echo > started"
            going = asyncio.create_task(cell.call(command(tmp_path, text), token=token))
            await until((tmp_path / "up").exists)
            token.cancel(CancelReason.INTERRUPT)
            return await going

    result = run(main)  # the grace period of 20 s is not used up
    assert result.outcome in (Outcome.CANCELLED, Outcome.OK)
    assert result.output == "started\n"


@pytest.mark.parametrize(
    ("names", "count", "text"),
    [
        ((), 0, ""),
        ((), -3, ""),
        (("a", "b"), 2, "2 processes in the background ended with the call: a, b"),
        (("x" * 500,), 1, f"1 process in the background ended with the call: {'x' * 100}"),
        (("a",) * 20, 2**40, f"{', '.join('a' * 8)}, {2**40 - 8} more"),
    ],
)
def test_what_a_worker_reports_is_bounded(names: tuple[str, ...], count: int, text: str) -> None:
    said = _left(Result(ResultKind.OK, "", left=names, left_count=count))
    assert said.endswith(text) and len(said) < 1000
    assert bool(said) == bool(text)
