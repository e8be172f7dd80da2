"""The blocking form of a sandbox without a model."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import observer
import pytest
from sandbox_agent import CancelReason, Outcome, RunToken, Sandbox, StateError
from sandbox_agent.journal.result_file import read_record

STUBBORN = "trap '' INT TERM; echo up; while :; do sleep 0.05; done"


def test_a_program_without_an_event_loop_runs_and_calls(tmp_path: Path) -> None:
    with Sandbox(None, tmp_path) as box:
        assert box.run(["cat"], stdin="hello").stdout == b"hello"
        assert box.call("shell", {"command": "exit 3"}).exit_status == 3
        assert "shell" in [spec.name for spec in box.tools]
        assert (box.run_dir, box.survivors) == (None, ())
    with pytest.raises(StateError, match="closed"):
        box.run(["true"])


def test_it_opens_and_closes_without_a_block(tmp_path: Path) -> None:
    box = Sandbox(None, tmp_path).open_blocking()
    assert box.run(["true"]).ok
    assert box.close() == ()
    with Sandbox(None, tmp_path).open_blocking() as another:
        assert another.run(["true"]).ok


def test_threads_share_it(tmp_path: Path) -> None:
    with Sandbox(None, tmp_path) as box, ThreadPoolExecutor(4) as threads:
        results = threads.map(lambda number: box.run(["echo", str(number)]), range(12))
        assert [result.stdout_text for result in results] == [f"{n}\n" for n in range(12)]


def test_a_token_of_the_program_stops_one_call(tmp_path: Path) -> None:
    token = RunToken()
    with Sandbox(None, tmp_path, interrupt=(0.2, 0.2)) as box:
        cancel = lambda stream, data: token.cancel(CancelReason.CANCEL_CALL)  # noqa: E731
        result = box.run(["bash", "-c", STUBBORN], token=token, on_output=cancel)
        assert (result.outcome, result.detail) == (Outcome.KILLED, "cancel_call")
        assert box.run(["true"]).ok


@pytest.mark.parametrize(("presses", "grace"), [(1, 0.3), (2, 60.0)])
def test_ctrl_c_stops_the_call_first_and_a_second_one_skips_the_grace_period(
    tmp_path: Path, presses: int, grace: float
) -> None:
    mark = observer.new_mark()
    says_int = "trap 'echo int' INT; trap '' TERM; echo up; while :; do sleep 0.05; done"
    line = f"setsid sleep 300.{mark} & {says_int}"
    at = ["up", "int"][:presses]

    def press(stream: str, data: bytes) -> None:
        if at and at[0].encode() in data:
            at.pop(0)
            os.kill(os.getpid(), signal.SIGINT)

    box = Sandbox(None, tmp_path, interrupt=(grace, 0.2), journal=tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt), box as blocking:
        blocking.run(["bash", "-c", line], on_output=press)
    assert observer.marked(mark) == []
    assert box.run_dir is not None
    record = read_record(box.run_dir)
    assert [call.outcome for call in record.calls] == [Outcome.KILLED]
    assert (record.status.value, record.exit_code) == ("interrupted", 130)


def test_where_a_loop_is_running_it_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(StateError, match="async with"), Sandbox(None, tmp_path):
            pass

    asyncio.run(main())
