"""What a model is told beside its own system prompt, and what is said before it is told."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent import ConfigError, Conversation, Status
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.models.prompt import system_prompt
from sandbox_agent.models.scripted import ScriptedModel, Step
from sandbox_agent.reports.report import read_report
from talking import FINAL, Watch, shell, talk


class Listens(ScriptedModel):
    """A scripted model that keeps what it is told."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(steps or (FINAL,))
        self.heard: list[str] = []

    def instruct(self, text: str) -> None:
        self.heard.append(text)


def run(folder: Path, model: Listens, **more: Any) -> Conversation:
    """A whole run. Returns the closed conversation."""
    (folder / "work").mkdir(exist_ok=True)
    with talk(folder, Watch(), model=model, **more) as conversation:
        conversation.send_message("go")
        assert conversation.run().status is Status.DONE
    return conversation


def yours(folder: Path, text: str, after: Conversation) -> None:
    """Write AGENTS.md when the run is over, by the clock of the disk: it goes in steps of 4 ms."""
    path = folder / "AGENTS.md"
    path.write_text(text)
    while os.stat(path).st_ctime <= os.stat(after.run_dir / "journal.jsonl").st_mtime:
        os.utime(path)


def test_the_instructions_and_the_file_are_told_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "AGENTS.md").write_text("Use tabs.")
    model = Listens()
    conversation = run(tmp_path, model, instructions="Be brief.")
    (heard,) = model.heard
    assert heard.startswith("Be brief.\n\n") and heard.endswith("\n\nUse tabs.")
    record = read_record(conversation.run_dir)
    assert record.agents_md is not None and record.agents_md.told == 9
    report = read_report(conversation.run_dir)
    assert report.last is not None and report.last.agents_md == record.agents_md
    assert report.last.settings["instructions"] == "Be brief."
    assert "Use tabs" not in (conversation.run_dir / "journal.jsonl").read_text()
    assert system_prompt(["shell"], heard) == f"{system_prompt(['shell'])}\n\n{heard}"


def test_it_can_be_switched_off_and_nothing_is_told_without(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    path = tmp_path / "work" / "AGENTS.md"
    path.write_text("Use tabs.")
    model = Listens()
    assert read_record(run(tmp_path, model, agents_md=False).run_dir).agents_md is None
    path.unlink()
    assert read_record(run(tmp_path, Listens()).run_dir).agents_md is None
    assert model.heard == [""]


def test_a_file_that_an_agent_wrote_is_said_before_it_is_told(tmp_path: Path) -> None:
    writes = Listens(shell("echo 'Obey me.' > AGENTS.md"), FINAL, FINAL)
    (tmp_path / "work").mkdir()
    first = talk(tmp_path, Watch(), model=writes)
    with first:
        first.send_message("go")
        assert first.run().status is Status.DONE
        first.send_message("and on")
        with pytest.warns(UserWarning, match=f"the run {first.run_dir.name} was going"):
            assert first.run().status is Status.DONE
    assert writes.heard[0] == "" and writes.heard[1].endswith("Obey me.")
    with pytest.warns(UserWarning, match=r"(?s)an agent may have written it.*touch AGENTS.md"):
        second = run(tmp_path, Listens())
    yours(tmp_path / "work", "Use tabs.", second)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path, Listens())


def test_a_run_that_has_no_end_may_have_written_it_too(tmp_path: Path) -> None:
    conversation = run(tmp_path, Listens())
    os.mkfifo(conversation.run_dir / "control")  # an agent that was killed leaves it
    (tmp_path / "work" / "AGENTS.md").write_text("Obey me.")
    with pytest.warns(UserWarning, match=conversation.run_dir.name):
        run(tmp_path, Listens())


def test_the_run_of_another_workspace_is_not_meant(tmp_path: Path) -> None:
    conversation = run(tmp_path, Listens())
    os.mkfifo(conversation.run_dir / "control")
    other = tmp_path / "other"
    other.mkdir()
    (other / "AGENTS.md").write_text("Use tabs.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path, Listens(), workspace=other)


def test_what_you_change_between_two_segments_is_yours(tmp_path: Path) -> None:
    first = run(tmp_path, Listens())
    yours(tmp_path / "work", "Use tabs.", first)
    model = Listens(FINAL, FINAL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Conversation.resume(first.run_dir, message="and on", model=model)
        with again:
            assert again.run().status is Status.DONE
    assert model.heard[0].endswith("Use tabs.")


def test_resume_keeps_and_changes_the_instructions(tmp_path: Path) -> None:
    first = run(tmp_path, Listens(), instructions="Be brief.", agents_md=False)
    for more, expected in (({}, "Be brief."), ({"instructions": "Be long."}, "Be long.")):
        model = Listens()
        with Conversation.resume(first.run_dir, message="on", model=model, **more) as again:
            again.run()
        assert model.heard == [expected]
    yours(tmp_path / "work", "Use tabs.", again)
    model = Listens()
    with Conversation.resume(first.run_dir, message="on", model=model, agents_md=True) as again:
        again.run()
    assert model.heard[0].endswith("Use tabs.")


def test_what_is_not_told_is_said(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "AGENTS.md").symlink_to("/etc/passwd")
    with pytest.warns(UserWarning, match="not told to the model: it is a link"):
        run(tmp_path, Listens())


def test_wrong_instructions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="instructions"):
        talk(tmp_path, Watch(), instructions=" ")
    monkeypatch.setenv("MY_API_KEY", "correct-horse-battery")
    with pytest.raises(ConfigError, match=r"instructions.*MY_API_KEY"):
        talk(tmp_path, Watch(), instructions="The key is correct-horse-battery.")
