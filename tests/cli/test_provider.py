"""Runs with models of providers, as a user of the command line has them, from a task to its replay
without a server. Each of these runs imports litellm, which takes seconds: so each shows several
things."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import identity
import journals
import observer
import pytest
from identity import BIN, Person
from provider import Answer, End, Fault, Kind, Script, Stub, Then, ToolCall, Usage
from raw_server import nobody

PERSONS = ["user"]  # what it shows does not depend on who runs the command

AGENT = str(BIN / "sandbox-agent")
KEY = "sk-pl4nted-0penai-k3y"
KEYS = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": "sk-ant-pl4nted-k3y"}
PATIENCE = 60.0
GRACE = TERM = 0.5
NOISE = 4


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def task(person: Person, base: str, name: str = "openai/gpt-4o", **more: Any) -> str:
    """A task file of that person, whose model is asked at `base`."""
    model = {"name": name, "api_base": base, **more.pop("model", {})}
    data = {
        "version": 1,
        "prompt": "Make the tests pass.",
        "model": model,
        "workspace": {"path": str(person.work)},
        "interrupt": {"grace": GRACE, "term": TERM},
        "output": {"dir": str(person.folder / "runs")},
        **more,
    }
    return str(person.write(person.folder / "task.yaml", json.dumps(data)))


def run(
    person: Person, *argv: str, env: Mapping[str, str] = KEYS
) -> subprocess.CompletedProcess[str]:
    return person.run([AGENT, *argv], env=env)


@contextmanager
def no_litellm() -> Iterator[None]:
    """The command of this block imports no litellm, which takes 2.7 s where there is nothing else
    to do; all else that it does takes 0.3 s."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < 2.5 * observer.patience()


def folders(person: Person) -> list[Path]:
    runs = person.folder / "runs"
    return sorted(path for path in runs.iterdir() if path.is_dir()) if runs.exists() else []


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


# --- a real task ------------------------------------------------------------------------------

BROKEN = """\
def mean(numbers):
    return sum(numbers) / len(numbers)


def median(numbers):
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]
"""
WRONG = "    return ordered[len(ordered) // 2]\n"
RIGHT = """\
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return mean(ordered[middle - 1 : middle + 1])
"""
CHECKS = """\
import unittest

from averages import mean, median


class Averages(unittest.TestCase):
    def test_mean(self):
        self.assertEqual(mean([1, 2, 6]), 3)

    def test_median(self):
        self.assertEqual(median([3, 1, 2]), 2)
        self.assertEqual(median([4, 1, 2, 3]), 2.5)
"""
VERIFY = "python3 -m unittest -q test_averages"
FINAL = "The median of an even number of values was that of the upper two; it is their mean now."
TURNS = (
    Answer(
        text="Let me run the tests, and read what they test.",
        reasoning="Tests first.",
        calls=(
            ToolCall("shell", {"command": f"{VERIFY} 2>&1 | grep -v '^Ran'"}),
            ToolCall("read_file", {"path": "averages.py"}),
        ),
        usage=Usage(prompt=1200, completion=60, reasoning=10),
        pieces=8,
    ),
    Answer(
        calls=(
            ToolCall("edit_file", {"path": "averages.py", "old": WRONG, "new": RIGHT}),
            ToolCall("shell", {"command": "git status --short 2>/dev/null; ls"}),
        ),
        usage=Usage(prompt=1800, completion=90, cached=1200),
        pause=0.01,
    ),
    Answer(text=FINAL, usage=Usage(prompt=2100, completion=30, cached=1800), pieces=20),
)


def project(person: Person) -> None:
    person.write(person.work / "averages.py", BROKEN)
    person.write(person.work / "test_averages.py", CHECKS)


