"""Going on with a run: after whatever end, from whatever a crash left, and with what was wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import observer
import paths
import pytest
from sandbox_agent import CancelToken, tool
from sandbox_agent.config.settings import Budgets, Interrupt
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import ConfigError, JournalError, StateError
from sandbox_agent.journal.events import (
    Ended,
    JournalOpened,
    SegmentEnded,
    SegmentStarted,
    Started,
    TurnTaken,
    UserText,
)
from sandbox_agent.journal.file import JOURNAL_FILE, read_journal
from sandbox_agent.journal.history import ToolMessage, UserMessage
from sandbox_agent.journal.result_file import read_record, write_record
from sandbox_agent.journal.status import Status
from sandbox_agent.models.scripted import ScriptedModel, Step, load_script
from striking_itself import Recording
from talking import FINAL, Watch, calls, shell, sleeper, soon, talk

STEPS = (shell("echo one >> one"), shell("echo two >> two"), FINAL)


def resumed(folder: Path, *steps: Step, **more: object) -> Conversation:
    return Conversation.resume(folder, model=ScriptedModel(steps), **more)  # type: ignore[arg-type]


def lines(folder: Path, name: str) -> int:
    path = folder / "work" / name
    return len(path.read_text().splitlines()) if path.exists() else 0


# --- after whatever end ---------------------------------------------------------------------


def test_an_interrupted_run_is_resumed_in_the_same_journal(tmp_path: Path, watch: Watch) -> None:
    mark = observer.new_mark()
    steps = (shell(sleeper(mark)), *STEPS[1:])
    with talk(tmp_path, watch, *steps) as conv:
        conv.send_message("go")
        soon(lambda: (watch.wait_up(), conv.interrupt()))
        assert conv.run().status is Status.INTERRUPTED
    before = read_journal(conv.run_dir / JOURNAL_FILE)

    with resumed(conv.run_dir, *steps) as again:
        assert again.status is Status.INTERRUPTED
        assert again.run_dir == conv.run_dir
        assert again.cancel_token is None
        assert again.events == before
        result = again.run()
    assert (result.status, result.message) == (Status.DONE, "Done.")
    events = read_journal(conv.run_dir / JOURNAL_FILE)
    assert events[: len(before)] == before
    assert sum(isinstance(event, JournalOpened) for event in events) == 1
    assert [e.number for e in events if isinstance(e, SegmentStarted)] == [1, 2]
    record = read_record(conv.run_dir)
    assert (record.segment, record.status) == (2, Status.DONE)
    assert [call.outcome for call in record.calls] == ["cancelled", "ok"]


def test_a_run_that_spent_its_budget_is_resumed_with_a_new_or_a_raised_one(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, *STEPS, budgets=Budgets(turns=1, time=60.0)) as conv:
        assert conv.run().status is Status.BUDGET
    with resumed(conv.run_dir, *STEPS) as again:
        assert again.run().status is Status.BUDGET
    with resumed(conv.run_dir, *STEPS, budgets={"turns": 5}) as raised:
        assert raised.run().status is Status.DONE
        (*_, segment) = (e for e in raised.events if isinstance(e, SegmentStarted))
    assert [segment.settings.task["budgets"][name] for name in ("turns", "time")] == [5, 60.0]
    assert (lines(tmp_path, "one"), lines(tmp_path, "two")) == (1, 1)


def test_a_failed_run_asks_the_model_again(tmp_path: Path, watch: Watch) -> None:
    mend = (FINAL, shell("touch mended"), FINAL)
    with talk(tmp_path, watch, *mend, verify=["test -e mended"]) as conv:
        assert conv.run().status is Status.FAILED
    with resumed(conv.run_dir, *mend) as again:
        assert again.status is Status.FAILED
        assert again.run().status is Status.DONE


def test_a_run_stopped_while_it_is_verified_is_verified_again_without_the_model(
    tmp_path: Path, watch: Watch
) -> None:
    mark = observer.new_mark()
    slow = f"echo x >> tries; test -e go || exec sleep 300.{mark}"
    with talk(tmp_path, watch, FINAL, verify=[slow]) as conv:
        watch.also = lambda event: isinstance(event, Started) and conv.interrupt()
        assert conv.run().status is Status.INTERRUPTED
    (tmp_path / "work" / "go").touch()
    model = Recording()
    with Conversation.resume(conv.run_dir, model=model) as again:
        result = again.run()
    assert (result.status, result.message) == (Status.DONE, "Done.")
    assert model.requests == []


def test_everything_is_as_the_journal_says_unless_it_is_overridden(
    tmp_path: Path, watch: Watch
) -> None:
    options = {
        "interrupt": Interrupt(0.25, 0.125),
        "parallel": 3,
        "verify": ["true"],
        "sandbox": {"limits": {"timeout": 33, "memory": "512MiB"}, "env": {"set": {"A": "b"}}},
        "tools": [{"shell": {"timeout": 7}}],
        "name": "named",
    }
    with talk(tmp_path, watch, shell("true"), FINAL, **options) as conv:
        conv.run()
    with resumed(conv.run_dir, FINAL, FINAL, FINAL, message="more", parallel=5) as again:
        assert again.run().status is Status.DONE
        first, second = (e for e in again.events if isinstance(e, SegmentStarted))
        (told,) = (e for e in again.events if isinstance(e, UserText))
    assert told.text == "more"
    assert read_record(conv.run_dir).task == "named"
    assert first.tools == second.tools
    assert (first.settings.model, first.settings.model_options) == ("scripted", {})
    parallel = [segment.settings.task.pop("parallel") for segment in (first, second)]
    assert parallel == [3, 5]
    assert first.settings == second.settings


@tool
def look(token: CancelToken) -> str:
    """Says that it looked."""
    return "looked"


def test_a_function_handed_over_as_an_object_is_found_again(tmp_path: Path, watch: Watch) -> None:
    turn = calls(("look", {}))
    with talk(tmp_path, watch, turn, turn, FINAL, tools=[look], budgets={"turns": 1}) as conv:
        assert conv.run().status is Status.BUDGET
    code = f"""
