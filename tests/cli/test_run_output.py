"""Standard output is the final message or the event stream; losing its reader loses no record."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import identity
import observer
import pytest
import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
STEPS = [
    {"say": "look \x1b]52;c;aGk=\x07", "calls": [{"shell": {"command": "echo hi > made"}}]},
    {"final": "All\ndone."},
]


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


@contextmanager
def started(person: Person, argv: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that is ended by force where the test fails: it may wait for a reader for ever."""
    with person.start(argv, **options) as agent:
        try:
            yield agent
        finally:
            agent.kill()


def record(person: Person) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (folder,) = (path for path in (person.folder / "runs").iterdir() if path.is_dir())
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return json.loads((folder / "result.json").read_text()), [json.loads(line) for line in lines]


def test_the_final_message_is_alone_on_standard_output(me: Person) -> None:
    message = me.work / "message.txt"
    task = str(struck.write_task(me, STEPS))
    done = me.run([AGENT, "run", task, "-o", str(message)])
    assert (done.returncode, done.stdout) == (0, "All\ndone.\n"), done.stderr
    assert message.read_text() == "All\ndone.\n"
    assert "  A made  3 bytes\n" in done.stderr
    assert "\x1b" not in done.stderr
    assert "\\x1b]52" in done.stderr


def test_a_descriptor_is_written_to_and_a_link_stays_one(me: Person) -> None:
    """/dev/stdout is such a link, and root could replace it for everybody."""
    task = str(struck.write_task(me, STEPS))
    link, plain, other = me.work / "link", me.work / "plain", me.work / "other"
    link.symlink_to("/proc/self/fd/3")
    plain.symlink_to(other)
    other.write_text("before")
    script = 'echo first >&3; "$@" -o link; echo last >&3; "$@" -o plain'
    done = me.run(["sh", "-c", f"exec 3> out; {script}", "sh", AGENT, "run", task])
    assert done.returncode == 0, done.stderr
    assert (me.work / "out").read_text() == "first\nAll\ndone.\nlast\n"
    assert link.is_symlink() and plain.is_symlink()
    assert other.read_text() == "All\ndone.\n"


def test_what_a_tool_puts_in_the_place_of_the_file_is_not_written_to(me: Person) -> None:
    """Else the final message, which a model writes, would stand in any file of the user's."""
    for name in (".bashrc", ".profile"):
        me.write(me.home / name, "mine")
    (me.work / "folder").mkdir()
    me.own(me.work / "folder")
    plants = {
        "message": f"ln -s {me.home}/.bashrc message",
        "folder/.profile": f"mv folder before; ln -s {me.home} folder",
        "new-pipe": "mkfifo new-pipe",
    }
    for name, plant in plants.items():
        turns = [{"calls": [{"shell": {"command": plant}}]}, {"final": "planted"}]
        done = me.run([AGENT, "run", str(struck.write_task(me, turns)), "-o", name])
        assert done.returncode == 74, done.stderr
        assert "something else was put in its place during the run" in done.stderr
        again = me.run([AGENT, "run", str(me.folder / "task/task.yaml"), "-o", name])
        assert name == "new-pipe" or again.returncode == 2, again.stderr
        shutil.rmtree(me.folder / "task")
    assert {(me.home / name).read_text() for name in (".bashrc", ".profile")} == {"mine"}


def test_a_pipe_without_reader_does_not_block_the_exit(me: Person) -> None:
    task = str(struck.write_task(me, STEPS))
    pipe = me.work / "pipe"
    os.mkfifo(pipe)
    done = me.run([AGENT, "run", task, "-o", str(pipe)])
    assert (done.returncode, done.stdout) == (74, "All\ndone.\n"), done.stderr
    assert "pipe: the final message was not written: it has no reader\n" in done.stderr
    assert record(me)[0]["status"] == "done"
    with me.start([AGENT, "run", task, "-o", str(pipe)]) as agent:
        assert pipe.read_text() == "All\ndone.\n"
        assert agent.wait(30) == 0


def test_json_is_the_journal_as_it_comes(me: Person) -> None:
    done = me.run([AGENT, "run", str(struck.write_task(me, STEPS)), "--json"])
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == record(me)[1]


def test_a_reader_that_has_left_costs_no_record(me: Person) -> None:
    task = str(struck.write_task(me, STEPS))
    read_end, write_end = os.pipe()
    os.close(read_end)
    with me.start([AGENT, "run", task, "--json"], stdout=write_end, stderr=write_end) as agent:
        os.close(write_end)
        assert agent.wait(30) == 74
    result, journal = record(me)
    assert (result["status"], journal[-1]["event"]) == ("done", "segment_ended")


