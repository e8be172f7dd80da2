"""The order of the calls of a turn: tools that write are alone and in the order asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import talking
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.events import AnyEvent, Dispatching, Ended, SegmentStarted, Started
from sandbox_agent.models import ModelCall, ModelTurn
from sandbox_agent.models.scripted import Step
from sandbox_agent_ipc.messages import FunctionRef, ToolSpec
from sandbox_agent_sandbox.outcome import Outcome, StartedState
from talking import FINAL, Watch, calls, shell, soon, talk

OWN = """\
import pathlib, time
from sandbox_agent import tool

@tool(exclusive=True)
def alone(name: str) -> str:
    "Marks that it runs, and sees who else does."
    return _during(name, 0.02)

@tool
def shared(name: str) -> str:
    "The same, beside others."
    return _during(name, 0.02)

def _during(name, seconds):
    here = pathlib.Path(name)
    here.touch()
    seen = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen |= {path.name for path in pathlib.Path().glob("[as]-*")}
    here.unlink()
    return " ".join(sorted(seen - {name}))
"""


def write(path: str, content: str) -> tuple[str, dict[str, Any]]:
    return "write_file", {"path": path, "content": content}


def edit(path: str, old: str, new: str) -> tuple[str, dict[str, Any]]:
    return "edit_file", {"path": path, "old": old, "new": new}


def run(conversation: Conversation) -> dict[str, Ended]:
    with conversation:
        conversation.send_message("go")
        conversation.run()
    return talking.ends(conversation)


def spans(events: list[AnyEvent]) -> dict[str, tuple[int, int]]:
    """Of each call, the places of its dispatch and of its end among the events."""
    begun = {event.call: at for at, event in enumerate(events) if isinstance(event, Dispatching)}
    return {
        event.call: (begun[event.call], at)
        for at, event in enumerate(events)
        if isinstance(event, Ended) and event.call in begun
    }


def test_edits_of_one_turn_are_all_made(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "work").mkdir()
    file = tmp_path / "work/f.py"
    file.write_text("".join(f"line{n} = OLD\n" for n in range(2000)))
    edits = [edit("f.py", f"line{n} = OLD", f"line{n} = NEW") for n in range(0, 800, 100)]
    found = run(talk(tmp_path, watch, calls(*edits), FINAL, tools=["files"], parallel=8))
    assert {end.outcome for end in found.values()} == {Outcome.OK}
    assert file.read_text().count("NEW") == 8


def test_calls_see_what_earlier_calls_of_the_turn_wrote(tmp_path: Path, watch: Watch) -> None:
    turn = calls(
        write("a", "1"),
        ("shell", {"command": "cat a; echo 2 > b; sleep 0.1; echo 2 > a"}),
        edit("a", "2", "3"),
        ("read_file", {"path": "a"}),
        ("shell", {"command": "cat a b"}),
        write("a", "4"),
        ("read_file", {"path": "a"}),
    )
    found = run(talk(tmp_path, watch, turn, FINAL, tools=["shell", "files"]))
    texts = [found[f"call_1_{n}"].content for n in (2, 4, 5, 7)]
    assert texts == ["1", "3\n", "3\n2\n", "4"]


def test_exclusive_calls_are_alone_and_the_others_share(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/own.py").write_text(OWN)
    names = ["s-1", "s-2", "s-3", "a-4", "a-5", "s-6", "s-7", "a-8", "s-9"]
    kinds = {"s": "shared", "a": "alone"}
    turn = calls(*((kinds[name[0]], {"name": name}) for name in names))
    found = run(talk(tmp_path, watch, turn, FINAL, tools=["own:alone", "own:shared"]))
    seen = [found[f"call_1_{n}"].content.split() for n in range(1, 10)]
    assert seen[3] == seen[4] == seen[7] == seen[8] == []
    assert set(seen[5]) <= {"s-7"} and set(seen[6]) <= {"s-6"}
    at = spans(watch.events)
    order = sorted(at, key=lambda call: at[call][0])
    assert order == [f"call_1_{n}" for n in range(1, 10)]
    for alone in ("call_1_4", "call_1_5", "call_1_8"):
        begun, ended = at[alone]
        between = {call for call, span in at.items() if begun <= span[1] and span[0] <= ended}
        assert between == {alone}
    # Those between two exclusive ones do run at the same time.
    assert at["call_1_2"][0] < at["call_1_1"][1] and at["call_1_7"][0] < at["call_1_6"][1]


def test_a_waiting_exclusive_call_is_not_overtaken(tmp_path: Path, watch: Watch) -> None:
    turn = calls(
        ("shell", {"command": "sleep 0.2; cat a 2>/dev/null"}),
        write("a", "new"),
        *[("shell", {"command": "cat a"})] * 3,
    )
    found = run(talk(tmp_path, watch, turn, FINAL, tools=["shell", "files"], parallel=8))
    texts = [found[f"call_1_{n}"].content for n in range(1, 6)]
    assert texts[0] == "" and texts[2:] == ["new"] * 3


def test_a_call_cancelled_while_it_waits_leaves_the_queue_at_once(
    tmp_path: Path, watch: Watch
) -> None:
    turn = calls(
        ("shell", {"command": "echo up; while [ ! -e go ]; do sleep 0.01; done"}),
        write("a", "never"),
        ("shell", {"command": "touch go"}),
    )
    conv = talk(tmp_path, watch, turn, FINAL, tools=["shell", "files"])
    with conv:
        conv.send_message("go")
        thread = soon(conv.run)
        watch.wait_up()
        # It waits for the first call. The third one waits for it, and lets the first one end.
        assert conv.cancel_call("call_1_2")
        thread.join(talking.DEADLINE)
        assert not thread.is_alive()
    found = talking.ends(conv)
    assert next(iter(found)) == "call_1_2"
    assert (found["call_1_2"].outcome, found["call_1_2"].started) == ("skipped", StartedState.NO)
    assert found["call_1_2"].detail == "cancel_call"
    assert {found["call_1_1"].outcome, found["call_1_3"].outcome} == {Outcome.OK}
    assert not (tmp_path / "work/a").exists()


def test_an_interrupt_skips_all_that_wait(tmp_path: Path, watch: Watch) -> None:
    turn = calls(
        ("shell", {"command": "echo up; exec sleep 300"}),
        *[write(f"f{n}", "x") for n in range(20)],
        *[("shell", {"command": "touch later"})] * 20,
    )
    conv = talk(tmp_path, watch, turn, FINAL, tools=["shell", "files"])
    with conv:
        conv.send_message("go")
        thread = soon(conv.run)
        watch.wait_up()
        conv.interrupt()
        thread.join(talking.DEADLINE)
        assert not thread.is_alive()
    found = talking.ends(conv)
    assert len(found) == 41
    assert {found[f"call_1_{n}"].outcome for n in range(2, 42)} == {Outcome.SKIPPED}
    assert list((tmp_path / "work").iterdir()) == []
    assert sum(isinstance(event, Started) for event in watch.events) == 1


def test_a_call_that_cannot_be_made_holds_nobody_up(tmp_path: Path, watch: Watch) -> None:
    broken = ModelCall("write_file", "{not json")
    turn = Step(
        ModelTurn(
            "",
            (
                broken,
                ModelCall("no_such_tool", {}),
                ModelCall("write_file", {"path": "a"}),
                ModelCall("shell", {"command": "echo fine"}),
            ),
        )
    )
    found = run(talk(tmp_path, watch, turn, FINAL, tools=["shell", "files"]))
    outcomes = [found[f"call_1_{n}"].outcome for n in range(1, 5)]
    assert outcomes == ["error", "error", "error", "ok"]


def test_the_model_and_the_journal_are_told_which_tools_run_alone(
    tmp_path: Path, watch: Watch
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/own.py").write_text(OWN)
    run(talk(tmp_path, watch, FINAL, tools=["shell", "files", "own:alone", "own:shared"]))
    segment = next(event for event in watch.events if isinstance(event, SegmentStarted))
    exclusive = {tool.spec.name for tool in segment.tools if tool.spec.exclusive}
    told = {tool.spec.name for tool in segment.tools if "runs alone" in tool.spec.description}
    assert exclusive == told == {"write_file", "edit_file", "alone"}


def test_a_spec_from_inside_whose_flag_is_no_bool_is_refused() -> None:
    import msgspec

    spec = msgspec.json.encode(ToolSpec("a", "b", {}, FunctionRef("m", "f"), True))
    assert msgspec.json.decode(spec, type=ToolSpec).exclusive is True
    for wrong in ("1", '"yes"', "null", "[]"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(spec.replace(b"true", wrong.encode()), type=ToolSpec)
    old = {name: value for name, value in json.loads(spec).items() if name != "exclusive"}
    assert msgspec.convert(old, ToolSpec).exclusive is False  # an older journal's


def test_many_calls_wait_their_turn(tmp_path: Path, watch: Watch) -> None:
    made = [write("a", str(n)) if n % 10 == 0 else ("read_file", {"path": "a"}) for n in range(60)]
    found = run(talk(tmp_path, watch, calls(*made), FINAL, tools=["files"], parallel=4))
    for number in range(60):
        expected = f"{number - number % 10}"
        if number % 10:
            assert found[f"call_1_{number + 1}"].content == expected
    at = spans(watch.events)
    going = [call for call, span in at.items() if span[0] < at["call_1_5"][1] < span[1]]
    assert len(going) <= 4


def test_shells_of_a_turn_still_run_at_the_same_time(tmp_path: Path, watch: Watch) -> None:
    """Each waits for the other, which a lock would not let begin."""
    meet = "touch {0}; until [ -e {1} ]; do sleep 0.01; done"
    turn = shell(meet.format("x", "y"), meet.format("y", "x"), timeout=20)
    found = run(talk(tmp_path, watch, turn, FINAL))
    assert {end.outcome for end in found.values()} == {Outcome.OK}
