"""What options of the command line, of a task file and of the library do: each is seen to do it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import identity
import observer
import pytest
from identity import BIN, Person
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.events import SegmentStarted, Verified
from sandbox_agent.journal.history import Message
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent.models import DeltaKind, ModelDelta, ModelTurn, OnDelta
from sandbox_agent.models.scripted import ScriptedModel
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken
from sandbox_agent_sandbox.outcome import Outcome
from talking import FINAL, Watch, shell, soon, talk

AGENT = str(BIN / "sandbox-agent")
STUBBORN = "trap '' INT TERM; echo up; sleep 300 & wait; sleep 300"


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def agent(me: Person, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return me.run([AGENT, *argv], **{"cwd": me.folder, **options})


def prepared(me: Person, command: str = "touch made; echo hello", more: str = "") -> None:
    steps = f"- calls: [{{shell: {{command: {json.dumps(command)}}}}}]\n- final: Done.\n"
    me.write(me.folder / "steps.yaml", steps)
    me.write(
        me.folder / "task.yaml",
        f"version: 1\nprompt: Go.\nmodel: scripted:steps.yaml\nworkspace: {{path: work}}\n{more}",
    )


def events(folder: Path) -> list[dict[str, Any]]:
    (journal,) = folder.glob("2*/journal.jsonl")
    return [json.loads(line) for line in journal.read_text().splitlines()]


def settings(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in events(folder) if e["event"] == "segment")
    return dict(found["settings"]["task"])


def test_the_flags_of_run(me: Person) -> None:
    prepared(me)
    (me.folder / "other").mkdir()
    me.own(me.folder / "other")
    done = agent(
        me, "run", "task.yaml", "--workspace", "other", "--out", "here", "--grace", "250ms",
        "--timeout", "40s", "--set", "parallel=2", "-o", "said.txt", "--prompt", "-", "--json",
        stdin=open_text(me, "From standard input."),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (me.folder / "other" / "made").exists() and not (me.work / "made").exists()
    task = settings(me.folder / "here")
    assert (task["interrupt"]["grace"], task["budgets"]["time"], task["parallel"]) == (0.25, 40, 2)
    assert (me.folder / "said.txt").read_text() == "Done.\n"
    assert [json.loads(line) for line in done.stdout.splitlines()] == events(me.folder / "here")
    (told,) = (e["text"] for e in events(me.folder / "here") if e["event"] == "user_message")
    assert told == "From standard input."


def open_text(me: Person, text: str) -> Any:
    return open(me.write(me.folder / "input.txt", text))


def test_the_fields_of_a_task(me: Person) -> None:
    prepared(me, "seq 100000", "name: called\noutput: {dir: kept}\nparallel: 3\n")
    limits = "sandbox: {limits: {output: 2k}}\ninterrupt: {grace: 1s, term: 2s}\n"
    task = me.folder / "task.yaml"
    me.write(task, task.read_text() + limits)
    done = agent(me, "run")
    assert done.returncode == 0, done.stderr
    opened = events(me.folder / "kept")[0]
    assert opened["name"] == "called"
    recorded = settings(me.folder / "kept")
    assert recorded["parallel"] == 3
    assert recorded["interrupt"] == {"grace": 1.0, "term": 2.0}
    (ended,) = (e for e in events(me.folder / "kept") if e["event"] == "ended")
    assert len(ended["content"]) < 3000 and "left out" in ended["content"]


def test_the_flags_of_exec(me: Person) -> None:
    me.write(me.folder / "policy.yaml", "env: {set: {FROM: policy}}\n")
    done = agent(
        me, "exec", "--workspace", "work", "--out", "here", "--policy", "policy.yaml", "--",
        "sh", "-c", "pwd; echo $FROM",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{me.work}\npolicy\n"), done.stderr
    assert settings(me.folder / "here")["workspace"]["path"] == str(me.work)
    began = time.monotonic()
    slow = ["--grace", "100ms", "--timeout", "200ms", "--", "sh", "-c", STUBBORN]
    done = agent(me, "exec", "--workspace", "work", "--out", "there", *slow)
    assert done.returncode == 124, done.stderr
    assert settings(me.folder / "there")["interrupt"]["grace"] == 0.1
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("flag", "value", "named"),
    [
        ("--grace", "soon", "interrupt.grace"),
        ("--timeout", "soon", "budgets.time"),
        ("--workspace", "nowhere", "workspace.path"),
        ("--model", "scripted:nowhere", "model"),
        ("--prompt", " ", "prompt"),
        ("--set", "parallel=0", "parallel"),
        ("--var", "x", "--var"),
        ("--check", None, "--check"),
        ("--name", "a b", "name"),
    ],
)
def test_validate_checks_what_run_would_use(
    me: Person, flag: str, value: str | None, named: str
) -> None:
    prepared(me)
    assert agent(me, "validate").returncode == 0
    done = agent(me, "validate", flag, *([] if value is None else [value]))
    assert done.returncode == 2, done.stderr
    assert named in done.stderr and "hint: " in done.stderr


def test_validate_looks_for_runs_where_it_is_told(me: Person) -> None:
    done = agent(me, "validate", "--model", "replay:last", "--out", "nowhere")
    assert done.returncode == 2 and "there are no runs in nowhere" in done.stderr


def test_doctor_prints_json(me: Person) -> None:
    said = json.loads(agent(me, "doctor", "--json").stdout)
    lines = agent(me, "doctor").stdout
    assert said and lines and not lines.startswith(("{", "["))


def test_cancel_looks_for_runs_where_it_is_told(me: Person) -> None:
    prepared(me)
    assert agent(me, "run", "--out", "here").returncode == 0
    done = agent(me, "cancel", "last", "--out", "here", "--wait", "1s")
    assert done.returncode == 1 and "is over" in done.stderr
    assert "there are no runs" in agent(me, "cancel", "last", "--out", "there").stderr


def test_the_version_is_printed(me: Person) -> None:
    assert agent(me, "--version").stdout.startswith("sandbox-agent ")


def test_standard_error_of_a_call_has_a_pipe_of_its_own_where_wanted(tmp_path: Path) -> None:
    for separate in (True, False):
        heard: list[tuple[str, bytes]] = []
        folder = tmp_path / str(separate)
        folder.mkdir()
        with Conversation(
            model=ScriptedModel([shell("echo out; echo err >&2"), FINAL]),
            workspace=folder,
            output_dir=tmp_path / "runs",
            on_output=lambda call, stream, data: heard.append((stream, data)),  # noqa: B023
            separate_output=separate,
        ) as conversation:
            conversation.send_message("Go.")
            assert conversation.run().status is Status.DONE
        streams = {stream for stream, _ in heard}
        assert streams == ({"stdout", "stderr"} if separate else {"stdout"})


def test_a_durable_journal_is_synced_in_every_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts the system calls: whether a power cut takes the journal cannot be tried here."""
    counted: dict[bool, int] = {}
    for durable in (False, True):
        synced: list[int] = []
        for name in ("fsync", "fdatasync"):
            real = getattr(os, name)
            monkeypatch.setattr(os, name, lambda fd, real=real: (synced.append(fd), real(fd)))  # noqa: B023
        with talk(tmp_path, Watch(), shell("true"), shell("true"), FINAL, durable=durable) as conv:
            conv.send_message("Go.")
            assert conv.run().status is Status.DONE
        monkeypatch.undo()
        counted[durable] = len(synced)
    assert counted[True] >= counted[False] + 3, counted


