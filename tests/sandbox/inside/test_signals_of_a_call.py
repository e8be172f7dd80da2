"""A call's processes that signal their worker, or everything, and storms of them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import observer
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.inside.call_init import REAPED_AT_ONCE
from sandbox_agent_sandbox.inside.init import _reap
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import command, function, run, sandbox, until
from worker_child import WorkerChild


def call(workspace: Path, text: str) -> CallResult:
    async def main() -> CallResult:
        async with sandbox(workspace) as cell:
            return await cell.call(command(workspace, text))

    return run(main)


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT", "HUP", "USR1", "ALRM", "URG", "RTMIN"])
@pytest.mark.parametrize("target", ["$PPID", "-1"])
def test_a_signal_of_the_command_to_its_worker_has_no_effect(
    tmp_path: Path, name: str, target: str
) -> None:
    # kill(2) with -1 leaves out the sender. The shell's own builtin is the sender.
    result = call(tmp_path, f"kill -{name} {target}; echo alive; exit 3")
    assert (result.outcome, result.output, result.exit_status) == (Outcome.ERROR, "alive\n", 3)
    assert (result.content, result.detail) == ("", "")


def test_sigkill_of_the_command_to_its_worker_is_said_to_come_from_the_call(
    tmp_path: Path,
) -> None:
    result = call(tmp_path, "kill -KILL $PPID; sleep 300")
    assert result.outcome is Outcome.CRASHED
    assert result.detail.startswith("its worker was ended by SIGKILL: a process of this call sent")


def test_a_python_tool_goes_on_when_its_child_sends_it_sigterm(tmp_path: Path) -> None:
    (tmp_path / "signalled.py").write_text(
        "import subprocess\n"
        "def signalled() -> str:\n"
        "    subprocess.run(['sh', '-c', 'kill $PPID'])\n"
        "    return 'went on'\n"
    )

    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            return await cell.call(function(tmp_path, "signalled", "signalled", {}))

    result = run(main)
    assert (result.outcome, result.content) == (Outcome.OK, "went on")


def test_a_tool_inside_c_code_at_sigterm_gets_no_message_of_ours_into_its_output(
    tmp_path: Path,
) -> None:
    (tmp_path / "busy.py").write_text(
        "def busy() -> str:\n    open('up', 'w').close()\n    return str(sum(range(60_000_000)))\n"
    )

    async def main() -> list[CallResult]:
        results = []
        async with sandbox(tmp_path, grace=0.05, term=40) as cell:
            for _ in range(3):
                token = RunToken()
                request = function(tmp_path, "busy", "busy", {})
                going = asyncio.create_task(cell.call(request, token=token))
                await until((tmp_path / "up").exists)
                (tmp_path / "up").unlink()
                token.cancel(CancelReason.INTERRUPT)
                results.append(await going)
        return results

    for result in run(main):
        assert result.outcome is Outcome.CANCELLED
        assert result.output == "", "Signal 23 ignored due to race condition"


STORM = """
import os
for _ in range(6):
    os.fork()
open("up", "w").close()
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            for _ in range(3):
                if os.fork() == 0:
                    os._exit(0)
            os._exit(0)
        os.waitpid(-1, 0)
    except OSError:
        pass
"""


def test_a_storm_of_short_lived_processes_keeps_no_sigterm_and_no_new_call_waiting(
    tmp_path: Path,
) -> None:
    mark = observer.new_mark()
    (tmp_path / "storm.py").write_text(STORM)
    waits = (
        "trap '' INT; trap 'echo at TERM; exit 4' TERM; echo > waits; while :; do sleep 0.05; done"
    )

    async def main() -> tuple[CallResult, float, CallResult]:
        token = RunToken()
        async with sandbox(tmp_path, grace=0.1, term=20) as cell:
            text = f"trap '' INT; python3 storm.py {mark} & {waits}"
            going = asyncio.create_task(cell.call(command(tmp_path, text), token=token))
            await until(lambda: (tmp_path / "up").exists() and (tmp_path / "waits").exists())
            other = await cell.call(command(tmp_path, "echo another"))
            assert await asyncio.to_thread(cell.freeze, 20)
            cell.thaw()
            begin = time.monotonic()
            token.cancel(CancelReason.INTERRUPT)
            return await going, time.monotonic() - begin, other

    result, seconds, other = run(main)
    assert other.output == "another\n"
    assert result.outcome is Outcome.CANCELLED
    assert "at TERM" in result.output
    assert seconds < 10, "the command ended at SIGTERM, half a second after the flag"
    assert observer.marked(mark) == []


def test_reaping_is_bounded_between_two_looks_at_messages() -> None:
    """A reaping loop without a bound went on for seconds in a storm: always one more had ended."""

    def reaps() -> list[bool]:
        for _ in range(REAPED_AT_ONCE + 1):
            if os.fork() == 0:
                os._exit(0)
        while len(children_that_ended()) <= REAPED_AT_ONCE:
            pass
        more = [_reap(int), _reap(int)]
        assert children_that_ended() == []
        return more

    with WorkerChild(lambda token: reaps()) as child:
        ended = child.ended()
    assert (ended.raised, ended.value) == ("", [True, False])


def children_that_ended() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        pids = file.read().split()
    return [int(pid) for pid in pids if _is_zombie(int(pid))]


def _is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()