def test_a_task_can_be_said_on_the_command_line(me: Person) -> None:
    steps = me.write(me.work / "steps.yaml", json.dumps(STEPS))
    done = me.run([AGENT, "run", "--prompt", "Do it.", "--model", f"scripted:{steps.name}"])
    assert (done.returncode, done.stdout) == (0, "All\ndone.\n"), done.stderr
    env = {"SANDBOX_AGENT_MODEL": "scripted:steps.yaml"}
    done = me.run([AGENT, "run", "--prompt", "Do it."], env=env)
    assert (done.returncode, done.stdout) == (0, "All\ndone.\n"), done.stderr
    done = me.run([AGENT, "run", "--prompt", "Do it."])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sandbox-agent: command line: model: no model is named\n"
        "  hint: give --model openai/gpt-4o or scripted:steps.yaml, or set SANDBOX_AGENT_MODEL\n"
    )


def test_a_full_disk_under_standard_output_is_reported(me: Person) -> None:
    task = str(struck.write_task(me, STEPS))
    with open("/dev/full", "wb") as full, me.start([AGENT, "run", task], stdout=full) as agent:
        _, told = agent.communicate(timeout=30)
    assert agent.returncode == 74
    [folder] = (me.folder / "runs").iterdir()
    assert told.endswith(
        "sandbox-agent: standard output could not be written: No space left on device\n"
        f"  hint: the final message is in {folder / 'result.json'}\n"
    )
    assert record(me)[0]["status"] == "done"
    assert record(me)[0]["message"] == "All\ndone."


def test_an_output_folder_that_cannot_be_is_a_usage_error(me: Person) -> None:
    task = struck.write_task(me, STEPS, output={"dir": "/dev/null/runs"})
    done = me.run([AGENT, "run", str(task)])
    assert (done.returncode, done.stdout) == (2, "")
    assert "task.yaml:1:" in done.stderr
    assert "output.dir: /dev/null/runs" in done.stderr
    assert "hint: name a folder that you may write to" in done.stderr
    done = me.run([AGENT, "exec", "--out", "/dev/null/runs", "--", "touch", "marker"])
    assert done.returncode == 125
    assert not (me.work / "marker").exists()


