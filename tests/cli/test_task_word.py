"""`run WORD`: what exists is a task, a text is a prompt, anything else is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import identity
import pytest
from identity import BIN, Person
from sandbox_agent.cli.task_word import task_or_prompt
from sandbox_agent.config.task_file import load_task
from sandbox_agent.errors import ConfigError

AGENT = str(BIN / "sandbox-agent")
TASK = "version: 1\nprompt: From the file.\nmodel: scripted:steps.yaml\n"
STEPS = "- calls: [{shell: {command: 'echo used'}}]\n- final: one\n"


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.yaml").write_text(TASK)
    (tmp_path / "nightly.json").write_text("{}")
    (tmp_path / "two words.yaml").write_text(TASK)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "task.yaml").write_text(TASK)
    (tmp_path / "empty").mkdir()
    (tmp_path / "misspelt").mkdir()
    (tmp_path / "misspelt" / "taks.yaml").write_text(TASK)
    (tmp_path / "dangling").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("task.yaml", Path("task.yaml")),
        ("nightly.json", Path("nightly.json")),
        ("demo", Path("demo/task.yaml")),
        ("demo/", Path("demo/task.yaml")),
        (".", Path("task.yaml")),
        ("two words.yaml", Path("two words.yaml")),
        ("/dev/null", Path("/dev/null")),
        ("dangling", Path("dangling")),  # whoever reads it says what is wrong with it
        ("Fix the tests.", "Fix the tests."),
        ("- Fix the tests.\n- Then stop.", "- Fix the tests.\n- Then stop."),
        ("Fix\u3000it.", "Fix\u3000it."),  # a white space of Japanese
        ("x " * 5000, "x " * 5000),  # longer than a path can be
        ("task.yaml/x y", "task.yaml/x y"),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_what_exists_is_a_task_and_a_text_is_a_prompt(
    here: Path, word: str, meant: Path | str
) -> None:
    assert task_or_prompt(word) == meant


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "taks.yaml",
            "taks.yaml: there is no such file or folder\n  hint: did you mean task.yaml?",
        ),
        ("nightly", "nightly: there is no such file or folder\n  hint: did you mean nightly.json?"),
        ("dmeo", "dmeo: there is no such file or folder\n  hint: did you mean demo?"),
        (
            "demo/tsk.yaml",
            "demo/tsk.yaml: there is no such file or folder\n  hint: did you mean demo/task.yaml?",
        ),
        (
            "twowords.yaml",
            "twowords.yaml: there is no such file or folder\n"
            "  hint: did you mean 'two words.yaml'?",
        ),
        (
            "zzzz",
            "zzzz: there is no such file or folder\n  hint: name a task file or a folder; for a "
            "prompt of one word, give --prompt zzzz",
        ),
        ("last", "last: there is no such file or folder\n"
         "  hint: did you mean sandbox-agent resume last?"),
        (
            "20261128T002446059-08c69a",
            "20261128T002446059-08c69a: there is no such file or folder\n"
            "  hint: did you mean sandbox-agent resume 20261128T002446059-08c69a?",
        ),
        (
            "scripted:steps.yaml",
            "scripted:steps.yaml: there is no such file or folder\n"
            "  hint: did you mean --model scripted:steps.yaml?",
        ),
        (
            "-",
            "-: there is no such file or folder\n  hint: did you mean --prompt -, which reads the "
            "prompt from standard input?",
        ),
        (
            "empty",
            "empty: there is no task.yaml in this folder\n  hint: name a task file; "
            "`sandbox-agent init DIR` writes a project to start from",
        ),
        (
            "misspelt",
            "misspelt: there is no task.yaml in this folder\n"
            "  hint: did you mean misspelt/taks.yaml?",
        ),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_guess(here: Path, word: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        task_or_prompt(word)
    assert str(raised.value) == message
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("word", ["a\0b", "x" * 5000, "\udcff\u202e\x1b]0;x\x07"])
def test_a_word_that_no_file_can_be_called_is_refused_in_plain_characters(
    here: Path, word: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        task_or_prompt(word)
    assert "there is no such file or folder" in str(raised.value)
    assert str(raised.value).replace("\n", "").isprintable()
    assert len(str(raised.value)) < 1000


def test_a_folder_that_was_removed_is_said_to_be_gone(me: Person) -> None:
    prepared(me)
    done = me.run(["sh", "-c", f'mkdir gone; cd gone; rmdir ../gone; "{AGENT}" run task.yaml'])
    assert (done.returncode, done.stdout) == (2, "")
    assert "the current folder does not exist any more\n  hint: " in done.stderr


def test_a_hostile_name_in_the_folder_forges_no_line(here: Path) -> None:
    (here / "nigthly\n  hint: curl x | sh\x1b[2J.yaml").write_text(TASK)
    with pytest.raises(ConfigError) as raised:
        task_or_prompt("nigthly hint: curl x | sh.yaml".replace(" ", ""))
    assert str(raised.value).count("\n") == 1
    assert "\x1b" not in str(raised.value)


def test_the_name_of_a_file_forges_no_line(here: Path) -> None:
    name = "a\n  hint: curl x | sh.yaml"
    (here / name).write_text("version: 99\n")
    with pytest.raises(ConfigError) as raised:
        load_task(here / name)
    assert "\n  hint: curl" not in str(raised.value)
    assert "a\\n  hint: curl x | sh.yaml:1" in str(raised.value)


def agent(person: Person, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return person.run(
        [AGENT, *argv, "--out", str(person.folder / "runs")], cwd=person.work, env=env
    )


def prepared(person: Person) -> Path:
    person.write(person.work / "steps.yaml", STEPS)
    return person.write(person.work / "task.yaml", TASK)


def told(person: Person) -> str:
    (journal,) = (person.folder / "runs").glob("2*/journal.jsonl")
    return journal.read_text()


def test_a_prompt_runs_without_a_file(me: Person) -> None:
    prepared(me).unlink()
    done = agent(me, "run", "Do it.", "--model", "scripted:steps.yaml")
    assert (done.returncode, done.stdout) == (0, "one\n"), done.stderr
    assert '"text":"Do it."' in told(me)


def test_a_folder_is_its_task(me: Person) -> None:
    prepared(me)
    argv = [AGENT, "run", "work", "--workspace", "work", "--out", "runs"]
    done = me.run(argv, cwd=me.folder)
    assert (done.returncode, done.stdout) == (0, "one\n"), done.stderr
    assert "warning" not in done.stderr
    assert '"text":"From the file."' in told(me)


def test_a_prompt_and_a_model_win_over_the_task_of_the_folder_and_both_are_said(me: Person) -> None:
    prepared(me)
    me.write(me.work / "other.yaml", "- final: other\n")
    done = agent(me, "run", "Do it.", "--model", "scripted:other.yaml")
    assert (done.returncode, done.stdout) == (0, "other\n"), done.stderr
    assert (
        "task.yaml of this folder is used, with your prompt in place of its prompt and --model in "
        "place of its model" in done.stderr
    )
    assert '"text":"Do it."' in told(me)


def test_with_a_model_alone_the_task_of_the_folder_is_used_and_this_is_said(me: Person) -> None:
    prepared(me)
    me.write(me.work / "other.yaml", "- final: other\n")
    done = agent(me, "run", "--model", "scripted:other.yaml")
    assert (done.returncode, done.stdout) == (0, "other\n"), done.stderr
    assert "task.yaml of this folder is used, with --model in place of its model" in done.stderr
    assert '"text":"From the file."' in told(me)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["Do it.", "--prompt", "Or this."],
            "command line: TASK is a prompt, and --prompt gives another one\n"
            "  hint: remove one of them",
        ),
        (
            ["taks.yaml"],
            "taks.yaml: there is no such file or folder\n  hint: did you mean task.yaml?",
        ),
        (["  "], "TASK: prompt: is empty\n  hint: write some text or remove it"),
        (["a \udcff"], "TASK: 'a \\udcff' is not UTF-8\n  hint: encode it in UTF-8"),
    ],
    ids=["twice", "mistyped", "blank", "not-utf-8"],
)
@pytest.mark.parametrize("verb", ["run", "validate"])
def test_a_wrong_word_is_one_message_and_nothing_starts(
    me: Person, verb: str, argv: list[str], message: str
) -> None:
    prepared(me)
    done = agent(me, verb, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"sandbox-agent: {message}\n")
    assert not (me.folder / "runs").exists()


def test_a_text_that_looks_like_a_file_is_said_to_be_the_prompt(me: Person) -> None:
    prepared(me)
    done = agent(me, "validate", "my taks.yaml")
    assert done.returncode == 0, done.stderr
    assert "my taks.yaml: there is no such file, so this text is the prompt" in done.stderr


def test_a_locale_without_utf_8_changes_no_prompt_and_no_path(me: Person) -> None:
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folder = me.work / "caf\u00e9"
    folder.mkdir()
    me.write(folder / "task.yaml", TASK)
    me.write(folder / "steps.yaml", STEPS)
    done = agent(me, "run", "caf\u00e9", "--prompt", "Gr\u00fc\u00dfe \u4f60\u597d", **plain)
    assert done.returncode == 0, done.stderr
    assert '"text":"Gr\u00fc\u00dfe \u4f60\u597d"' in told(me)
    done = agent(me, "run", "kaf\u00e9", **plain)
    assert done.returncode == 2
    assert "did you mean" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_entered_is_named(person: Person) -> None:
    closed = person.work / "closed"
    closed.mkdir(mode=0)  # of the user who runs the tests
    try:
        done = agent(person, "run", "closed/task.yaml")
    finally:
        closed.chmod(0o700)
    assert done.returncode == 2
    assert "closed/task.yaml" in done.stderr and "\n  hint: " in done.stderr
