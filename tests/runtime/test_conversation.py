"""A conversation from its first message to its record, when nothing comes in between."""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import talking
from sandbox_agent import (
    Budgets,
    Conversation,
    Interrupt,
    Limits,
    Policy,
    PolicyError,
    ProviderModel,
)
from sandbox_agent.errors import ConfigError, ModelError, StateError
from sandbox_agent.journal.events import (
    Dispatching,
    Ended,
    JournalOpened,
    SegmentEnded,
    SegmentStarted,
    Started,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.journal.file import parse_journal, read_journal
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.state import state_of
from sandbox_agent.journal.status import Status
from sandbox_agent.models import Model, ModelTurn
from talking import FINAL, Watch, calls, shell, talk


def test_a_run_from_message_to_record(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, shell("echo hello"), FINAL, name="greet") as conv:
        assert conv.status is Status.IDLE
        conv.send_message("say hello")
        result = conv.run()
        assert (result.status, result.exit_code, result.message) == (Status.DONE, 0, "Done.")
        assert conv.status is Status.DONE
        assert conv.cancel_token is None
        kinds = [type(event) for event in conv.events]
    assert kinds == [
        JournalOpened,
        UserText,
        SegmentStarted,
        TurnTaken,
        Dispatching,
        Started,
        Ended,
        TurnTaken,
        SegmentEnded,
    ]
    assert conv.events == tuple(watch.events) == read_journal(conv.run_dir / "journal.jsonl")
    record = read_record(conv.run_dir)
    assert record == result.record
    assert (record.task, record.status, record.exit_code) == ("greet", Status.DONE, 0)
    assert [(call.id, call.outcome, call.started) for call in record.calls] == [
        ("call_1_1", "ok", "yes")
    ]
    assert record.plan is not None
    assert (tmp_path / "work").exists()


def test_a_real_journal_cut_at_any_byte_loads(tmp_path: Path, watch: Watch) -> None:
    steps = (shell("echo a", "echo b; exit 1"), FINAL)
    with talk(tmp_path, watch, *steps, verify=["true"]) as conv:
        conv.send_message("go\nnow")
        conv.run()
    data = (conv.run_dir / "journal.jsonl").read_bytes()
    for length in range(len(data) + 1):
        state = state_of(parse_journal(data[:length]))
        results = [m.call_id for m in state.history() if isinstance(m, ToolMessage)]
        asked = [call.id for call in state.calls.values() if not call.verify]
        assert results == asked


def test_the_run_folder_is_private_and_no_tool_sees_it(tmp_path: Path, watch: Watch) -> None:
    # A workspace around the run folders is the hardest place to hide them.
    conv = talk(
        tmp_path,
        watch,
        shell("ls -laR runs; cat runs/*/journal.jsonl"),
        FINAL,
        workspace=tmp_path,
        output_dir=tmp_path / "runs",
    )
    with conv:
        conv.send_message("a secret plan")
        conv.run()
    assert stat.S_IMODE(conv.run_dir.stat().st_mode) == 0o700
    assert "secret plan" not in talking.ends(conv)["call_1_1"].content
    assert conv.run_dir.name not in talking.ends(conv)["call_1_1"].content


def test_calls_of_a_turn_run_in_parallel_up_to_the_bound(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, shell(*["sleep 0.1"] * 6), FINAL, parallel=2) as conv:
        conv.run()
        steps = [
            {Dispatching: 1, Ended: -1}[type(event)]
            for event in conv.events
            if isinstance(event, Dispatching | Ended)
        ]
    assert max(itertools.accumulate(steps)) == 2
    assert {end.outcome for end in talking.ends(conv).values()} == {"ok"}


def test_the_model_is_told_what_it_got_wrong(tmp_path: Path, watch: Watch) -> None:
    step = calls(("nope", {}), ("shell", {"comand": "x"}), ("shell", {"command": 7}), ("Shel", {}))
    with talk(tmp_path, watch, step, FINAL) as conv:
        assert conv.run().status is Status.DONE
        found = talking.ends(conv)
    assert found["call_1_1"].content == "there is no tool 'nope'; the tools are: shell"
    assert "comand" in found["call_1_2"].content
    assert "command" in found["call_1_3"].content
    assert found["call_1_4"].content.endswith("the tools are: shell; did you mean shell?")
    assert {end.outcome for end in found.values()} == {"error"}
    assert {end.started for end in found.values()} == {"no"}


class Answers(Model):
    """A model that gives the answers it was made with, or raises them."""

    name = "answers"

    def __init__(self, *answers: ModelTurn | Exception) -> None:
        self.answers = list(answers)
        self.heard: list[Any] = []

    async def complete(self, history: Any, tools: Any, token: Any, on_delta: Any) -> ModelTurn:
        self.heard.append(list(history))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        self.answers.append(ModelTurn("closed"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"command": "echo $((6*7))"}', "42"),
        ("{oops", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ({"command": object()}, "not a JSON object"),
        ({"command": "echo \ud800"}, None),
    ],
)
def test_arguments_as_text_are_read_and_nonsense_is_told(
    tmp_path: Path, watch: Watch, arguments: Any, said: str | None
) -> None:
    turn = calls(("shell", arguments)).turn
    with talk(tmp_path, watch, model=Answers(turn, FINAL.turn)) as conv:
        assert conv.run().status is Status.DONE
        content = talking.ends(conv)["call_1_1"].content
    if said is not None:
        assert said in content
    assert read_journal(conv.run_dir / "journal.jsonl") == conv.events


def test_the_exit_status_and_the_output_of_a_failed_command_are_told(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, shell("echo out; echo err >&2; exit 3"), FINAL) as conv:
        conv.run()
        model = Answers(FINAL.turn)
        asyncio.run(model.complete(conv._recorder.state.history(), (), None, None))
    (heard,) = model.heard
    result = next(message for message in heard if isinstance(message, ToolMessage))
    assert result.content == "out\nerr\n[exit status 3]"


@pytest.mark.parametrize("listened", [True, False])
def test_long_output_is_cut_for_the_model_and_kept_beside_the_journal(
    tmp_path: Path, watch: Watch, listened: bool
) -> None:
    command = "echo head; yes 0123456789abcdef | head -c 200000; echo tail"
    more = {} if listened else {"on_output": None}
    with talk(tmp_path, watch, shell(command), FINAL, **more) as conv:
        conv.run()
        end = talking.ends(conv)["call_1_1"]
    assert len(end.content) < 33 * 1024
    assert end.content.startswith("head\n")
    assert end.content.endswith("tail\n")
    assert "bytes left out" in end.content
    assert end.output_bytes == 200010
    assert end.output_file is not None
    whole = (conv.run_dir / end.output_file).read_bytes()
    assert len(whole) == 200010
    assert stat.S_IMODE((conv.run_dir / end.output_file).stat().st_mode) == 0o600


def test_a_message_during_a_run_reaches_the_model_with_its_next_turn(
    tmp_path: Path, watch: Watch
) -> None:
    model = Answers(shell("true").turn, FINAL.turn, ModelTurn("Done again.", final=True))
    conv = talk(tmp_path, watch, model=model)

    def also(event: Any) -> None:
        if isinstance(event, TurnTaken) and event.final and event.turn == 2:
            conv.send_message("one more thing")

    watch.also = also
    with conv:
        assert conv.run().message == "Done again."
    assert model.heard[2][-1].text == "one more thing"


# --- verify ---------------------------------------------------------------------------------


def test_verify_decides(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, FINAL, verify=["true", "echo no; exit 4", "true"]) as conv:
        result = conv.run()
        passed = [event.passed for event in conv.events if isinstance(event, Verified)]
    assert (result.status, result.exit_code) == (Status.FAILED, 1)
    assert result.reason == "verify failed: echo no; exit 4"
    assert passed == [True, False, True]
    assert [entry.exit_status for entry in result.record.verify] == [0, 4, 0]
    assert result.record.calls == ()


def test_verify_runs_in_the_sandbox_also_without_a_shell_tool(tmp_path: Path, watch: Watch) -> None:
    command = 'test "$SANDBOX_AGENT" = 1'
    with talk(tmp_path, watch, FINAL, tools=["files"], verify=[command]) as conv:
        assert conv.run().status is Status.DONE


# --- models and configuration ---------------------------------------------------------------


@pytest.mark.parametrize("error", [ModelError("no key"), ValueError("odd")])
def test_a_model_that_fails_ends_the_run_with_its_exit_code(
    tmp_path: Path, watch: Watch, error: Exception
) -> None:
    with talk(tmp_path, watch, model=Answers(error)) as conv:
        result = conv.run()
        assert (result.status, result.exit_code) == (Status.ERROR, 4)
        assert str(error) in result.reason
        assert isinstance(result.error, ModelError)
        assert conv.cancel_token is None


def test_a_script_that_is_used_up_fails_the_run(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, shell("true")) as conv:
        result = conv.run()
    assert (result.status, result.exit_code) == (Status.FAILED, 1)


def test_a_tool_that_cannot_be_imported_is_a_config_error_and_recorded(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, shell("true"), tools=["shell", "gone.away:f"]) as conv:
        with pytest.raises(ConfigError, match=r"gone\.away:f cannot be a tool"):
            conv.run()
        assert conv.status is Status.ERROR
    record = read_record(conv.run_dir)
    assert (record.status, record.exit_code) == (Status.ERROR, 2)
    assert not any(isinstance(event, Dispatching) for event in conv.events)


@pytest.mark.parametrize(
    "option",
    [{"verify": ["a \ud83d"]}, {"name": "\udfff"}, {"sandbox": {"env": {"set": {"A": "\ud83d"}}}}],
    ids=str,
)
def test_half_a_character_in_a_setting_is_refused(
    tmp_path: Path, watch: Watch, option: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="is not UTF-8"):
        talk(tmp_path, watch, **option)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"workspace": "/nowhere/at/all"}, "workspace"),
        ({"sandbox": {"netwrk": "none"}}, "sandbox.netwrk"),
        ({"sandbox": {"limits": {"timeout": "soon"}}}, "sandbox.limits.timeout"),
        ({"tools": ["bash"]}, "tools[0]"),
        ({"tools": [Watch().on_event]}, "tools[0]"),
        ({"budgets": {"turns": 0}}, "budgets.turns"),
        ({"budgets": {"time": "5 parsecs"}}, "budgets.time"),
        ({"budgets": {"turn": 5}}, "budgets.turn"),
        ({"budgets": 5}, "budgets"),
        ({"interrupt": (-1.0, 1.0)}, "interrupt.grace"),
        ({"interrupt": (1.0, "soon")}, "interrupt.term"),
        ({"interrupt": 2}, "interrupt"),
        ({"parallel": 0}, "parallel"),
        ({"model": 7}, "model"),
        ({"verify": "true"}, "verify"),  # a text is a list of its letters, each of them a command
        ({"verify": [7]}, "verify[0]"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_made(
    tmp_path: Path, watch: Watch, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        talk(tmp_path, watch, **options)
    assert caught.value.field == field
    assert not (tmp_path / "runs").exists()


def test_a_model_may_be_given_by_its_name(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.yaml").write_text("- calls: [{shell: {command: 'echo x'}}]\n- final: Yes.\n")
    for model, name in (
        ("scripted:steps.yaml", f"scripted:{tmp_path}/steps.yaml"),
        ("replay:last", "replay:20"),
    ):
        with talk(tmp_path, watch, model=model) as conv:
            assert conv.model.name.startswith(name)
            assert conv.run().message == "Yes."
    # Of a relative path the journal keeps the whole one.
    monkeypatch.chdir("/")
    (folder, *_) = sorted((tmp_path / "runs").iterdir())
    Conversation.resume(folder, message="more").close()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "x" * 40)
    with talk(tmp_path, watch, model="openai/gpt-4o") as conv:
        assert isinstance(conv.model, ProviderModel)


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("", ConfigError, "model: is empty"),
        ("scripted:", ConfigError, "model: 'scripted:' names nothing"),
        ("scripted:nowhere.yaml", ConfigError, "model: there is no file"),
        ("replay:nobody", ConfigError, "model: there is no run nobody"),
        (
            "gpt-nowhere",
            ConfigError,
            "model: litellm knows no provider for a model named 'gpt-nowhere'",
        ),
        ("openai/gpt-4o", ModelError, "model: openai/gpt-4o needs a key"),
    ],
)
def test_a_model_string_that_cannot_be_is_told_with_its_hint(
    tmp_path: Path,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(kind) as caught:
        talk(tmp_path, watch, model=model)
    assert str(caught.value).startswith(words)
    assert str(caught.value).count("\n  hint: ") == 1
    assert not (tmp_path / "runs").exists()


def test_a_policy_in_python_has_errors_of_ours(tmp_path: Path, watch: Watch) -> None:
    for make, kind, field in (
        (lambda: Policy(limits={"timeout": -1}), PolicyError, "limits.timeout"),
        (lambda: Policy(netwrok="none"), PolicyError, "netwrok"),
        (lambda: Limits(memory="1 jar"), PolicyError, "memory"),
        (lambda: talk(tmp_path, watch, sandbox={"env": {"pass": [7]}}), ConfigError,
         "sandbox.env.pass[0]"),
        (lambda: Interrupt(-1), ConfigError, "interrupt.grace"),
        (lambda: Budgets(turns=0), ConfigError, "budgets.turns"),
    ):  # fmt: skip
        with pytest.raises(kind) as caught:
            make()
        assert caught.value.field == field
        assert caught.value.hint
        assert "pydantic" not in str(caught.value)


def test_a_result_is_shown_in_one_line_of_a_screen(tmp_path: Path, watch: Watch) -> None:
    long = "echo " + "x" * 200
    with talk(tmp_path, watch, FINAL, FINAL, verify=["true"]) as conv:
        assert repr(conv.run()) == (
            "RunResult(done, exit code 0: 'the agent is done, and verify agrees')"
        )
    with talk(tmp_path, watch, FINAL, verify=[f"{long}\nfalse"]) as conv:
        shown = repr(conv.run())
    assert shown.startswith("RunResult(failed, exit code 1: 'verify failed: echo xxx")
    assert shown.endswith("...')")
    assert len(shown) == 79 and "\n" not in shown


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "runs").write_text("a file")
    with talk(tmp_path, watch, FINAL) as conv:
        with pytest.raises(ConfigError, match="the folder of the run cannot be made"):
            conv.run()
        assert conv.status is Status.IDLE