def test_a_prompt_from_a_closed_standard_input_is_empty(me: Person) -> None:
    task = str(struck.write_task(me, STEPS))
    done = me.run(["sh", "-c", f"exec {AGENT} run {task} --prompt - <&-"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sandbox-agent: --prompt: prompt: is empty\n  hint: write some text or remove it\n"
    )


BUG = """
import sys
from sandbox_agent.cli import main
from sandbox_agent.cli.verbs import schema
def broken(*_):
    raise ZeroDivisionError("a \\x1b[2J bug")
schema.main = broken
sys.exit(main(["schema"]))
"""


def test_a_bug_of_ours_is_a_short_message_and_70(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUG]
    env = {key: value for key, value in os.environ.items() if key != "SANDBOX_AGENT_DEBUG"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr == (
        "sandbox-agent: this is a bug of sandbox-agent: ZeroDivisionError: a \\x1b[2J bug\n"
        "  hint: report it; set SANDBOX_AGENT_DEBUG=1 to see the traceback\n"
    )
    env["SANDBOX_AGENT_DEBUG"] = "1"
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 70
    assert done.stderr.startswith("Traceback")


def test_progress_and_message_keep_their_order_on_one_terminal(me: Person) -> None:
    task = struck.write_task(me, STEPS)
    done = me.run(["script", "-qec", f"{AGENT} run {task}", "/dev/null"])
    lines = done.stdout.replace("\r", "").splitlines()
    assert lines[0].startswith("run ")
    assert lines[-3:] == ["  A made  3 bytes", "All", "done."]
    shutil.rmtree(me.folder / "runs")
    done = me.run(["sh", "-c", f"{AGENT} run {task} 2>&1 | cat"])
    assert done.stdout.splitlines()[-3:] == ["  M made  3 bytes", "All", "done."]


@pytest.mark.parametrize(
    ("redirection", "code", "out"),
    [
        ("--json >/dev/full", 74, ""),
        ("-o /dev/full", 74, "All\ndone.\n"),
        ("-o /dev/full >/dev/full", 74, ""),
        ("-o /dev/fd/7 7>/dev/full", 74, "All\ndone.\n"),
        (">&-", 74, ""),
        ("2>/dev/full", 74, "All\ndone.\n"),
        ("2>&-", 0, "All\ndone.\n"),
    ],
)
def test_a_message_that_cannot_be_written_is_74(
    me: Person, redirection: str, code: int, out: str
) -> None:
    task = struck.write_task(me, STEPS)
    done = me.run(["sh", "-c", f"exec {AGENT} run {task} {redirection}"])
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert record(me)[0]["status"] == "done"
    if code and "2>" not in redirection:
        assert "written" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_run_that_failed_keeps_its_code_where_its_message_is_lost(me: Person) -> None:
    task = struck.write_task(me, STEPS, verify=["false"])
    done = me.run(["sh", "-c", f"exec {AGENT} run {task} -o /dev/full >/dev/full"])
    assert done.returncode == 1
    assert "standard output could not be written: No space left on device" in done.stderr


def test_a_run_goes_on_without_the_reader_of_its_progress(me: Person) -> None:
    task = str(struck.write_task(me, STEPS))
    read_end, write_end = os.pipe()
    os.close(read_end)
    with me.start([AGENT, "run", task], stderr=write_end) as agent:
        os.close(write_end)
        assert agent.stdout is not None
        assert agent.stdout.read() == "All\ndone.\n"
        assert agent.wait(30) == 0


LARGE = [{"calls": [{"shell": {"command": "true"}}]}, {"final": "x" * 300_000}]


UNREAD = pytest.mark.parametrize("arguments", [[], ["--json"], ["-o", "pipe"]])


@contextmanager
def unread(
    me: Person, arguments: list[str], seconds: float
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A run that has ended, and waits for the reader of its message. It has waited so long."""
    task = str(struck.write_task(me, LARGE))
    os.mkfifo(me.work / "pipe")
    # Opened for both, so that it has a reader, and one that reads late.
    pipe = os.open(me.work / "pipe", os.O_RDWR)
    stdout = subprocess.DEVNULL if "-o" in arguments else pipe
    try:
        with started(me, [AGENT, "run", task, *arguments], stdout=stdout) as agent:
            assert agent.stderr is not None
            for line in agent.stderr:
                if "file changed" in line or "nothing changed" in line:
                    break
            with pytest.raises(subprocess.TimeoutExpired):
                agent.wait(seconds)
            yield agent, pipe
    finally:
        os.close(pipe)


@UNREAD
def test_a_slow_reader_gets_the_whole_message(me: Person, arguments: list[str]) -> None:
    with unread(me, arguments, 2) as (agent, pipe):
        got = b""
        while not got.endswith(b"\n") or (arguments == ["--json"] and b"segment_ended" not in got):
            got += os.read(pipe, 65536)
        assert agent.wait(30) == 0
    assert b"x" * 300_000 in got


@UNREAD
def test_a_signal_ends_the_wait_for_a_reader(me: Person, arguments: list[str]) -> None:
    with unread(me, arguments, 1) as (agent, _):
        agent.terminate()
        assert agent.wait(30) == 143
        assert agent.stderr is not None
        said = agent.stderr.read()
    assert "its reader does not read" in said
    assert record(me)[0]["status"] == "done"


def test_the_time_budget_ends_the_wait_for_a_reader(me: Person) -> None:
    task = str(struck.write_task(me, LARGE, budgets={"time": "5s"}))
    with started(me, [AGENT, "run", task]) as agent:
        assert agent.wait(60) == 74
        assert agent.stderr is not None
        assert "bytes of standard output were lost: its reader does not read" in agent.stderr.read()


def test_an_interrupt_waits_for_no_reader(me: Person) -> None:
    """Neither its progress nor its message has a reader, and both are full."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with open(write_end, "wb", buffering=0, closefd=False) as full:
        while full.write(b"x" * 4096):
            pass
    os.set_blocking(write_end, True)
    steps = [{"calls": [{"shell": {"command": "touch begun; sleep 600"}}]}, {"final": "Never."}]
    task = str(struck.write_task(me, steps, interrupt={"grace": 0.1, "term": 0.1}))
    options = {"stdout": write_end, "stderr": write_end}
    with started(me, [AGENT, "run", task, "--json"], **options) as agent:
        observer.eventually((me.work / "begun").exists, 30)
        begin = time.monotonic()
        agent.send_signal(signal.SIGINT)
        assert agent.wait(30) == 130
        assert time.monotonic() - begin < 10
    os.close(read_end)
    os.close(write_end)
    assert record(me)[0]["status"] == "interrupted"


def test_a_message_file_keeps_its_mode_and_its_other_names(me: Person) -> None:
    task = str(struck.write_task(me, STEPS))
    kept, other, private = me.work / "kept", me.work / "other", me.work / "private"
    kept.write_text("a longer text than the message")
    other.hardlink_to(kept)
    private.write_text("")
    private.chmod(0o600)
    for name in ("kept", "private"):
        done = me.run([AGENT, "run", task, "-o", name])
        assert done.returncode == 0, done.stderr
        assert (me.work / name).read_text() == "All\ndone.\n"
    assert other.samefile(kept)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert {path.name for path in me.work.iterdir()} == {"kept", "other", "private", "made"}


def test_a_message_file_whose_folder_goes_away_is_74(me: Person) -> None:
    steps = [{"calls": [{"shell": {"command": "mv folder gone"}}]}, {"final": "Done."}]
    (me.work / "folder").mkdir()
    task = str(struck.write_task(me, steps))
    done = me.run([AGENT, "run", task, "-o", "folder/message"])
    assert (done.returncode, done.stdout) == (74, "Done.\n")
    assert "folder/message: the final message was not written: " in done.stderr
    assert "No such file or directory" in done.stderr
