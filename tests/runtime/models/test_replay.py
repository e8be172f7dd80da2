"""A recorded run is replayed turn by turn; where results are checked, the first that differs is
named."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import journals
import msgspec
import observer
import pytest
from sandbox_agent import load_replay
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import AgentFailed, ConfigError, JournalError
from sandbox_agent.journal.events import Ended, SegmentStarted, Started, TurnTaken
from sandbox_agent.journal.file import JOURNAL_FILE, read_journal
from sandbox_agent.journal.history import Message, answers_in
from sandbox_agent.journal.recording import read_recording
from sandbox_agent.journal.result import RunResult
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.models import Model, ModelCall, ModelTurn, OnDelta
from sandbox_agent.models.replay import ReplayModel
from sandbox_agent.models.scripted import Step
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken, RunToken
from talking import FINAL, Watch, calls, shell, sleeper, soon, talk

TWO = (shell("echo one > one; cat one", "echo two; exit 3"), shell("wc -l < one"), FINAL)


def recorded(folder: Path, *steps: object, **more: object) -> Path:
    """The folder of a run that has ended."""
    with talk(folder, Watch(), *steps, **more) as conv:  # type: ignore[arg-type]
        conv.send_message("go")
        conv.run()
    return conv.run_dir


def replayed(folder: Path, run: Path, *, check: bool = True, **more: object) -> RunResult:
    with talk(folder, Watch(), model=load_replay(run, check), **more) as conv:
        conv.send_message("go")
        return conv.run()


def ask(model: Model, *history: Message) -> ModelTurn:
    return asyncio.run(model.complete(history, (), RunToken(), lambda delta: None))


# --- what is said ---------------------------------------------------------------------------


class Rich(Model):
    """Says everything that a turn can say."""

    name = "rich"
    turns = (
        ModelTurn(
            text="so \u2028 \x1b[31m",
            calls=(
                ModelCall("shell", {"command": "true"}, provider_state={"signature": "x"}),
                ModelCall("shell", '{"command": "tr', provider_state={"index": 1}),
                ModelCall("no_such_tool", {}),
            ),
            reasoning="hm",
            provider_state={"thinking": [{"signature": "abc"}]},
            usage=TokenUsage(10, 5, 3, 2, 0.25),
            finish_reason="tool_calls",
            finish_word="tool_use",
        ),
        ModelTurn("Done.", final=True, usage=TokenUsage(1, 1)),
    )

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        return self.turns[sum(hasattr(message, "reasoning") for message in history)]


def test_a_turn_is_said_again_with_all_that_was_in_it(tmp_path: Path) -> None:
    said = {name for turn in Rich.turns for name in turn.__struct_fields__ if getattr(turn, name)}
    assert said == set(ModelTurn.__struct_fields__), "the example lacks a field"
    run = recorded(tmp_path, model=Rich())
    model = load_replay(run)
    first = ask(model)
    history = read_recording(run).state.history()
    assert (first, ask(model, *history[:5])) == Rich.turns
    assert model.name == f"replay:{run.name}"


def test_a_replay_writes_the_same_journal_up_to_times_and_ids(tmp_path: Path) -> None:
    verify = ["test $(cat one) = one", "true"]
    run = recorded(tmp_path, *TWO, verify=verify)
    (tmp_path / "work" / "one").unlink()
    result = replayed(tmp_path, run, check=False, verify=verify)
    assert (result.status, result.message) == (Status.DONE, "Done.")
    assert journals.differences(run, result.run_dir) == []
    # The control: a different run is detected.
    other = recorded(tmp_path, shell("echo one > one; cat one", "echo two; exit 4"), *TWO[1:])
    assert any("exit_status" in line for line in journals.differences(run, other))


def test_a_run_is_replayed_in_another_workspace(tmp_path: Path) -> None:
    run = recorded(tmp_path, shell("pwd; touch here"), FINAL)
    (tmp_path / "play").mkdir()
    result = replayed(tmp_path, run, check=False, workspace=tmp_path / "play")
    assert (tmp_path / "play" / "here").exists()
    places = tmp_path / "work", tmp_path / "play"
    assert journals.differences(run, result.run_dir, *places) == []
    assert journals.differences(run, result.run_dir) != []


def test_usage_is_counted_again_as_it_was_recorded(tmp_path: Path) -> None:
    run = recorded(tmp_path, model=Rich())
    result = replayed(tmp_path, run)
    assert result.status is Status.DONE
    assert read_record(result.run_dir).usage == read_record(run).usage


def test_the_position_is_in_the_history_alone(tmp_path: Path) -> None:
    run = recorded(tmp_path, *TWO)
    history = read_recording(run).state.history()
    one, other = load_replay(run), load_replay(run)
    assert ask(one) == ask(one) == ask(other)
    assert ask(one, *history[:4]) == ask(other, *history[:4]) != ask(one)


def test_a_replay_can_be_replayed_without_the_first(tmp_path: Path) -> None:
    run = recorded(tmp_path, *TWO)
    second = replayed(tmp_path, run).run_dir
    shutil.rmtree(run)
    third = replayed(tmp_path, second)
    assert third.status is Status.DONE
    assert journals.differences(second, third.run_dir) == []


def test_a_replay_that_was_stopped_goes_on_where_it_was(tmp_path: Path, watch: Watch) -> None:
    run = recorded(tmp_path, *TWO)
    with talk(tmp_path, watch, model=load_replay(run, True), budgets={"turns": 1}) as conv:
        conv.send_message("go")
        assert conv.run().status is Status.BUDGET
    with Conversation.resume(conv.run_dir, budgets={"turns": None}) as again:
        result = again.run()
        segments = [event for event in again.events if isinstance(event, SegmentStarted)]
    assert (result.status, result.message) == (Status.DONE, "Done.")
    assert "results are as recorded" in result.reason
    assert segments[1].settings.model_options == {"folder": str(run), "check": True}
    run.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"is not a run.*\n  hint: put it back, or give"):
        Conversation.resume(conv.run_dir, message="more")


# --- as far as it goes ----------------------------------------------------------------------


def test_an_interrupted_run_is_replayed_as_far_as_it_went(tmp_path: Path, watch: Watch) -> None:
    mark = observer.new_mark()
    with talk(
        tmp_path, watch, TWO[0], shell(f"test -e go || {{ {sleeper(mark)}; }}"), FINAL
    ) as conv:
        conv.send_message("go")
        soon(lambda: (watch.wait_up(), conv.interrupt()))
        assert conv.run().status is Status.INTERRUPTED
    (tmp_path / "work" / "go").touch()
    result = replayed(tmp_path, conv.run_dir)
    assert (result.status, result.exit_code) == (Status.FAILED, 1)
    assert "the recorded run ends here, after 2 turns: it was interrupted" in result.reason
    # What was stopped then is not compared with what came of it now, and that is said.
    assert result.reason.endswith("1 call was stopped and not compared")
    assert [call.outcome for call in read_record(result.run_dir).calls] == ["ok", "error", "ok"]


def test_every_prefix_of_a_journal_is_replayed_as_far_as_it_goes(tmp_path: Path) -> None:
    run = recorded(tmp_path, *TWO)
    path = run / JOURNAL_FILE
    whole = path.read_bytes()
    history = read_recording(run).state.history()
    for cut in [*(n for n, byte in enumerate(whole, 1) if byte == ord("\n")), len(whole) - 20]:
        path.write_bytes(whole[:cut])
        turns = sum(isinstance(event, TurnTaken) for event in read_journal(path))
        model = load_replay(run, check=True)
        assert len(model.recording.turns) == turns
        if turns:
            ask(model)
        else:
            with pytest.raises(AgentFailed, match="ends here, after 0 turns: it has no end"):
                ask(model, history[0])
    path.write_bytes(b"")
    assert load_replay(run).recording.turns == ()


def test_a_run_whose_agent_was_killed_is_replayed_to_its_last_turn(tmp_path: Path) -> None:
    run = recorded(tmp_path, *TWO)
    path = run / JOURNAL_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    begun = [n for n, event in enumerate(read_journal(path), 1) if isinstance(event, Started)]
    path.write_bytes(b"".join(lines[: begun[-1]]))
    result = replayed(tmp_path, run)
    assert result.status is Status.FAILED
    assert "after 2 turns: it has no end: it is still running, or its agent was killed" in (
        result.reason
    )
    assert result.reason.endswith("1 call was stopped and not compared")


def test_a_run_that_is_going_and_one_that_is_read_only_can_be_replayed(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, *TWO) as conv:
        conv.send_message("go")
        conv.run()
        # Its journal is locked until it is closed.
        assert replayed(tmp_path, conv.run_dir).status is Status.DONE
    (conv.run_dir / JOURNAL_FILE).chmod(0o400)
    conv.run_dir.chmod(0o500)
    assert replayed(tmp_path, conv.run_dir / JOURNAL_FILE).status is Status.DONE


def test_what_is_no_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_replay(tmp_path)
    os.mkfifo(tmp_path / JOURNAL_FILE)
    with pytest.raises(ConfigError, match="no ordinary file"):
        load_replay(tmp_path)
    run = recorded(tmp_path, FINAL)
    path = run / JOURNAL_FILE
    path.write_bytes(path.read_bytes().replace(b'"event":"segment"', b'"event":"seg', 1))
    with pytest.raises(JournalError, match=r"journal\.jsonl:\d+: this line is not an event"):
        load_replay(run)


# --- checked --------------------------------------------------------------------------------


def test_results_as_recorded_are_said_to_be_so(tmp_path: Path) -> None:
    run = recorded(tmp_path, *TWO, verify=["true"])
    result = replayed(tmp_path, run, verify=["true"])
    assert result.reason == ("the agent is done, and verify agrees; results are as recorded")
    assert replayed(tmp_path, run, check=False).reason == "the agent is done"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cat given", ["recorded ok, exit status 0: 'a'", "; now ok, exit status 0: 'b'"]),
        ("exit $(grep -c a given)", ["recorded error, exit status 1", "; now ok, exit status 0"]),
        (
            "grep b given || kill -9 $$",
            ["recorded error, exit status -9", "; now ok, exit status 0: 'b'"],
        ),
    ],
)
def test_the_first_divergence_is_named(tmp_path: Path, command: str, words: list[str]) -> None:
    (tmp_path / "work").mkdir()
    given = tmp_path / "work" / "given"
    given.write_text("a\n")
    run = recorded(tmp_path, shell("true"), shell("true", command), shell("touch late"), FINAL)
    (tmp_path / "work" / "late").unlink()
    given.write_text("b\n")
    result = replayed(tmp_path, run)
    assert (result.status, result.exit_code) == (Status.FAILED, 1)
    named = f'replay:{run.name} diverges at turn 2, call_2_2, shell {{"command":"{command}"}}: '
    assert result.reason.startswith(named)
    for word in words:
        assert word in result.reason
    # It ends there: what comes next was meant for other results.
    assert not (tmp_path / "work" / "late").exists()
    assert replayed(tmp_path, run, check=False).status is Status.DONE


def test_a_divergence_that_was_gone_on_from_is_not_forgotten(tmp_path: Path) -> None:
    run = recorded(tmp_path, shell("wc -l < given || echo x > given"), FINAL)
    result = replayed(tmp_path, run)
    for number in (1, 2):
        assert "diverges at turn 1, call_1_1, shell" in result.reason, number
        with Conversation.resume(result.run_dir) as again:
            result = again.run()


def test_a_tool_that_is_not_offered_any_more_diverges(tmp_path: Path) -> None:
    run = recorded(tmp_path, calls(("list_files", {})), FINAL, tools=["files"])
    result = replayed(tmp_path, run)
    assert "call_1_1, list_files {}: recorded ok: " in result.reason
    assert "now error, started: no: \"there is no tool 'list_files'" in result.reason


def test_hostile_and_long_text_is_shown_escaped_and_short(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    given = tmp_path / "work" / "given"
    given.write_text("x" * 5000 + "old \x1b]0;title\x07 \u202e end")
    run = recorded(tmp_path, shell("cat given # \x1b[2J\u202e" + "y" * 500), FINAL)
    given.write_text("x" * 5000 + "new \x1b]0;title\x07 \u202e end")
    reason = replayed(tmp_path, run).reason
    assert reason.isprintable()
    assert "xxxold \\x1b]0;title\\x07 \\u202e end'; now" in reason
    assert "xxxnew \\x1b]0" in reason
    assert len(reason) < 700


def test_an_image_that_differs_is_named(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    picture = tmp_path / "work" / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    run = recorded(tmp_path, calls(("read_file", {"path": "picture.png"})), FINAL, tools=["files"])
    assert replayed(tmp_path, run, tools=["files"]).status is Status.DONE
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99) + b"x")
    reason = replayed(tmp_path, run, tools=["files"]).reason
    assert re.search(r"recorded ok, image/png (\w+).*; now ok, image/png (?!\1)\w+", reason)


def test_a_time_limit_is_compared_and_not_what_was_said_until_then(tmp_path: Path) -> None:
    run = recorded(tmp_path, shell("cat given; sleep 300", timeout=0.3), FINAL)
    (tmp_path / "work" / "given").write_text("something\n")
    result = replayed(tmp_path, run)
    assert (result.status, "as recorded" in result.reason) == (Status.DONE, True)


def test_a_call_that_hangs_now_diverges(tmp_path: Path) -> None:
    run = recorded(tmp_path, shell("test ! -e given || sleep 300", timeout=0.3), FINAL)
    (tmp_path / "work" / "given").touch()
    assert (
        "recorded ok, exit status 0: '[no output]'; now timeout" in replayed(tmp_path, run).reason
    )


def test_a_verdict_that_differs_is_named(tmp_path: Path) -> None:
    verify = ["true", "test ! -e given || { echo it is there; exit 4; }"]
    run = recorded(tmp_path, FINAL, verify=verify)
    (tmp_path / "work" / "given").touch()
    result = replayed(tmp_path, run, verify=verify)
    assert (result.status, result.exit_code) == (Status.FAILED, 1)
    assert f"diverges at turn 1, verify {verify[1]!r}: recorded passed" in result.reason
    assert "; now failed, error, exit status 4: 'it is there\\n" in result.reason
    # One that fails as it did then is no divergence, and fails the run as it did then.
    failed = replayed(tmp_path, run, check=False, verify=verify).run_dir
    result = replayed(tmp_path, failed, verify=verify)
    assert result.status is Status.FAILED
    assert result.reason.startswith("verify failed: ")
    assert result.reason.endswith("; results are as recorded")
    # Other commands than were recorded have nothing to be compared with.
    assert replayed(tmp_path, run, verify=["true"]).status is Status.DONE


def test_a_run_stopped_while_it_is_checked_is_interrupted_and_no_more(
    tmp_path: Path, watch: Watch
) -> None:
    mark = observer.new_mark()
    run = recorded(tmp_path, shell(f"test ! -e go || {{ {sleeper(mark)}; }}"), FINAL)
    (tmp_path / "work" / "go").touch()
    with talk(tmp_path, watch, model=load_replay(run, check=True)) as conv:
        soon(lambda: (watch.wait_up(), conv.interrupt()))
        assert conv.run().status is Status.INTERRUPTED
    assert observer.marked(mark) == []


# --- several segments, and what the user said -------------------------------------------------


def test_turns_of_all_segments_come_in_order(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, *TWO, budgets={"turns": 1}) as conv:
        conv.send_message("go")
        conv.run()
        conv.run()
        assert conv.run().status is Status.DONE
    result = replayed(tmp_path, conv.run_dir)
    assert (result.status, result.message) == (Status.DONE, "Done.")
    assert (
        len([e for e in read_journal(result.run_dir / JOURNAL_FILE) if isinstance(e, Ended)]) == 3
    )


class Costly(Model):
    """Follows steps, and each answer uses up a hundred tokens and ten cents."""

    name = "costly"

    def __init__(self, *steps: Step) -> None:
        self.turns = [msgspec.structs.replace(step.turn, usage=EACH) for step in steps]

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        return self.turns[answers_in(history)]


EACH = TokenUsage(input=90, output=10, cost_usd=0.1)
SAME = shell("echo same")
LONG = (SAME, SAME, SAME, SAME, FINAL)


def of_segments(folder: Path, *ends: Status, **more: object) -> Path:
    """The folder of a run that ended and was resumed several times."""
    with talk(folder, Watch(), model=Costly(*LONG), **more) as conv:
        conv.send_message("go")
        for end in ends:
            assert conv.run().status is end
    return conv.run_dir


@pytest.mark.parametrize(
    ("budgets", "end"),
    [
        ({"turns": 2}, Status.BUDGET),
        ({"tokens": 200}, Status.BUDGET),
        ({"cost_usd": 0.2}, Status.BUDGET),
        ({"repeats": 2}, Status.FAILED),
    ],
)
def test_budgets_start_again_where_the_recorded_run_was_resumed(
    tmp_path: Path, budgets: dict[str, object], end: Status
) -> None:
    run = of_segments(tmp_path, end, end, Status.DONE, budgets=budgets)
    result = replayed(tmp_path, run, budgets=budgets)
    assert (result.status, result.message) == (Status.DONE, "Done."), result.reason
    assert "results are as recorded" in result.reason
    # What was used is that of all its segments.
    usage = read_record(result.run_dir).usage
    assert (usage.requests, usage.calls, usage.tokens, usage.cost_usd) == (5, 4, 500, 0.5)
    # So it is in the replay's own journal, which has one segment.
    shutil.rmtree(run)
    again = replayed(tmp_path, result.run_dir, budgets=budgets)
    assert (again.status, again.message) == (Status.DONE, "Done."), again.reason
    assert journals.differences(result.run_dir, again.run_dir) == []


@pytest.mark.parametrize("budgets", [{"turns": 2}, {"tokens": 200}, {"cost_usd": 0.2}])
def test_a_run_that_ended_with_a_spent_budget_ends_so_again(
    tmp_path: Path, budgets: dict[str, object]
) -> None:
    run = of_segments(tmp_path, Status.BUDGET, Status.BUDGET, budgets=budgets)
    result = replayed(tmp_path, run, budgets=budgets)
    assert (result.status, result.exit_code) == (Status.BUDGET, 3)
    assert result.reason == read_record(run).reason
    assert read_record(result.run_dir).usage.requests == 4
    again = replayed(tmp_path, result.run_dir, budgets=budgets)
    assert (again.status, again.reason) == (Status.BUDGET, result.reason)


def test_a_last_segment_with_less_does_not_bound_the_ones_before(tmp_path: Path) -> None:
    run = of_segments(tmp_path, Status.BUDGET, budgets={"turns": 2})
    with Conversation.resume(run, model=Costly(*LONG), budgets={"turns": 1}) as conv:
        assert conv.run().status is Status.BUDGET
    result = replayed(tmp_path, run, budgets={"turns": 1})
    assert (result.status, read_record(result.run_dir).usage.requests) == (Status.BUDGET, 3)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_budget_of_the_replays_own_bounds_all_of_it(tmp_path: Path, turns: int) -> None:
    run = of_segments(tmp_path, Status.BUDGET, Status.BUDGET, budgets={"turns": 2})
    result = replayed(tmp_path, run, budgets={"turns": turns})
    assert (result.status, read_record(result.run_dir).usage.requests) == (Status.BUDGET, turns)


def test_a_run_that_continued_after_verify_is_replayed_to_its_end(tmp_path: Path) -> None:
    mend, verify = (FINAL, shell("touch mended"), FINAL), ["test -e mended"]
    with talk(tmp_path, Watch(), *mend, verify=verify) as conv:
        conv.send_message("go")
        assert conv.run().status is Status.FAILED
        assert conv.run().status is Status.DONE
    (tmp_path / "work" / "mended").unlink()
    result = replayed(tmp_path, conv.run_dir, verify=verify)
    assert (result.status, result.message) == (Status.DONE, "Done."), result.reason


def test_an_answer_that_was_cut_off_ends_the_replay_unless_it_was_asked_for_again(
    tmp_path: Path,
) -> None:
    cut = Step(ModelTurn("so f", finish_reason="length"))
    with talk(tmp_path, Watch(), cut, TWO[0], FINAL) as conv:
        conv.send_message("go")
        first = conv.run()
        assert first.status is Status.FAILED
        once = replayed(tmp_path, conv.run_dir)
        assert (once.status, once.reason, once.message) == (Status.FAILED, first.reason, None)
        assert conv.run().status is Status.DONE
    (tmp_path / "work" / "one").unlink()
    for _ in range(2):
        result = replayed(tmp_path, conv.run_dir)
        assert (result.status, result.message) == (Status.DONE, "Done."), result.reason


def test_what_the_user_said_later_is_known_by_its_turn(tmp_path: Path, watch: Watch) -> None:
    run = two_talks(tmp_path, watch)
    model = load_replay(run)
    assert [model.user_messages(turn) for turn in range(4)] == [
        ("go",),
        ("more", "and more"),
        (),
        (),
    ]


def test_a_message_that_is_missing_diverges_where_it_is_checked(
    tmp_path: Path, watch: Watch
) -> None:
    run = two_talks(tmp_path, watch)

    def again(check: bool, *messages: str) -> str:
        with talk(tmp_path, Watch(), model=load_replay(run, check)) as conv:
            conv.send_message("something else")
            assert conv.run().status is Status.DONE
            for message in messages:
                conv.send_message(message)
            return conv.run().reason

    assert "as recorded" in again(True, "more", "and more")
    assert "done" in again(False)
    assert "done" in again(False, "other words")
    assert "turn 1, the user's messages after it: recorded the user said: 'more" in again(True)
    assert "; now the user said: 'more'" in again(True, "more")


def two_talks(folder: Path, watch: Watch) -> Path:
    with talk(folder, watch, FINAL, shell("true"), FINAL) as conv:
        conv.send_message("go")
        conv.run()
        conv.send_message("more")
        conv.send_message("and more")
        assert conv.run().status is Status.DONE
    return conv.run_dir


def test_the_model_is_part_of_the_facade(tmp_path: Path) -> None:
    run = recorded(tmp_path, FINAL)
    assert isinstance(load_replay(str(run)), ReplayModel)


# --- damaged journals ---------------------------------------------------------------------------


DAMAGE: dict[str, tuple[str, dict[str, Any], str]] = {
    "a turn's number": ("model_turn", {"turn": None}, "turn"),
    "a text": ("model_turn", {"text": 5}, "text"),
    "calls": ("model_turn", {"calls": [None]}, "calls[0]"),
    "a call's arguments": (
        "model_turn", {"calls": [{"id": "a", "tool": "shell", "arguments": 7}]}, "arguments"),
    "a negative usage": ("model_turn", {"usage": {"input": -5}}, "usage"),
    "a usage beyond numbers": ("model_turn", {"usage": {"output": 10**30}}, "usage"),
    "a negative price": ("model_turn", {"usage": {"cost_usd": -1}}, "usage"),
    "half a character": ("model_turn", {"text": "\ud83d"}, "surrogate"),
    "an unknown event": ("model_turn", {"event": "new"}, "event"),
    "an outcome": ("ended", {"outcome": "great"}, "outcome"),
    "an image": ("ended", {"images": [{"data": "!!", "media_type": "x"}]}, "images[0]"),
    "a status": ("segment_ended", {"status": "weird"}, "weird"),
}  # fmt: skip


@pytest.mark.parametrize(("event", "fields", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_line_that_was_changed_is_refused_with_its_number(
    tmp_path: Path, event: str, fields: dict[str, Any], words: str
) -> None:
    folder = recorded(tmp_path, shell("true"), FINAL)
    path = folder / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    number = next(at for at, line in enumerate(lines, 1) if line["event"] == event)
    lines[number - 1] |= fields
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(JournalError) as caught:
        load_replay(folder)
    assert str(caught.value).startswith(f"{path}:{number}: ")
    assert words in str(caught.value)


def test_budgets_that_were_changed_are_refused_with_the_file(tmp_path: Path) -> None:
    folder = recorded(tmp_path, FINAL)
    path = folder / "journal.jsonl"
    path.write_text(path.read_text().replace('"turns":null', '"turns":-1'))
    with pytest.raises(JournalError, match=r"journal\.jsonl: budgets\.turns .*-1 is not a count"):
        load_replay(folder)