# --- where and how it runs ------------------------------------------------------------------


def test_run_works_in_any_thread(tmp_path: Path, watch: Watch) -> None:
    results: list[Any] = []
    with talk(tmp_path, watch, shell("echo hi"), FINAL) as conv:
        thread = talking.soon(lambda: results.append(conv.run()))
        thread.join(talking.DEADLINE)
    assert [result.status for result in results] == [Status.DONE]


def test_run_in_a_running_loop_says_what_to_do(tmp_path: Path, watch: Watch) -> None:
    async def main() -> None:
        with pytest.raises(StateError, match="arun"):
            conv.run()
        assert (await conv.arun()).status is Status.DONE
        await conv.aclose()

    conv = talk(tmp_path, watch, FINAL)
    asyncio.run(main())


def test_a_second_run_while_one_is_going_is_refused_and_disturbs_nothing(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, shell("echo up; read line < fifo; echo on"), FINAL) as conv:
        os.mkfifo(tmp_path / "work" / "fifo")
        (tmp_path / "work" / "fifo").chmod(0o666)
        refused: list[BaseException] = []

        def second() -> None:
            watch.wait_up()
            for _ in range(2):
                try:
                    conv.run()
                except StateError as error:
                    refused.append(error)
            (tmp_path / "work" / "fifo").write_text("go\n")

        thread = talking.soon(second)
        result = conv.run()
        thread.join()
        assert len(refused) == 2
        assert result.status is Status.DONE
        assert "on\n" in talking.ends(conv)["call_1_1"].content


