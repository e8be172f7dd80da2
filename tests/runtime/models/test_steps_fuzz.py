"""Steps files made up at random: each is refused with its place, or can be run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from odd_answers import JUNK, NAMES, TEXTS
from sandbox_agent.errors import ConfigError
from sandbox_agent.models.scripted import ScriptedModel, Step, load_script
from talking import FINAL, Watch, talk

CALLS: list[Any] = [
    {"shell": {"command": "true"}}, {"shell": {"command": "echo \U0001f600"}}, {"shell": None},
    {"shell": {"command": "true", "timeout": 10**400}}, {"shell": {"timeout": float("nan")}},
    {"shell": {"command": "x", "timeout": -1}}, {"shell": {"command": ["a"]}}, {"a": {}, "b": {}},
    {"shell": []}, "shell", {}, {"": {}}, {"shell": {"command": "true", 1: 2}},
]  # fmt: skip
ODD = [
    "{", "}", "[", "]", ":", "- ", '"', "'", "&a ", "*a", "!!x ", "<<: ", "#", "\t", "\n", "|",
    "\\ud83d", "\\ud83d\\ude00", '"\\ude00"', "\0", "\x85", "\ufeff", "9" * 400, "1e999", ".nan",
    "? ", "0x" + "f" * 400, "---\n", "%", "@", "`",
]  # fmt: skip


def odd_steps(random: Random) -> bytes:
    steps = [odd_step(random) for _ in range(random.randrange(5))]
    if random.random() < 0.7:
        steps.append({"final": random.choice(TEXTS)})
    data: Any = steps if random.random() < 0.95 else random.choice([*JUNK, {"steps": steps}])
    form = random.random()
    if form < 0.4:
        text = json.dumps(data, indent=random.choice([None, 1]))
    elif form < 0.8:
        text = yaml.safe_dump(data, allow_unicode=random.random() < 0.5)
    else:
        text = json.dumps(data, ensure_ascii=False)
    for _ in range(random.choice([0, 0, 0, 1, 3])):
        at = random.randrange(len(text) + 1)
        cut = random.choice([0, 0, 1, 9])
        text = text[:at] + random.choice([*ODD, ""]) + text[at + cut :]
    raw = text.encode("utf-8", random.choice(["surrogatepass", "replace"]))
    return raw if random.random() < 0.95 else raw.replace(b"a", b"\xff", 1)


def odd_step(random: Random) -> Any:
    step: dict[Any, Any] = {}
    if random.random() < 0.5:
        step["say"] = random.choice(TEXTS if random.random() < 0.95 else JUNK)
    if random.random() < 0.8:
        few = CALLS if random.random() < 0.2 else CALLS[:6]
        step["calls"] = [random.choice(few) for _ in range(random.randrange(4))]
        if random.random() < 0.05:
            step["calls"] = random.choice([{random.choice(NAMES): {}}, None, *JUNK])
    if random.random() < 0.1:
        step["expect"] = random.choice([["."], ["("], ".", [1], [], ["a{99999999}"], ["(a*)*b"]])
    if random.random() < 0.03:
        step[random.choice(["final", "cals", 7, None, "\ud83d"])] = "x"
    return step if random.random() < 0.97 else random.choice(JUNK)


@pytest.mark.filterwarnings("ignore::UserWarning")  # text that may be meant otherwise
@pytest.mark.parametrize("cases", [150, 2000], ids=["sample", "whole"])
def test_any_steps_file_is_refused_with_its_place_or_can_be_run(
    tmp_path: Path, watch: Watch, cases: int
) -> None:
    random = Random("steps")
    path = tmp_path / "steps.yaml"
    read: list[Step] = []
    refused = 0
    for number in range(cases):
        path.write_bytes(odd_steps(random))
        try:
            read += load_script(path).steps
        except ConfigError as error:
            refused += 1
            message = str(error)
            message.encode()
            assert message.startswith(f"{path}:") and error.what, (number, message)
            assert error.hint, (number, message)
    assert refused > cases // 10
    assert len(read) > cases // 4
    # All that was read, in one conversation. What `expect` compares is tested elsewhere.
    steps = [dataclasses.replace(step, expect=()) for step in read]
    budgets = {"turns": None, "repeats": None}
    model = ScriptedModel([*steps, FINAL])
    with talk(tmp_path, watch, model=model, budgets=budgets, parallel=16) as conversation:
        turns = 0
        while turns <= len(steps):
            conversation.send_message("go on")
            result = conversation.run()
            assert result.exit_code == 0, result
            turns += result.record.usage.requests
