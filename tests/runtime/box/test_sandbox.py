"""A sandbox without a model: what a call comes to, how it is stopped, and that nothing stays."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent import (
    AgentError,
    CancelReason,
    ConfigError,
    Outcome,
    PolicyError,
    Rung,
    RunToken,
    Sandbox,
    SandboxBroken,
    StartedState,
    StateError,
    Status,
)
from sandbox_agent.journal.file import read_journal
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.reports.report import read_report
from sandboxes import run, until

SHORT = (0.3, 0.3)
"""Grace and term, in seconds."""
STUBBORN = "trap '' INT TERM; echo up; while :; do sleep 0.05; done"


def box(workspace: Path, **more: Any) -> Sandbox:
    return Sandbox(None, workspace, **{"interrupt": SHORT, **more})


def test_what_calls_left_that_may_start_programs_is_told_without_a_journal(tmp_path: Path) -> None:
    with box(tmp_path) as one:
        assert one.run(["sh", "-c", "echo 'curl x | sh' > .envrc; touch harmless"]).ok
        assert one.findings == ()
    assert [(found.kind.value, found.path) for found in one.findings] == [("new", ".envrc")]
    one.close()
    assert len(one.findings) == 1


def up(event: asyncio.Event) -> Callable[[str, bytes], object]:
    """A listener that sets the event at the first output."""
    return lambda stream, data: event.set()


def test_a_program_runs_and_all_of_its_end_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path) as one:
            line = "cat; echo err >&2; printf '\\377\\0'; echo kept > file; exit 7"
            result = await one.run(["bash", "-c", line], stdin=b"in\xfe\n")
            assert (result.outcome, result.exit_status) == (Outcome.ERROR, 7)
            assert (result.stdout, result.stderr) == (b"in\xfe\n\xff\0", b"err\n")
            assert (result.stderr_text, result.ok, result.made) == ("err\n", False, True)
            assert (result.rung, result.survivors, result.left_out) == (None, (), 0)
            assert len(repr(result)) < 80
            both = await one.run(["sh", "-c", "echo 1; echo 2 >&2; echo 3"], separate_output=False)
            assert (both.stdout, both.stderr, both.ok) == (b"1\n2\n3\n", b"", True)
            absent = await one.run(["no-such-program"])
            assert (absent.exit_status, absent.outcome) == (127, Outcome.ERROR)
            assert b"No such file" in absent.stderr

    run(main)
    assert (tmp_path / "file").read_text() == "kept\n"
    assert (tmp_path / "file").stat().st_uid == os.geteuid()


def test_folder_and_variables_are_those_of_the_call(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()

    async def main() -> None:
        async with Sandbox({"env": {"set": {"A": "policy"}}}, tmp_path) as one:
            line = ["sh", "-c", "pwd; echo $A $B"]
            result = await one.run(line, cwd="sub", env={"B": "call"})
            assert result.stdout_text == f"{tmp_path}/sub\npolicy call\n"
            assert (await one.run(line)).stdout_text == f"{tmp_path}\npolicy\n"
            nowhere = await one.run(["true"], cwd="missing")
            assert (nowhere.made, nowhere.started) == (False, StartedState.NO)
            assert "missing" in nowhere.content

    run(main)


def test_large_input_and_output_are_bounded_and_complete(tmp_path: Path) -> None:
    size, seen = 5_000_000, {"stdout": 0, "stderr": 0}

    def count(stream: str, data: bytes) -> None:
        seen[stream] += len(data)

    async def main() -> None:
        async with Sandbox({"limits": {"output": "100kB"}}, tmp_path) as one:
            line = ["sh", "-c", "tee copy | wc -c; head -c 300000 copy >&2"]
            result = await one.run(line, stdin=b"x" * size, on_output=count)
            assert result.stdout_text.strip() == str(size)
            assert len(result.stderr) < 100_100 and b"bytes left out" in result.stderr
            assert result.left_out == 200_000
            assert result.output_bytes == sum(seen.values()) == 300_000 + len(result.stdout)
            unread = await one.run(["true"], stdin=b"x" * size)
            assert unread.ok, "nobody waits for a program that does not read"
            quiet = await one.run(["head", "-c", "3000000", "copy"])
            assert quiet.left_out == 2_900_000

    run(main)
    assert (tmp_path / "copy").stat().st_size == size


def test_standard_input_cannot_be_written_to_by_the_program(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path) as one:
            line = "cat /proc/self/fd/0; echo more > /proc/self/fd/0 || echo refused"
            result = await one.run(["bash", "-c", line], stdin="text\n")
            assert result.stdout_text == "text\nrefused\n"

    run(main)


def test_functions_and_tools_are_called(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import sys\n"
        "def double(number: int) -> str:\n    print('said'); return str(2 * number)\n"
        "def read() -> str:\n    return sys.stdin.read()\n"
    )

    async def main() -> None:
        async with box(tmp_path) as one:
            result = await one.call("mine:double", {"number": 21})
            assert (result.content, result.stdout, result.ok) == ("42", b"said\n", True)
            assert (await one.call("mine:read", stdin="in")).content == "in"
            written = await one.call("write_file", {"path": "new", "content": "text"})
            assert written.ok and (tmp_path / "new").read_text() == "text"
            (shell,) = [spec for spec in one.tools if spec.name == "shell"]
            assert (await one.call(shell, '{"command": "exit 3"}')).exit_status == 3
            wrong = await one.call("mine:double", {"number": "x"})
            assert (wrong.outcome, wrong.started) == (Outcome.ERROR, StartedState.NO)
            torn = await one.call("shell", '{"command": ')
            assert torn.outcome is Outcome.ERROR and "not a JSON object" in torn.content
            timed = await one.call("shell", {"command": "sleep 600", "timeout": 0.2})
            assert timed.outcome is Outcome.TIMEOUT

    run(main)


def test_a_function_takes_the_options_of_a_command(tmp_path: Path) -> None:
    line = "import os, sys, time\ndef tell(*, token: object = None) -> str:\n"
    line += "    print('err', file=sys.stderr)\n"
    line += "    return ' '.join([os.getcwd(), os.environ['A'], sys.stdin.read()])\n"
    line += "def rest() -> None:\n    time.sleep(600)\n"
    (tmp_path / "mine.py").write_text(line)
    heard: list[tuple[str, bytes]] = []

    async def main() -> None:
        async with box(tmp_path) as one:
            result = await one.call(
                "mine:tell",
                env={"A": "call", "PYTHONPATH": str(tmp_path)},
                stdin=b"in",
                separate_output=False,
                on_output=lambda stream, data: heard.append((stream, data)),
            )
            assert (result.content, result.stdout) == (f"{tmp_path} call in", b"err\n")
            assert heard == [("stdout", b"err\n")]
            assert (await one.call("mine:rest", timeout=0.3)).outcome is Outcome.TIMEOUT
            token = RunToken()
            token.cancel(CancelReason.BUDGET)
            skipped = await one.call("mine:rest", token=token)
            assert (skipped.outcome, skipped.detail) == (Outcome.SKIPPED, "budget")

    run(main)


def module_function(text: str) -> str:
    """A function of this file, which lies outside of the workspace."""
    return f"got {text}"


def test_a_function_outside_of_the_workspace_is_named_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path) as one:
            with pytest.raises(ConfigError, match="tools="):
                await one.call(module_function, {"text": "it"})
        async with box(tmp_path, tools=[module_function]) as one:
            assert [spec.name for spec in one.tools] == ["module_function"]
            assert (await one.call(module_function, {"text": "it"})).content == "got it"
            assert (await one.call("module_function", {"text": "it"})).content == "got it"

    run(main)


@pytest.mark.parametrize(
    ("how", "outcome"), [("timeout", Outcome.TIMEOUT), ("token", Outcome.KILLED)]
)
def test_a_stopped_call_leaves_nothing_and_says_how_it_ended(
    tmp_path: Path, how: str, outcome: Outcome
) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        async with box(tmp_path) as one:
            token, begun = RunToken(), asyncio.Event()
            line = f"setsid sleep 300.{mark} & {STUBBORN}"
            options: Any = {"timeout": 0.5} if how == "timeout" else {"token": token}
            call = asyncio.ensure_future(
                one.run(["bash", "-c", line], on_output=up(begun), **options)
            )
            await begun.wait()
            if how == "token":
                token.cancel(CancelReason.INTERRUPT)
            result = await call
            assert (result.outcome, result.rung) == (outcome, Rung.KILL)
            assert result.stdout == b"up\n"
            assert observer.marked(mark) == [], "returned means stopped"
            assert (await one.run(["true"])).ok, "other calls go on"
            skipped = await one.run(["true"], token=RunToken() if how == "timeout" else token)
            assert skipped.outcome is (Outcome.OK if how == "timeout" else Outcome.SKIPPED)

    run(main)


def test_a_cancelled_task_stops_its_call_first(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        async with box(tmp_path, journal=tmp_path / "runs") as one:
            begun = asyncio.Event()
            line = f"setsid sleep 300.{mark} & {STUBBORN}"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    call = one.run(["bash", "-c", line], on_output=up(begun))
                    waiting = asyncio.ensure_future(begun.wait())
                    waiting.add_done_callback(lambda _: limit.reschedule(0))
                    await call
            assert observer.marked(mark) == []
            assert one.run_dir is not None
            (call_record,) = read_report(one.run_dir).calls.values()
            assert (call_record.outcome, call_record.rung) == (Outcome.KILLED, Rung.KILL)
            assert call_record.output.whole() == "up\n", "the journal has what was printed"
            assert (await one.run(["true"])).ok

    run(main)


def test_many_calls_go_at_once_and_the_others_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path) as one:
            calls = [one.run(["echo", str(number)]) for number in range(70)]
            results = await asyncio.gather(*calls)
            assert [result.stdout_text for result in results] == [f"{n}\n" for n in range(70)]
            assert len({result.id for result in results}) == 70

    run(main)


def test_several_event_loops_and_threads_share_one_sandbox(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path, journal=tmp_path / "runs") as one:

            def elsewhere(number: int) -> str:
                return asyncio.run(one.run(["echo", str(number)])).stdout_text

            with ThreadPoolExecutor(4) as threads:
                loop = asyncio.get_running_loop()
                others = [loop.run_in_executor(threads, elsewhere, n) for n in range(12)]
                here = [one.run(["echo", "here"]) for _ in range(4)]
                assert {r.stdout_text for r in await asyncio.gather(*here)} == {"here\n"}
                assert await asyncio.gather(*others) == [f"{n}\n" for n in range(12)]
            assert one.run_dir is not None
            assert len(read_report(one.run_dir).calls) == 16

    run(main)


@pytest.mark.parametrize("journal", [True, False])
def test_closing_stops_the_calls_and_the_record_says_so(tmp_path: Path, journal: bool) -> None:
    mark, kept = observer.new_mark(), tmp_path / "runs"

    async def main() -> Sandbox:
        one = await box(tmp_path, journal=kept if journal else False).open()
        begun = asyncio.Event()
        line = f"setsid sleep 300.{mark} & {STUBBORN}"
        call = asyncio.ensure_future(one.run(["bash", "-c", line], on_output=up(begun)))
        await begun.wait()
        start = time.monotonic()
        assert await one.aclose() == ()
        assert time.monotonic() - start < sum(SHORT) + 1.5
        assert observer.marked(mark) == []
        assert (await call).outcome is Outcome.KILLED
        with pytest.raises(StateError, match="closed"):
            await one.run(["true"])
        assert await one.aclose() == ()
        return one

    one = run(main)
    if one.run_dir is None:
        assert not kept.exists()
        return
    record = read_record(one.run_dir)
    assert (record.status, record.exit_code) == (Status.INTERRUPTED, 130)
    assert [call.outcome for call in record.calls] == [Outcome.KILLED]
    assert record.calls[0].rung is Rung.KILL


def test_an_interrupt_is_for_good_and_a_second_one_skips_the_grace_period(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path, interrupt=(30, 0.2)) as one:
            begun = asyncio.Event()
            call = asyncio.ensure_future(one.run(["bash", "-c", STUBBORN], on_output=up(begun)))
            await begun.wait()
            start = time.monotonic()
            one.interrupt()
            one.interrupt()
            result = await call
            assert time.monotonic() - start < 10
            assert (result.outcome, result.detail) == (Outcome.KILLED, "interrupt")
            assert (await one.run(["true"])).outcome is Outcome.SKIPPED
            assert one.cancel_token.reason is CancelReason.INTERRUPT

    run(main)


def test_a_journal_has_every_call_and_how_the_sandbox_ended(tmp_path: Path) -> None:
    async def main() -> Path:
        async with box(tmp_path, journal=tmp_path / "runs", name="mine") as one:
            await one.run(["cat"], stdin="s3cret-in", env={"TOKEN": "s3cret-env"}, cwd=".")
            await one.call("shell", {"command": "exit 3"})
            assert one.run_dir is not None
            assert read_report(one.run_dir).status == "running"
        return one.run_dir

    folder = run(main)
    report = read_report(folder)
    assert (report.status, report.name, report.model) == ("done", "mine", "sandbox")
    first, second = report.calls.values()
    assert first.arguments == {
        "argv": ["cat"],
        "cwd": f"{tmp_path}/.",
        "env": ["TOKEN"],
        "stdin_bytes": 9,
    }
    assert (first.output.whole(), second.exit_status) == ("s3cret-in", 3)
    assert b"s3cret-env" not in (folder / "journal.jsonl").read_bytes()
    assert len(read_journal(folder / "journal.jsonl")) > 8
    assert read_record(folder).reason == "the sandbox was closed"


def test_an_exception_in_the_block_closes_and_is_recorded(tmp_path: Path) -> None:
    async def main() -> Path:
        one = box(tmp_path, journal=tmp_path / "runs")
        with pytest.raises(ZeroDivisionError):
            async with one:
                raise ZeroDivisionError("s3cret")
        assert one.run_dir is not None
        return one.run_dir

    record = read_record(run(main))
    assert (record.status, record.exit_code) == (Status.FAILED, 1)
    assert record.reason == "the program left the sandbox by ZeroDivisionError"


def test_use_out_of_order_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        one = box(tmp_path)
        with pytest.raises(StateError, match="not open"):
            await one.run(["true"])
        async with one:
            with pytest.raises(StateError, match="is open"):
                await one.open()
        with pytest.raises(StateError, match="closed"):
            await one.run(["true"])
        with pytest.raises(StateError, match="closed"):
            await one.open()
        never = box(tmp_path, journal=tmp_path / "runs")
        assert never.close() == () and not (tmp_path / "runs").exists()

    run(main)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"argv": "ls -l"}, "argv"),
        ({"argv": []}, "argv"),
        ({"argv": ["a\0b"]}, r"argv\[0\]"),
        ({"argv": ["ls", 5]}, r"argv\[1\]"),
        ({"argv": ["ls", "\udcff"]}, r"argv\[1\]"),
        ({"stdin": 5}, "stdin"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": 61}, "timeout"),
        ({"token": "x"}, "token"),
        ({"cwd": ""}, "cwd"),
        ({"env": {"A=B": "c"}}, "env"),
        ({"env": {"A": 1}}, "env"),
        ({"on_output": 5}, "on_output"),
        ({"separate_output": 1}, "separate_output"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_starts(
    tmp_path: Path, wrong: dict[str, Any], field: str
) -> None:
    async def main() -> None:
        async with Sandbox({"limits": {"timeout": 60}}, tmp_path) as one:
            with pytest.raises(ConfigError, match=field):
                await one.run(**{"argv": ["true"], **wrong})
            with pytest.raises(TypeError, match="unexpected"):
                await one.run(["true"], shell=True)  # type: ignore[call-arg]
            with pytest.raises(TypeError, match="cwd"):
                await one.call("shell", cwd="sub")  # type: ignore[call-arg]
            with pytest.raises(ConfigError, match="no tool"):
                await one.call("shel")

    run(main)


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, PolicyError), match="network"):
        Sandbox({"network": "sometimes"}, tmp_path)
    with pytest.raises(ConfigError, match="workspace"):
        Sandbox(None, tmp_path / "missing")
    with pytest.raises(ConfigError, match="journal"):
        Sandbox(None, tmp_path, journal=5)  # type: ignore[arg-type]

    async def main() -> None:
        one = Sandbox(None, tmp_path, tools=["missing:function"], journal=tmp_path / "runs")
        with pytest.raises(ConfigError, match="missing:function"):
            await one.open()
        assert one.run_dir is not None
        assert read_record(one.run_dir).status is Status.ERROR

    run(main)


def test_a_sandbox_that_fails_says_so_at_every_call(tmp_path: Path) -> None:
    work, kept = tmp_path / "work", tmp_path / "runs"
    work.mkdir()

    async def main() -> Path:
        async with box(work, journal=kept) as one:
            assert (await one.run(["true"])).ok
            work.rename(tmp_path / "elsewhere")
            for _ in range(2):
                with pytest.raises(SandboxBroken, match="was moved"):
                    await one.run(["true"])
            (tmp_path / "elsewhere").rename(work)
        assert one.run_dir is not None
        return one.run_dir

    record = read_record(run(main))
    assert (record.status, record.exit_code) == (Status.ERROR, 5)


def test_a_journal_that_cannot_be_written_ends_it(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    async def main() -> None:
        with pytest.raises(ConfigError, match="file"):
            async with box(tmp_path, journal=blocked / "runs"):
                raise AssertionError("was opened")

    run(main)


def test_a_forked_child_can_neither_use_nor_end_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path) as one:
            begun = asyncio.Event()
            call = asyncio.ensure_future(
                one.run(["sh", "-c", "echo up; read line; echo $line"], on_output=up(begun))
            )
            await begun.wait()
            child = os.fork()
            if not child:
                code = 1
                try:
                    one.interrupt()
                    one.close()
                    one._check()
                except StateError:
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert (await call).ok

    run(main)


def test_a_loop_that_is_left_takes_its_calls_with_it(tmp_path: Path) -> None:
    """Two exceptions of signal handlers: asyncio does not wait for its tasks any more."""
    mark, kept = observer.new_mark(), tmp_path / "runs"
    one = box(tmp_path, journal=kept)
    asyncio.run(one.open())
    loop = asyncio.new_event_loop()
    begun = asyncio.Event()
    line = f"setsid sleep 300.{mark} & {STUBBORN}"

    async def main() -> None:
        task = loop.create_task(one.run(["bash", "-c", line], on_output=up(begun)))
        await begun.wait()
        assert not task.done()
        loop.stop()

    started = loop.create_task(main())
    loop.run_forever()
    assert started.done()
    assert observer.marked(mark) != []
    loop.close()
    assert observer.marked(mark) == [], "a closed loop has stopped its calls"
    assert one.close() == ()
    assert one.run_dir is not None
    assert [call.outcome for call in read_record(one.run_dir).calls] == [Outcome.UNKNOWN]


def test_cancel_reaches_it_from_another_process(tmp_path: Path) -> None:
    from sandbox_agent.embedding.control import request_interrupt

    async def main() -> None:
        async with box(tmp_path, journal=tmp_path / "runs") as one:
            begun = asyncio.Event()
            call = asyncio.ensure_future(one.run(["bash", "-c", STUBBORN], on_output=up(begun)))
            await begun.wait()
            assert one.run_dir is not None
            pipe = request_interrupt(one.run_dir)
            assert pipe is not None
            os.close(pipe)
            assert (await call).outcome is Outcome.KILLED
        record = read_record(one.run_dir)
        assert (record.status, record.reason) == (Status.INTERRUPTED, "cancelled from outside")

    run(main)


def test_closing_in_another_thread_while_it_opens_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        one = box(tmp_path)
        opening = asyncio.ensure_future(one.open())
        await until(lambda: one._host.cell is not None)
        closing = threading.Thread(target=one.close)
        closing.start()
        with pytest.raises((StateError, Exception)):
            await opening
        await asyncio.to_thread(closing.join)

    run(main)


def test_ctrl_c_in_an_async_program_stops_the_call_first(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        async with box(tmp_path) as one:
            line = f"setsid sleep 300.{mark} & {STUBBORN}"
            begun = asyncio.Event()
            waiting = asyncio.ensure_future(begun.wait())
            waiting.add_done_callback(lambda _: os.kill(os.getpid(), signal.SIGINT))
            await one.run(["bash", "-c", line], on_output=up(begun))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert observer.marked(mark) == []


def test_a_program_hears_when_the_code_of_a_call_begins(tmp_path: Path) -> None:
    async def main() -> None:
        async with box(tmp_path) as one:
            begun = asyncio.Event()
            token = RunToken()
            going = asyncio.create_task(
                one.run(["sleep", "600"], token=token, on_started=begun.set)
            )
            await begun.wait()
            token.cancel(CancelReason.INTERRUPT)
            assert (await going).started is StartedState.YES
            with pytest.warns(RuntimeWarning, match="on_started of call_2 raised"):
                told = await one.call("shell", {"command": "true"}, on_started=lambda: 1 / 0)
            assert told.ok
            with pytest.raises(ConfigError, match="cannot be called"):
                await one.run(["true"], on_started="now")  # type: ignore[arg-type]

    run(main)


def test_a_block_that_is_thrown_away_is_closed(tmp_path: Path) -> None:
    mark, kept = observer.new_mark(), tmp_path / "runs"
    loop = asyncio.new_event_loop()
    one = box(tmp_path, journal=kept)
    begun = asyncio.Event()

    async def main() -> None:
        async with one:
            line = f"setsid sleep 300.{mark} & {STUBBORN}"
            await one.run(["bash", "-c", line], on_output=up(begun))

    work = main()
    task = loop.create_task(work)
    loop.run_until_complete(begun.wait())
    work.close()
    assert observer.marked(mark) == []
    assert one.run_dir is not None
    assert read_record(one.run_dir).status is Status.INTERRUPTED
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()


def test_a_cancelled_opening_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        one = box(tmp_path, journal=tmp_path / "runs")
        opening = asyncio.ensure_future(one.open())
        await until(lambda: one._host.cell is not None)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        with pytest.raises(StateError, match="closed"):
            await one.run(["true"])
        assert one.run_dir is not None
        assert read_record(one.run_dir).status is Status.INTERRUPTED

    run(main)


def test_a_blocking_close_in_the_loop_of_a_call_stops_it(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        one = await box(tmp_path, journal=tmp_path / "runs").open()
        begun = asyncio.Event()
        line = f"setsid sleep 300.{mark} & {STUBBORN}"
        call = asyncio.ensure_future(one.run(["bash", "-c", line], on_output=up(begun)))
        await begun.wait()
        assert one.close() == ()
        assert observer.marked(mark) == []
        assert (await call).outcome is Outcome.KILLED
        assert one.run_dir is not None
        assert [end.outcome for end in read_record(one.run_dir).calls] == [Outcome.UNKNOWN]

    run(main)


def test_a_record_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        one = await box(tmp_path, journal=tmp_path / "runs").open()
        assert one.run_dir is not None
        one.run_dir.rename(tmp_path / "elsewhere")
        with pytest.raises(AgentError, match="cannot be written"):
            await one.aclose()
        assert await one.aclose() == ()

    run(main)


def test_a_scope_of_anyio_stops_a_call(tmp_path: Path) -> None:
    import anyio

    mark = observer.new_mark()

    async def main() -> None:
        async with box(tmp_path) as one:
            with anyio.move_on_after(0.5) as scope:
                await one.run(["bash", "-c", f"setsid sleep 300.{mark} & {STUBBORN}"])
            assert scope.cancelled_caught and observer.marked(mark) == []
            assert (await one.run(["true"])).ok

    run(main)