def test_runs_follow_one_another_in_one_journal_and_one_sandbox(
    tmp_path: Path, watch: Watch
) -> None:
    steps = (shell("echo one > /tmp/kept"), FINAL, shell("cat /tmp/kept"), FINAL)
    with talk(tmp_path, watch, *steps) as conv:
        assert conv.run().status is Status.DONE
        conv.send_message("again")
        assert asyncio.run(conv.arun()).status is Status.DONE
        assert talking.ends(conv)["call_3_1"].content == "one\n"
    segments = [event.number for event in conv.events if isinstance(event, SegmentStarted)]
    assert segments == [1, 2]
    assert read_journal(conv.run_dir / "journal.jsonl") == conv.events


def test_a_closed_conversation_says_so_and_closes_twice(tmp_path: Path, watch: Watch) -> None:
    conv = talk(tmp_path, watch, FINAL)
    with conv:
        conv.run()
    assert conv.close() == ()
    for use in (conv.run, lambda: conv.send_message("x"), conv.__enter__):
        with pytest.raises(StateError, match="closed"):
            use()


def test_a_conversation_that_never_ran_leaves_nothing(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, FINAL):
        pass
    assert not (tmp_path / "runs").exists()


def test_closing_a_conversation_closes_its_model(tmp_path: Path, watch: Watch) -> None:
    model = Answers()
    talk(tmp_path, watch, model=model).close()
    assert model.answers == [ModelTurn("closed")]


def test_two_conversations_at_once_do_not_affect_each_other(tmp_path: Path) -> None:
    results: list[Any] = []

    def one(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        with talk(folder, Watch(), shell(f"echo {name} > mine; ls"), FINAL) as conv:
            results.append((conv.run().status, talking.ends(conv)["call_1_1"].content))

    threads = [threading.Thread(target=one, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(talking.DEADLINE)
    assert results == [(Status.DONE, "mine\n")] * 3


def test_conversation_names_no_concrete_model() -> None:
    code = (
        "import sys, sandbox_agent.conversation\n"
        "print('sandbox_agent.models.scripted' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
