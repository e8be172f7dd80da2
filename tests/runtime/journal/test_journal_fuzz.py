"""Two thousand damaged journals: each is loaded, or refused with the number of a line.

`read_journal`, `cancel`, `replay` and `resume` get every one of them. None may raise anything but
an error that says what is wrong, and none may hang.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import leaks
import msgspec
import pytest
from sandbox_agent.cli import main
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import AgentError, ConfigError, JournalError, ModelError, StateError
from sandbox_agent.journal.events import AnyEvent, Started
from sandbox_agent.journal.file import JOURNAL_FILE, read_journal
from sandbox_agent.models.replay import load_replay
from sandbox_agent_sandbox.errors import PolicyError

SAMPLE = 100
CASES = 2000
SECONDS = 60.0
"""For all of them, on a machine that has no other work: CPU time."""
SEED = 20261128

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**30, 1e308, float("1e-320"), "", "\x1b[2J\x00", "x" * 70_000,
    "\ufffe" * 9, [], {}, [[[[]]]], {"a": {"b": {}}}, ["call_1_1"], "running", "done", "idle",
    "call_1_1", "call_99_1", "/", "../..", "scripted:/dev/zero", "replay:last", "openai/x",
)  # fmt: skip
RAW = (
    b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b'"\xff"', b"[" * 4000, b'{"a":' * 3000,
    b"9" * 5000,
)  # fmt: skip

Mutation = Callable[[random.Random, bytes], bytes]


def flip(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 20))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def hole(chance: random.Random, data: bytes) -> bytes:
    """A block of NULs, as after a power cut."""
    start = chance.randrange(len(data))
    length = chance.choice((1, 512, 4096, len(data) - start))
    return data[:start] + b"\0" * length + data[start + length :]


def repeated_tail(chance: random.Random, data: bytes) -> bytes:
    return data + data[chance.randrange(len(data)) :]


def lines(chance: random.Random, data: bytes) -> bytes:
    """Lines that are swapped, repeated, gone or of another place."""
    all_lines = data.splitlines(keepends=True)
    for _ in range(chance.choice((1, 1, 3))):
        one, other = chance.randrange(len(all_lines)), chance.randrange(len(all_lines))
        match chance.randrange(4):
            case 0:
                all_lines[one], all_lines[other] = all_lines[other], all_lines[one]
            case 1:
                all_lines.insert(one, all_lines[other])
            case 2 if len(all_lines) > 1:
                del all_lines[one]
            case _:
                all_lines[one] = all_lines[one][: chance.randrange(len(all_lines[one]))] + b"\n"
    return b"".join(all_lines)


def values(chance: random.Random, data: bytes) -> bytes:
    """A field with a value that it never has, anywhere in an event."""
    all_lines = data.splitlines(keepends=True)
    place = chance.randrange(len(all_lines))
    event = msgspec.json.decode(all_lines[place])
    fields = list(_fields(event))
    holder, key = chance.choice(fields)
    if chance.random() < 0.25:
        holder[key] = "<raw>"
        line = msgspec.json.encode(event).replace(b'"<raw>"', chance.choice(RAW), 1)
    else:
        holder[key] = chance.choice(HOSTILE)
        line = msgspec.json.encode(event)
    all_lines[place] = line + b"\n"
    return b"".join(all_lines)


def _fields(value: Any) -> Any:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, dict | list):
            yield from _fields(item)


MUTATIONS: tuple[Mutation, ...] = (flip, cut, hole, repeated_tail, lines, values, values, values)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The folder of a run with all kinds of events, of which one was interrupted."""
    turns = [
        {"calls": [{"shell": {"command": "echo one"}}, {"shell": {"command": "seq 400"}}]},
        {"calls": [{"shell": {"command": "false"}}]},
        {"final": "Done."},
        {"calls": [{"shell": {"command": "sleep 60"}}]},
        {"final": "Done again."},
        {"final": "And once more."},
    ]
    steps = tmp_path / "steps.yaml"
    steps.write_text(json.dumps(turns))
    (tmp_path / "work").mkdir()
    options = {"output_dir": tmp_path / "runs", "verify": ["true"], "tools": ["shell"]}
    model, workspace = f"scripted:{steps}", tmp_path / "work"
    with Conversation(model=model, workspace=workspace, **options) as conversation:
        conversation.send_message("go")
        assert conversation.run().exit_code == 0
    folder = conversation.run_dir

    def stop(event: AnyEvent) -> None:
        if isinstance(event, Started):
            again.interrupt()

    with Conversation.resume(folder, message="more", on_event=stop) as again:
        assert again.run().exit_code == 130
    return folder


def attempts(folder: Path, message: str | None) -> dict[str, Callable[[], object]]:
    def resume() -> None:
        with contextlib.suppress(StateError):
            Conversation.resume(folder, message=message).close()

    return {
        "read": lambda: read_journal(folder / JOURNAL_FILE),
        "replay": lambda: load_replay(folder),
        "resume": resume,
    }


def complaint(name: str, attempt: Callable[[], object]) -> str | None:
    """What is wrong with how it ended."""
    try:
        attempt()
    except JournalError as error:
        if not re.search(rf"{JOURNAL_FILE}:\d+: |in the journal", str(error)):
            return f"{name} names no line: {error}"
    except (ConfigError, PolicyError, ModelError) as error:
        if not str(error):
            return f"{name} says nothing"
    except AgentError as error:
        return f"{name}: {error!r}"
    except BaseException as error:
        return f"{name} raises {error!r}"
    return None


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cases", [SAMPLE, CASES])
def test_damaged_journals_are_loaded_or_refused(
    whole: Path, capfd: pytest.CaptureFixture[str], cases: int
) -> None:
    path = whole / JOURNAL_FILE
    data = path.read_bytes()
    record = (whole / "result.json").read_bytes()
    chance = random.Random(SEED)
    wrong: list[str] = []
    loaded = 0
    begun = time.process_time()
    signals = leaks.Signals.take()
    for number in range(cases):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        mutated = mutation(chance, data)
        path.write_bytes(mutated)
        spoilt = chance.choice((flip, cut, hole))(chance, record) if number % 3 == 0 else record
        (whole / "result.json").write_bytes(spoilt)
        found = []
        # `resume` comes last: it writes.
        code = main(["cancel", str(whole)])
        signals.restore()  # a command takes them for good, since its process ends with it
        told = capfd.readouterr().err
        if code not in (1, 2) or "Traceback" in told or "bug" in told:
            found.append(f"cancel: {code}: {told}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, attempt in attempts(whole, (None, "go on")[number % 2]).items():
                found.append(complaint(name, attempt) or "")
        loaded += not any(found)
        wrong += [f"{number} {mutation.__name__}: {one}" for one in found if one]
    seconds = time.process_time() - begun
    assert not wrong, "\n".join(wrong[:20])
    assert loaded
    assert seconds < SECONDS, seconds
