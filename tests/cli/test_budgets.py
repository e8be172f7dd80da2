"""Budgets at the command line: exit codes, last lines, and raising them on resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import identity
import pytest
import struck
from identity import BIN, Person
from sandbox_agent import Conversation, Model, ModelCall, ModelTurn
from sandbox_agent.journal.usage import TokenUsage

AGENT = str(BIN / "sandbox-agent")
SAME: dict[str, Any] = {"calls": [{"shell": {"command": "echo same"}}]}
STEPS = [*[SAME] * 7, {"final": "Done."}]


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


class Costly(Model):
    """Makes three calls, one after the other, and says what each answer used up."""

    name = "costly"

    async def complete(self, history: Any, tools: Any, token: Any, on_delta: Any) -> ModelTurn:
        taken = history.answers
        call = ModelCall("shell", {"command": f"touch {taken}"})
        usage = TokenUsage(input=1000, output=200, cost_usd=0.25)
        return ModelTurn("", (call,) if taken < 3 else (), final=taken == 3, usage=usage)


def result(person: Person) -> dict[str, Any]:
    """The last run's record."""
    folder = max(path for path in (person.folder / "runs").iterdir() if path.is_dir())
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return record


def test_tokens_and_cost_are_reported_limited_and_raised(me: Person) -> None:
    runs, out = me.folder / "runs", ["--out", str(me.folder / "runs")]
    conversation = Conversation(model=Costly(), workspace=me.work, output_dir=runs)
    with conversation:
        conversation.send_message("go")
        assert conversation.run().exit_code == 0
    again = [AGENT, "run", "--model", f"replay:{conversation.run_dir}", *out]

    done = me.run([*again, "--set", "budgets.tokens=2.4k"])
    assert done.returncode == 3, done.stderr
    assert (
        "budget: the budget of 2400 tokens is spent: 2400 were used\n"
        "used: 2,400 tokens in 2 answers, $0.5000\n"
    ) in done.stderr
    assert result(me)["usage"] == {"requests": 2, "calls": 2, "tokens": 2400, "cost_usd": 0.5}

    done = me.run([AGENT, "resume", "last", *out, "--set", "budgets.cost_usd=0.2"])
    assert done.returncode == 3, done.stderr
    assert "budget: the budget of $0.2 is spent: $0.25 were used\n" in done.stderr

    raised = ["--set", "budgets.cost_usd=2", "--set", "budgets.tokens=null"]
    done = me.run([AGENT, "resume", "last", *out, *raised])
    assert done.returncode == 0, done.stderr
    assert result(me)["usage"]["requests"] == 1


def test_a_model_that_goes_round_in_circles_has_failed(me: Person) -> None:
    task = struck.write_task(me, STEPS)
    done = me.run([AGENT, "run", str(task)])
    assert (done.returncode, done.stdout) == (1, "")
    assert "failed: no progress: the model asked for the same calls (shell)" in done.stderr
    assert "set it to null" in done.stderr
    assert "used: " not in done.stderr  # A script uses nothing up.
    assert result(me)["usage"]["requests"] == 5

    # The script's next turns are the same, so `repeats` must allow that.
    out = ["--out", str(me.folder / "runs")]
    done = me.run([AGENT, "resume", "last", *out, "--set", "budgets.repeats=null"])
    assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr


def test_budgets_of_a_task_file_are_checked(me: Person) -> None:
    budgets = {"turns": 9, "tokens": "200k", "cost_usd": 2, "time": "20m", "repeats": None}
    task = struck.write_task(me, STEPS, budgets=budgets)
    done = me.run([AGENT, "validate", str(task)])
    assert (done.returncode, done.stdout) == (0, f"{task}: valid\n"), done.stderr
    done = me.run([AGENT, "validate", str(task), "--set", "budgets.cost_usd=-1"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "budgets.cost_usd: -1 is not an amount of money\n  hint: " in done.stderr