def test_a_coding_task_is_done_recorded_and_replayed_without_the_server(person: Person) -> None:
    project(person)
    with Stub(TURNS) as stub:
        path = task(
            person,
            stub.openai_base,
            verify=[f"{VERIFY} 2>/dev/null"],  # its output has a duration
            sandbox={"protect": [str(person.work / "test_averages.py")]},
        )
        done = run(person, "run", path)
        assert (done.returncode, done.stdout) == (0, FINAL + "\n"), done.stderr
        assert stub.violations == [] and stub.strays == []
        assert len(stub.requests) == 3
        assert all(request.body["stream"] for request in stub.requests)
        assert {request.key for request in stub.requests} == {KEY}
        told = [
            one["content"] for one in stub.requests[1].body["messages"] if one["role"] == "tool"
        ]
        assert "2.5" in told[0] and "FAILED" in told[0]
        assert "def median" in told[1]
    [folder] = folders(person)
    result = record(folder)
    assert (result["status"], result["model"]) == ("done", "openai/gpt-4o")
    assert [call["outcome"] for call in result["calls"]] == ["ok"] * 4
    assert [one["passed"] for one in result["verify"]] == [True]
    assert result["usage"]["tokens"] == 1260 + 1890 + 2130
    assert result["usage"]["cost_usd"] > 0
    everything = b"".join(one.read_bytes() for one in folder.rglob("*") if one.is_file())
    assert b"pl4nted" not in everything

    # No server, no key, and the tools do it all once more.
    argv = ["run", "--model", "replay:last", "--out", str(person.folder / "runs")]
    for more, words in ((["--check"], "; results are as recorded"), ([], "verify agrees")):
        (person.work / "averages.py").write_text(BROKEN)
        with no_litellm():
            again = run(person, *argv, *more, env={})
        assert (again.returncode, again.stdout) == (0, FINAL + "\n"), again.stderr
        assert words in again.stderr
        assert RIGHT in (person.work / "averages.py").read_text()
    first, _, last = folders(person)
    found = journals.differences(first, last)
    assert found == [], "\n".join(found)


# --- stopped, and gone on with ----------------------------------------------------------------


@dataclass
class Going:
    """A command at work. agent: its process."""

    agent: subprocess.Popen[str]
    everyone: list[observer.Process] = field(default_factory=list)


def strike(
    agent: subprocess.Popen[str], *numbers: int
) -> tuple[float, str, list[observer.Process]]:
    """Signals the agent alone. Seconds until its end, its stderr, and who is left then."""
    everyone = observer.descendants(agent.pid)
    assert len(everyone) >= 5  # spawner, init and more: the observer sees them
    with observer.watching(everyone) as handles:
        begin = time.monotonic()
        for number in numbers:
            os.kill(agent.pid, number)
        _, err = agent.communicate(timeout=PATIENCE)
        seconds = time.monotonic() - begin
        _, left = observer.wait_gone(handles, 0.25 * NOISE)
    return seconds, err, left


def test_ctrl_c_in_a_request_ends_it_and_resume_asks_again(person: Person) -> None:
    """Of Anthropic's, whose signed thoughts must come back unchanged from the journal."""
    first = Answer(reasoning="Begin at the beginning.", calls=TURNS[0].calls)
    held = Answer(text="Never heard of it", hold_at=4, pieces=50)
    project(person)
    with Stub([first, held, held, Answer(text="Done at last.")]) as stub:
        options = {"timeout": "45s", "params": {"max_tokens": 500}}
        name = "anthropic/claude-sonnet-4-5"
        path = task(person, stub.anthropic_base, name, model=options, budgets={"cost_usd": 5})
        with person.start([AGENT, "run", path], env=KEYS) as agent:
            stub.wait_requests(1, PATIENCE)
            stub.wait_events(1, 4, PATIENCE)
            begin = time.monotonic()
            seconds, err, left = strike(agent, signal.SIGINT)
            assert agent.returncode == 130, err
            assert left == []
            assert seconds < 0.5 * NOISE
            assert stub.wait_closed(1) - begin < 0.05 * NOISE
            assert "Traceback" not in err
        [folder] = folders(person)
        result = record(folder)
        assert (result["status"], result["exit_code"]) == ("interrupted", 130)
        assert result["survivors"] == [] and result["usage"]["requests"] == 1
        assert journals.read(folder)[-1]["event"] == "segment_ended"

        # In a new process, of which the agent is killed in the same place, and then to the end.
        out = ["--out", str(person.folder / "runs")]
        with person.start([AGENT, "resume", "last", *out], env=KEYS) as agent:
            stub.wait_requests(3, PATIENCE)
            stub.wait_events(2, 4, PATIENCE)
            _, err, left = strike(agent, signal.SIGKILL)
            assert left == []
            stub.wait_closed(2)
        done = run(person, "resume", "last", *out)
        assert (done.returncode, done.stdout) == (0, "Done at last.\n"), done.stderr
        assert stub.violations == []
        bodies = [request.body for request in stub.requests]
        assert bodies[1]["messages"] == bodies[2]["messages"] == bodies[3]["messages"]
        assert [body["max_tokens"] for body in bodies] == [500] * 4
        blocks = bodies[3]["messages"][1]["content"]
        assert [block["type"] for block in blocks] == ["thinking", "tool_use", "tool_use"]
        assert len(folders(person)) == 1