import sys
from sandbox_agent import Conversation, ScriptedModel
sys.path[:0] = {paths.IMPORT_PATHS!r}
from talking import calls, FINAL
model = ScriptedModel([calls(("look", {{}}))] * 2 + [FINAL])
with Conversation.resume({str(conv.run_dir)!r}, model=model, budgets={{"turns": None}}) as conv:
    print(conv.run().status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr
    ends = [e for e in read_journal(conv.run_dir / JOURNAL_FILE) if isinstance(e, Ended)]
    assert [(end.outcome, end.content) for end in ends] == [("ok", "looked")] * 2


def test_a_message_is_sent_before_the_model_answers(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, FINAL) as conv:
        conv.send_message("go")
        conv.run()
    model = Recording()
    with Conversation.resume(conv.run_dir, model=model, message="and more \ud800") as again:
        again.interrupt()
        again.pause()
        again.run()
    assert model.requests[0][-1] == UserMessage("and more ?")


# --- what was in flight ---------------------------------------------------------------------


def cut_after(conv: Conversation, kind: type) -> bytes:
    """Leave of a journal what there was when the first event of that kind had been written."""
    path = conv.run_dir / JOURNAL_FILE
    number = next(n for n, event in enumerate(conv.events, 1) if isinstance(event, kind))
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:number]))
    return path.read_bytes()