def test_the_interrupt_of_a_conversation(tmp_path: Path, watch: Watch) -> None:
    """Its grace and term bound the end, and `exit_code` is that of the record."""
    short = Interrupt(grace="100ms", term="200ms")
    with talk(tmp_path, watch, shell(STUBBORN), FINAL, interrupt=short) as conv:
        conv.send_message("Go.")
        soon(lambda: (watch.wait_up(), conv.interrupt(exit_code=99)))
        result = conv.run()
    assert (result.status, result.exit_code) == (Status.INTERRUPTED, 99)
    (call,) = result.record.calls
    assert call.rungs_ms["term"] >= 90 and call.rungs_ms["kill"] >= 280


def test_a_mapping_given_to_resume_replaces_what_it_names(tmp_path: Path, watch: Watch) -> None:
    sandbox = {"env": {"set": {"A": "1"}}, "limits": {"timeout": 9}}
    interrupt = {"grace": 0.5, "term": 0.25}
    with talk(tmp_path, watch, FINAL, sandbox=sandbox, interrupt=interrupt) as conv:
        conv.send_message("Go.")
        conv.run()
    model = ScriptedModel([FINAL, FINAL])
    with Conversation.resume(
        conv.run_dir,
        message="More.",
        model=model,
        sandbox={"network": "host"},
        interrupt={"grace": 3},
    ) as again:
        recorded = again._setup.settings
    assert recorded.sandbox.network == "host"
    assert recorded.sandbox.env.set == {"A": "1"}
    assert recorded.sandbox.limits.timeout == 9
    assert (recorded.interrupt.grace, recorded.interrupt.term) == (3, 0.25)
    # None is what is not given: a wrapper's default must not drop a policy.
    nothing: dict[str, Any] = dict.fromkeys(("sandbox", "tools", "interrupt", "verify"))
    with Conversation.resume(conv.run_dir, message="More.", model=model, **nothing) as again:
        recorded = again._setup.settings
    assert recorded.sandbox.env.set == {"A": "1"}
    assert [str(choice) for choice in recorded.tools] == ["shell"]
    assert recorded.interrupt.term == 0.25


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"output_dir": ""}, "output_dir"),
        ({"name": ""}, "name"),
        ({"workspace": ""}, "workspace"),
        ({"model": ""}, "model"),
        ({"verify": [""]}, "verify"),
        ({"on_event": "print"}, "on_event"),
        ({"on_output": 5}, "on_output"),
        ({"on_delta": []}, "on_delta"),
        ({"durable": "no"}, "durable"),
        ({"separate_output": 1}, "separate_output"),
        ({"interrupt": (1, 2, 3)}, "interrupt"),
    ],
)
def test_an_option_of_a_conversation_that_could_have_no_effect_is_refused(
    tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    given = {"model": ScriptedModel([FINAL]), "workspace": tmp_path, "output_dir": tmp_path / "r"}
    with pytest.raises(ConfigError) as caught:
        Conversation(**{**given, **options})
    assert field in str(caught.value) and caught.value.hint


def test_an_empty_message_is_refused(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, FINAL) as conv:
        with pytest.raises(ConfigError, match="is empty"):
            conv.send_message(" \n")
        for wrong in (None, b"Go.", 3):
            with pytest.raises(ConfigError, match="message: must be text, not "):
                conv.send_message(wrong)  # type: ignore[arg-type]
        conv.send_message("Go.")
        conv.run()
    with pytest.raises(ConfigError, match="is empty"):
        Conversation.resume(conv.run_dir, message="", model=ScriptedModel([FINAL]))


def test_a_tool_has_a_time_of_its_own(tmp_path: Path, watch: Watch) -> None:
    tools = [{"shell": {"timeout": "200ms"}}]
    with talk(tmp_path, watch, shell("sleep 300"), FINAL, tools=tools) as conv:
        conv.send_message("Go.")
        assert conv.run().status is Status.DONE
    (call,) = read_record(conv.run_dir).calls
    assert call.outcome is Outcome.TIMEOUT


def test_the_flags_of_resume(me: Person) -> None:
    prepared(me)
    steps = "- final: one\n- final: two\n- final: three\n"
    me.write(me.folder / "other.yaml", steps)
    first = ["run", "--out", "runs", "--model", "scripted:other.yaml", "--die-with-parent"]
    assert agent(me, *first).returncode == 0
    for flag, said in (("--die-with-parent", "two\n"), ("--no-die-with-parent", "three\n")):
        done = agent(
            me, "resume", "last", "--out", "runs", "--model", "scripted:other.yaml", flag,
            "--prompt", "More.",
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, said), done.stderr
    second = ["run", "--out", "runs", "--no-die-with-parent"]
    assert agent(me, *second).returncode == 0


@pytest.mark.parametrize("verb", ["run", "resume"])
@pytest.mark.parametrize("flag", ["--die-with-parent", "--no-die-with-parent"])
def test_a_run_and_a_resumed_one_heed_the_death_of_their_parent_where_wanted(
    me: Person, verb: str, flag: str
) -> None:
    mark = observer.new_mark()
    prepared(me, f"exec sleep 300.{mark}")
    runs = ["--out", "runs"]
    if verb == "resume":
        me.write(me.folder / "one.yaml", "- say: Nothing yet.\n")
        assert agent(me, "run", *runs, "--model", "scripted:one.yaml").returncode == 1
        argv = ["resume", "last", "--model", "scripted:two.yaml", *runs]
        steps = (me.folder / "steps.yaml").read_text()
        me.write(me.folder / "two.yaml", "- say: Nothing yet.\n" + steps)
    else:
        argv = ["run", *runs]
    command = ["sh", "-c", '"$@" & echo $!; wait', "sh", AGENT, *argv, flag]
    with me.start(command, cwd=me.folder, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        soon_true(lambda: any(p.command.startswith("sleep") for p in observer.marked(mark)))
        with observer.watching(observer.marked(mark)) as watched:
            parent.kill()
            parent.wait()
            if flag.startswith("--no"):
                assert observer.look(pid) is not None
                os.kill(pid, signal.SIGINT)
            assert observer.wait_gone(watched, 30)[1] == []
        soon_true(lambda: observer.look(pid) is None)
    [record] = (me.folder / "runs").glob("*/result.json")
    assert json.loads(record.read_text())["exit_code"] == (130 if flag.startswith("--no") else 129)


def soon_true(what: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_resume_takes_anew(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with talk(tmp_path, watch, FINAL) as conv:
        conv.send_message("Go.")
        conv.run()
    other = tmp_path / "other"
    other.mkdir()
    heard: dict[str, list[Any]] = {"event": [], "output": [], "delta": [], "synced": []}
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (heard["synced"].append(fd), real(fd)))
    with Conversation.resume(
        conv.run_dir,
        message="More.",
        model=_Streaming([FINAL, shell("pwd; echo err >&2"), FINAL]),
        tools=["shell"],
        workspace=other,
        parallel=3,
        spares=1,
        verify=["echo verified"],
        durable=True,
        separate_output=True,
        on_event=heard["event"].append,
        on_output=lambda call, stream, data: heard["output"].append((stream, data)),
        on_delta=heard["delta"].append,
    ) as again:
        assert again.run().status is Status.DONE
    monkeypatch.undo()
    assert ("stderr", b"err\n") in heard["output"]
    assert any(str(other).encode() in data for _, data in heard["output"])
    assert heard["delta"] and heard["event"]
    assert heard["synced"]
    assert [one.command for one in heard["event"] if isinstance(one, Verified)] == ["echo verified"]
    (segment,) = (one for one in heard["event"] if isinstance(one, SegmentStarted))
    assert (segment.settings.task["parallel"], segment.settings.task["spares"]) == (3, 1)
    assert [entry.spec.name for entry in segment.tools] == ["shell"]


class _Streaming(ScriptedModel):
    """Says a piece of each answer before it comes."""

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        on_delta(ModelDelta(DeltaKind.TEXT, "Well"))
        return await super().complete(history, tools, token, on_delta)