# --- errors -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """answers: of the stub. words: in the message to the user. requests: that the stub received."""

    answers: tuple[Answer, ...]
    words: tuple[str, ...]
    requests: int
    model: dict[str, Any] = field(default_factory=dict)


def fault(kind: Kind, **more: Any) -> Answer:
    return Answer(fault=Fault(kind, **more))


BAD = {
    # Three that pass by themselves come before the one that does not.
    "401": Bad(
        (
            fault(Kind.SERVER, retry_after="0"),
            fault(Kind.RATE_LIMIT, retry_after="0"),
            Answer(text="half an ans", end=End.CLOSE, after=2),
            fault(Kind.AUTHENTICATION),
        ),
        ("the provider refused the key (HTTP 401)", "Incorrect API key provided"),
        4,
        {"retries": 5},
    ),
    "404": Bad(
        (fault(Kind.NOT_FOUND),),
        (
            "the model does not exist",
            "404",
            "The model `gpt-4o` does not exist or you do not have access",
        ),
        1,
    ),
    "429": Bad(
        (fault(Kind.RATE_LIMIT, retry_after="0"),) * 3,
        ("rate limit", "429", "after 2 attempts", "Rate limit reached for gpt-4o"),
        2,
        {"retries": 1},
    ),
    "500": Bad(
        (fault(Kind.SERVER),) * 3,
        ("500", "The server had an error while processing your request"),
        1,
        {"retries": 0},
    ),
    "no JSON": Bad(
        (Answer(text="half an answer", end=End.BAD_JSON, after=2),) * 3,
        ("broke off",),
        2,
        {"retries": 1},
    ),
    "wrong path": Bad((), ("404", "api_base"), 0, {"api_base": "/v2/nothing"}),
    "nobody there": Bad((), ("cannot be reached",), 0, {"api_base": None, "retries": 0}),
    # As a context window that is exceeded: it is asked once more, with less in it.
    "too large": Bad((fault(Kind.TOO_LARGE),) * 2, ("413", "Request body is too large"), 2),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_error_of_the_provider_ends_with_4_and_its_words(me: Person, kind: str) -> None:
    bad = BAD[kind]
    with nobody() as gone, Stub(bad.answers) as stub:
        options = dict(bad.model)
        base = options.pop("api_base", "/v1")
        path = task(me, gone if base is None else stub.address + base, model=options)
        done = run(me, "run", path)
        assert len(stub.requests) == bad.requests
        assert stub.violations == []
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert "Traceback" not in done.stderr and "litellm." not in done.stderr
    assert "pl4nted" not in done.stderr
    for word in ("openai/gpt-4o", *bad.words):
        assert word in done.stderr, done.stderr
    [folder] = folders(me)
    result = record(folder)
    assert (result["status"], result["exit_code"]) == ("error", 4)
    assert all(word in result["reason"] for word in bad.words)


AT_ONCE: dict[str, tuple[dict[str, Any], dict[str, str], int, tuple[str, ...]]] = {
    "no key": ({"name": "openai/gpt-4o"}, {}, 4, ("OPENAI_API_KEY", "not set", "hint: ")),
    "the other's key": (
        {"name": "anthropic/claude-sonnet-4-5"},
        {"OPENAI_API_KEY": KEY},
        4,
        ("ANTHROPIC_API_KEY", "not set"),
    ),
    "an empty key": ({"name": "openai/gpt-4o"}, {"OPENAI_API_KEY": ""}, 4, ("OPENAI_API_KEY",)),
    "a misspelt provider": ({"name": "opneai/gpt-4o"}, KEYS, 4, ("opneai", "openai/")),
    "no provider": ({"name": "some-model-of-ours"}, KEYS, 4, ("some-model-of-ours",)),
    "no address": ({"name": "openai/x", "api_base": "localhost:80"}, KEYS, 2, ("api_base",)),
    "a key in the address": (
        {"name": "openai/x", "api_base": f"http://me:{KEY}@host/v1"},
        KEYS,
        2,
        ("api_base", "environment"),
    ),
    "a key in the address's query": (
        {"name": "openai/x", "api_base": f"http://host/v1?api-key={KEY}"},
        KEYS,
        2,
        ("api_base", "environment"),
    ),
    "a line break in the key": (
        {"name": "openai/gpt-4o"},
        {"OPENAI_API_KEY": f"{KEY}\n"},
        4,
        ("OPENAI_API_KEY", "line break", "hint: "),
    ),
    "a provider and no model": ({"name": "openai/"}, KEYS, 4, ("openai/", "PROVIDER/MODEL")),
    "a key in the task": (
        {"name": "openai/gpt-4o", "params": {"api_key": KEY}},
        KEYS,
        2,
        ("api_key", "environment"),
    ),
    "a key as something else": (
        {"name": "openai/gpt-4o", "params": {"metadata": {"whose": [f"of {KEY}"]}}},
        KEYS,
        2,
        ("OPENAI_API_KEY", "params"),
    ),
    "a key in the address's path": (
        {"name": "openai/x", "api_base": f"http://host/{KEY}/v1"},
        KEYS,
        2,
        ("OPENAI_API_KEY", "api_base"),
    ),
    "what is ours to say": (
        {"name": "openai/gpt-4o", "params": {"messages": []}},
        KEYS,
        2,
        ("params", "messages"),
    ),
    "a wrong time": ({"name": "openai/gpt-4o", "timeout": "soon"}, KEYS, 2, ("timeout",)),
    "too many retries": ({"name": "openai/gpt-4o", "retries": 1000}, KEYS, 2, ("retries",)),
    "a field of nobody": ({"name": "openai/gpt-4o", "streem": True}, KEYS, 2, ("streem", "stream")),
    "a blank name": ({"name": "  "}, KEYS, 2, ("model",)),
}


@pytest.mark.parametrize("kind", AT_ONCE)
def test_certain_problems_are_reported_before_anything_starts(me: Person, kind: str) -> None:
    model, keys, code, words = AT_ONCE[kind]
    path = task(me, "")
    data = json.loads(Path(path).read_text())
    me.write(Path(path), json.dumps({**data, "model": model}))
    for verb in ("validate", "run"):
        with no_litellm():
            done = run(me, verb, path, env=keys)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert "Traceback" not in done.stderr
        assert "task.yaml:1:" in done.stderr  # the file, and where in it
        assert "pl4nted" not in done.stderr
        for word in words:
            assert word in done.stderr, done.stderr
    assert folders(me) == []


ENVS: dict[str, tuple[dict[str, Any], str]] = {
    "set to the key": ({"set": {"FOO": KEY}}, "OPENAI_API_KEY"),
    "given the key": ({"pass": ["OPENAI_API_KEY"]}, "OPENAI_API_KEY holds the key"),
}


@pytest.mark.parametrize("kind", ENVS)
def test_tools_that_would_get_the_models_key_are_refused_with_the_line(
    me: Person, kind: str
) -> None:
    env, word = ENVS[kind]
    path = task(me, "http://127.0.0.1:9/v1", sandbox={"env": env})
    for verb in ("validate", "run"):
        done = run(me, verb, path)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        for said in ("task.yaml:1:", "sandbox.env.", word, "hint: "):
            assert said in done.stderr
        assert "pl4nted" not in done.stderr
    assert folders(me) == []


def test_resume_without_the_key_says_so_at_once_and_changes_nothing(me: Person) -> None:
    answers = (Answer(calls=(ToolCall("shell", {"command": "true"}),)), Answer(text="Done."))
    with Stub(answers) as stub:
        env = {**KEYS, "OPENAI_BASE_URL": stub.openai_base}
        argv = ["--model", "openai/gpt-4o", "--out", "../runs", "--set", "budgets.turns=1"]
        assert run(me, "run", "--prompt", "go", *argv, env=env).returncode == 3
        [folder] = folders(me)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for keys, word in (({}, "not set"), ({"OPENAI_API_KEY": f"{KEY}\n"}, "line break")):
            with no_litellm():
                done = run(me, "resume", "last", "--out", "../runs", env=keys)
            assert (done.returncode, done.stdout) == (4, ""), done.stderr
            for said in ("OPENAI_API_KEY", word, "hint: "):
                assert said in done.stderr
            assert "pl4nted" not in done.stderr and "Traceback" not in done.stderr
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert after == before
        assert len(stub.requests) == 1


def test_a_valid_task_sends_no_request(me: Person) -> None:
    with Stub([]) as stub:
        done = run(me, "validate", task(me, stub.openai_base))
        assert (done.returncode, done.stderr) == (0, "")
        # A server of one's own may want no key.
        own = run(me, "validate", task(me, stub.openai_base, "openai/our-own"), env={})
        assert (own.returncode, own.stderr) == (0, "")
        assert stub.requests == () and stub.strays == []
    assert folders(me) == []


def test_an_answer_cut_off_fails_the_run_and_is_asked_for_again_with_more_room(me: Person) -> None:
    nothing = Answer(reasoning="Hm.", usage=Usage(prompt=100, completion=20))
    half = Answer(text="I am now going to ", finish="length", usage=Usage(prompt=100, completion=9))
    with Stub([nothing, half, Answer(text="Done.")]) as stub:
        done = run(me, "run", task(me, stub.openai_base, verify=["touch verified"]))
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert "failed: the model's answer was cut off by its length limit" in done.stderr
        assert "model.params.max_tokens" in done.stderr
        assert "used: 229 tokens in 2 answers, $" in done.stderr
        assert not (me.work / "verified").exists()
        [folder] = folders(me)
        usage = record(folder)["usage"]
        assert (usage["requests"], usage["tokens"]) == (2, 229)

        more = ["--out", str(me.folder / "runs"), "--set", "model.params.max_tokens=9000"]
        done = run(me, "resume", "last", *more)
        assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr
        assert stub.requests[-1].body["max_tokens"] == 9000
        assert stub.violations == []
    done = run(me, "run", "--model", "replay:last", "--check", *more[:2], env={})
    assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr


def test_an_endless_loop_of_calls_is_noticed_and_a_prompt_alone_is_a_task(me: Person) -> None:
    call = Answer(calls=(ToolCall("shell", {"command": "echo the same"}),))
    with Stub(Script((call,), then=Then.REPEAT)) as stub:
        env = {**KEYS, "OPENAI_API_BASE": stub.openai_base}
        argv = ["--prompt", "Go on for ever.", "--model", "openai/gpt-4o"]
        done = run(me, "run", *argv, "--out", "../runs", env=env)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert "no progress" in done.stderr
        assert stub.violations == []


def test_only_a_whole_answer_is_a_success(person: Person) -> None:
    """A call that cannot be made, a pause, the end; an end that is none; a refusal."""
    bad = f'{{"command": "touch bad", "timeout": {"9" * 400}}}'
    calls = (ToolCall("shell", {"command": "touch good"}), ToolCall("shell", bad))
    turns = [
        Answer(calls=calls),
        Answer(text="I look it up. \n", finish="pause_turn"),
        Answer(text="It is long."),
    ]
    claude = "anthropic/claude-sonnet-4-5"
    with Stub(turns) as stub:
        done = run(person, "run", task(person, stub.anthropic_base, claude))
        assert (done.returncode, done.stdout) == (0, "I look it up.\nIt is long.\n"), done.stderr
        assert sorted(path.name for path in person.work.iterdir()) == ["good"]
        # The provider gets its half back as the last message, and continues it.
        last = stub.requests[2].body["messages"][-1]
        assert (last["role"], last["content"][-1]["text"]) == ("assistant", "I look it up.")
        assert stub.violations == []
    with Stub(Script((Answer(text="Half of", finish="weird"),), then=Then.REPEAT)) as stub:
        path = task(person, stub.openai_base, model={"retries": 1})
        done = run(person, "run", path)
        assert (done.returncode, done.stdout) == (4, ""), done.stderr
        assert "'weird'" in done.stderr
        assert len(stub.requests) == 2
    with Stub([Answer(text="I will not help with that.", finish="refusal")]) as stub:
        done = run(person, "run", task(person, stub.anthropic_base, claude, verify=["true"]))
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert "failed: the model refused: I will not help with that." in done.stderr