def test_the_ends_are_in_the_journal_before_anything_else(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, shell("true", "true"), FINAL, parallel=1) as conv:
        conv.run()
    before = cut_after(conv, Started)
    heard = Watch()
    # Nothing is run: to load it is enough.
    resumed(conv.run_dir, FINAL, on_event=heard.on_event).close()
    data = (conv.run_dir / JOURNAL_FILE).read_bytes()
    assert data.startswith(before)
    ends = read_journal(conv.run_dir / JOURNAL_FILE)[-2:]
    assert ends == tuple(heard.events)
    assert [(e.outcome, e.started) for e in ends if isinstance(e, Ended)] == [
        ("unknown", "yes"),
        ("skipped", "no"),
    ]
    # To load it once more changes nothing.
    resumed(conv.run_dir, FINAL).close()
    assert (conv.run_dir / JOURNAL_FILE).read_bytes() == data


def cuts(whole: bytes) -> list[int]:
    """Every byte near the ends of lines, some in their middles. (That each and every one loads is
    the journal's own test.)"""
    places, start = [], 0
    for line in whole.splitlines(keepends=True):
        length = len(line)
        near = [n for n in range(length) if n < 20 or n >= length - 20 or n % 67 == 0]
        places += [start + n for n in near]
        start += length
    return places


def test_a_journal_cut_at_any_byte_resumes_and_no_byte_is_lost(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, shell("true", "true"), FINAL, parallel=1) as conv:
        conv.send_message("go")
        conv.run()
    # One that was resumed after a kill, so that the cuts are also those of a killed resume.
    cut_after(conv, Started)
    with resumed(conv.run_dir, shell("true"), FINAL) as conv:
        assert conv.run().status is Status.DONE
    path, torn = conv.run_dir / JOURNAL_FILE, conv.run_dir / f"{JOURNAL_FILE}.torn"
    whole = path.read_bytes()
    options = {"tools": ["shell"], "workspace": tmp_path, "sandbox": None, "verify": ()}
    for length in cuts(whole):
        path.write_bytes(whole[:length])
        known = length >= whole.index(b"\n")
        again = resumed(conv.run_dir, FINAL, message="x", **({} if known else options))
        again.close()
        aside = torn.read_bytes()[:-1] if torn.exists() else b""
        torn.unlink(missing_ok=True)
        kept = path.read_bytes()
        end = length - len(aside)
        assert kept.startswith(whole[:end])
        assert whole[end:length] == aside
        messages = again._recorder.state.history()
        assert messages[-1] == UserMessage("x")
        results = [m for m in messages if isinstance(m, ToolMessage)]
        asked = [c.id for e in again.events if isinstance(e, TurnTaken) for c in e.calls]
        assert [result.call_id for result in results] == asked
        read_journal(path)


# --- refusals -------------------------------------------------------------------------------


@pytest.fixture
def ended(tmp_path: Path, watch: Watch) -> Conversation:
    """A conversation that ran out of turns, and is closed."""
    with talk(tmp_path, watch, *STEPS, budgets={"turns": 1}) as conv:
        conv.send_message("go")
        conv.run()
    return conv


def refused(folder: Path, kind: type[Exception], match: str, **more: object) -> None:
    """Resuming is refused, and leaves the journal as it is."""
    path = folder / JOURNAL_FILE
    before = path.read_bytes()
    with pytest.raises(kind, match=match):
        resumed(folder, FINAL, **more)
    assert path.read_bytes() == before


def test_a_running_run_is_refused(tmp_path: Path, watch: Watch) -> None:
    mark = observer.new_mark()
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        soon(lambda: (watch.wait_up(), refused_soon(conv)))
        assert conv.run().status is Status.INTERRUPTED
        # Between runs the conversation still has it.
        refused(conv.run_dir, StateError, "is going, or a program still has it open")
    resumed(conv.run_dir, FINAL, FINAL).close()


def refused_soon(conv: Conversation) -> None:
    try:
        refused(conv.run_dir, StateError, "is going, or a program still has it open")
    finally:
        conv.interrupt()


def test_a_done_run_is_refused_without_a_message(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, FINAL) as conv:
        conv.run()
    refused(conv.run_dir, StateError, "is done; give the agent something more to do")
    with resumed(conv.run_dir, FINAL, FINAL, message="more") as again:
        assert again.run().status is Status.DONE


def test_the_record_of_a_done_run_is_completed(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, shell("true"), FINAL) as conv:
        done = conv.run().record
    running = msgspec.structs.replace(done, status=Status.RUNNING, exit_code=None, message=None)
    write_record(conv.run_dir, running)
    refused(conv.run_dir, StateError, "is done .its result.json did not say so, and does now")
    again = read_record(conv.run_dir)
    assert msgspec.structs.replace(again, times=done.times) == done
    refused(conv.run_dir, StateError, "is done; give the agent something more to do")


def test_results_of_an_earlier_segment_are_loaded_when_they_are_asked_for(
    tmp_path: Path, watch: Watch
) -> None:
    long = shell("seq 3000", "echo short")
    with talk(tmp_path, watch, long, FINAL, budgets={"turns": 1}) as conv:
        conv.send_message("x" * 5000)
        conv.run()
        before = list(conv._recorder.state.history())
        ends = [call.ended for call in conv._recorder.state.calls.values()]
    with resumed(conv.run_dir, long, FINAL, budgets={"turns": None}) as again:
        state = again._recorder.state
        assert list(state.history()) == before
        assert [state.history()[n] for n in range(-4, 4)] == before * 2
        assert [call.ended for call in state.calls.values()] == ends
        assert [len(call.brief.content) for call in state.calls.values() if call.brief] == [0, 6]
        assert state.conversation[0] == next(e for e in conv.events if isinstance(e, UserText))
        assert again.run().status is Status.DONE
    assert list(state.history())[:4] == before


def test_a_journal_of_another_version_is_refused_with_a_hint(ended: Conversation) -> None:
    path = ended.run_dir / JOURNAL_FILE
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":1', 1))
    refused(
        ended.run_dir,
        JournalError,
        r"(?s)journal.jsonl:1: .*version 1;.*hint: .*start the run anew",
    )


def test_a_damaged_line_is_named(ended: Conversation) -> None:
    path = ended.run_dir / JOURNAL_FILE
    all_lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*all_lines[:2], b"garbled\n", *all_lines[2:]]))
    refused(ended.run_dir, JournalError, r"journal.jsonl:3: this line is not an event")


def test_an_event_that_cannot_follow_is_named(ended: Conversation) -> None:
    path = ended.run_dir / JOURNAL_FILE
    all_lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*all_lines, *all_lines[4:5]]))
    number = len(all_lines) + 1
    refused(ended.run_dir, JournalError, rf"journal.jsonl:{number}: call .* the journal is damaged")
    path.write_bytes(b"".join([*all_lines, *all_lines[3:4]]))
    refused(
        ended.run_dir, JournalError, rf"journal.jsonl:{number}: turn 1 was taken before; the jo"
    )


def test_a_model_that_cannot_be_made_from_its_name_must_be_given(ended: Conversation) -> None:
    path = ended.run_dir / JOURNAL_FILE
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"'scripted' cannot be made from its name"):
        Conversation.resume(ended.run_dir)
    assert path.read_bytes() == before


def test_a_workspace_that_is_gone_is_told(ended: Conversation, tmp_path: Path) -> None:
    (tmp_path / "work").rename(tmp_path / "moved")
    refused(ended.run_dir, ConfigError, "there is no folder")
    with resumed(ended.run_dir, *STEPS, workspace=tmp_path / "moved", budgets={"turns": 3}) as conv:
        assert conv.run().status is Status.DONE


def test_an_unknown_option_is_refused(ended: Conversation) -> None:
    refused(ended.run_dir, TypeError, "unexpected keyword argument 'verifiy'", verifiy=["true"])


def test_a_file_that_is_not_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be opened: No such file"):
        Conversation.resume(tmp_path)
    (tmp_path / JOURNAL_FILE).mkdir()
    with pytest.raises(ConfigError, match="no ordinary file"):
        Conversation.resume(tmp_path)
    (tmp_path / JOURNAL_FILE).rmdir()
    os.mkfifo(tmp_path / JOURNAL_FILE)
    with pytest.raises(ConfigError, match="no ordinary file"):
        Conversation.resume(tmp_path)


def test_settings_that_were_lost_are_not_guessed(ended: Conversation, tmp_path: Path) -> None:
    path = ended.run_dir / JOURNAL_FILE
    path.write_bytes(path.read_bytes()[:40])
    refused(ended.run_dir, StateError, "ends before the first message to the agent")
    refused(ended.run_dir, ConfigError, "tools, workspace, sandbox, verify", message="go")


# --- interrupts -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Ended, SegmentStarted, TurnTaken, SegmentEnded])
def test_an_interrupt_while_resuming_works_like_any(
    tmp_path: Path, watch: Watch, kind: type
) -> None:
    """At the loaded ends there is no run yet, so nothing to interrupt; from then on there is."""
    with talk(tmp_path, watch, shell("true"), *STEPS[1:]) as conv:
        conv.run()
    cut_after(conv, Started)
    box: list[Conversation] = []

    def strike(event: object) -> None:
        if isinstance(event, kind) and box:
            box[0].interrupt()

    with resumed(conv.run_dir, *STEPS, on_event=strike) as again:
        again.interrupt()  # before the first run: nothing
        box.append(again)
        result = again.run()
    over = Status.DONE if kind is SegmentEnded else Status.INTERRUPTED
    assert result.status is over
    # One turn more or none, and the rest follows.
    if over is Status.INTERRUPTED:
        with resumed(conv.run_dir, *STEPS) as last:
            assert last.run().status is Status.DONE
    ends = [e.call for e in read_journal(conv.run_dir / JOURNAL_FILE) if isinstance(e, Ended)]
    assert len(ends) == len(set(ends))


def test_the_model_of_a_task_is_made_from_its_name(tmp_path: Path, watch: Watch) -> None:
    steps = tmp_path / "steps.yaml"
    steps.write_text("- calls: [{shell: {command: 'true'}}]\n- final: Made anew.\n")
    with talk(tmp_path, watch, model=load_script(steps), budgets={"turns": 1}) as conv:
        assert conv.run().status is Status.BUDGET
    with Conversation.resume(conv.run_dir / JOURNAL_FILE, budgets=Budgets()) as again:
        assert again.run().message == "Made anew."
    steps.unlink()
    with pytest.raises(ConfigError, match=r"model: there is no file.*\n  hint: put it back"):
        Conversation.resume(conv.run_dir, message="more")


def test_steps_that_a_program_named_by_a_relative_path_are_found_from_the_same_folder(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("steps.yaml").write_text("- final: Found.\n- final: Found again.\n")
    with talk(tmp_path, watch, model=load_script("steps.yaml")) as conv:
        conv.run()
    with Conversation.resume(conv.run_dir, message="more") as again:
        assert again.run().message == "Found again."


def test_the_files_of_a_task_stay_protected_and_can_be_changed(
    tmp_path: Path, watch: Watch
) -> None:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    for name in ("first", "second"):
        (work / name).write_text("mine\n")
    write = shell("echo tools >> first; echo tools >> second")
    with talk(tmp_path, watch, write, FINAL, task_files=[work / "first"]) as conv:
        conv.send_message("go")
        conv.run()
    assert [lines(tmp_path, name) for name in ("first", "second")] == [1, 2]
    with resumed(conv.run_dir, write, FINAL, write, FINAL, message="more") as again:
        again.run()
    assert [lines(tmp_path, name) for name in ("first", "second")] == [1, 3]
    more: dict[str, object] = {"message": "more", "task_files": [work / "second"]}
    steps = (write, FINAL, write, FINAL, write, FINAL)
    with resumed(conv.run_dir, *steps, **more) as again:
        again.run()
    assert [lines(tmp_path, name) for name in ("first", "second")] == [2, 3]
    with pytest.raises(ConfigError, match="task_files"):
        resumed(conv.run_dir, *steps, message="more", task_files="one").close()
