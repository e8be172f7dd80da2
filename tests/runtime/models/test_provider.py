"""Conversations with models of providers: real HTTP, the real litellm, and a stub that keeps to the
providers' rules. All tests of this file share one model process."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import observer
import pytest
from provider import Answer, By, End, Fault, Kind, Script, Stub, Then, ToolCall, Usage
from provider.faults import ANTHROPIC, OPENAI
from providing import (
    AT_ONCE,
    CLAUDE,
    GPT,
    KEYS,
    NOISE,
    chat,
    model_of,
    model_processes,
    results,
    said,
    sh,
    struck,
)
from raw_server import nobody
from sandbox_agent import load_replay
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import ModelError
from sandbox_agent.journal.events import SegmentEnded, TurnTaken
from sandbox_agent.journal.history import History, UserMessage
from sandbox_agent.journal.result import RunResult
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent.models import DeltaKind, ModelDelta
from sandbox_agent.models.provider import ProviderModel
from sandbox_agent_ipc.model_messages import FailureKind
from sandbox_agent_ipc.token import RunToken
from talking import Watch, ends, talk

BOTH = pytest.mark.parametrize("name", [GPT, CLAUDE], ids=["openai", "anthropic"])
OK = Answer(text="Done.")


@pytest.fixture(scope="module", autouse=True)
def process(warm_process: None) -> Iterator[int]:
    """The pid of the model process."""
    [pid] = model_processes(os.getpid())
    yield pid
    assert model_processes(os.getpid()) == [pid]  # nothing here makes it be replaced


# --- stopping ---------------------------------------------------------------------------------


WAITS = {
    "slow": (Answer(text="too late", delay=60), 0),
    "streaming": (Answer(text="word " * 1000, pieces=1000, pause=0.005), 20),
    "never": (Answer(hold_at=0), 0),
    "stalled": (Answer(text="not the end", hold_at=3), 3),
    "endless": (Answer(text="Again and again. ", end=End.ENDLESS), 100),
    "refused for a minute": (Answer(fault=Fault(Kind.RATE_LIMIT, retry_after="60")), 0),
}


def run_in_a_loop(conversation: Conversation) -> RunResult:
    return asyncio.run(conversation.arun())


@BOTH
@pytest.mark.parametrize("kind", WAITS)
@pytest.mark.parametrize("run", [Conversation.run, run_in_a_loop], ids=["run", "arun"])
def test_an_interrupt_ends_a_request_at_once_and_the_conversation_goes_on(
    tmp_path: Path, watch: Watch, kind: str, name: str, run: Callable[[Conversation], RunResult]
) -> None:
    waits, events = WAITS[kind]
    with Stub([sh("echo one", "exit 3"), waits, OK]) as stub:
        with chat(tmp_path, watch, stub, name) as conv:

            def ready() -> None:
                stub.wait_requests(2)
                stub.wait_answered(1) if waits.fault else stub.wait_events(1, events)

            after = struck(lambda: run(conv), ready, conv.interrupt)
            assert after.result.status is Status.INTERRUPTED
            assert after.result.survivors == ()
            assert after.seconds < AT_ONCE * NOISE
            if not waits.fault:
                assert stub.wait_closed(1) - after.at < AT_ONCE * NOISE
            assert conv.cancel_token is not None and conv.cancel_token.is_cancelled
            conv.send_message("and on")
            assert run(conv).message == "Done."
        assert stub.violations == []
        assert len(stub.requests) == 3
        last = stub.requests[2].body["messages"]
        assert "and on" in json.dumps(last[-1])


def test_instructions_and_agents_md_are_part_of_the_system_prompt(
    tmp_path: Path, watch: Watch
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "AGENTS.md").write_text("Use tabs.")
    with Stub([sh("echo one; echo 'Use spaces.' > AGENTS.md"), OK, OK]) as stub:
        with chat(tmp_path, watch, stub, instructions="Be brief.") as conv:
            conv.run()
            conv.send_message("and on")
            with pytest.warns(UserWarning, match="may have written it"):
                conv.run()
        first, second, third = (request.body["messages"][0]["content"] for request in stub.requests)
    assert "You are an agent" in first and "Be brief." in first and first.endswith("Use tabs.")
    assert second == first, "what a tool changes counts from the next run on"
    assert third.endswith("Use spaces.")


def test_a_foreign_cancellation_ends_the_request_too(tmp_path: Path, watch: Watch) -> None:
    async def main() -> None:
        async with chat(tmp_path, watch, stub) as conv:
            task = asyncio.create_task(conv.arun())
            await asyncio.to_thread(stub.wait_requests, 1)
            # Twice: once as a task, and once as most programs do it.
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert stub.wait_closed(0)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(conv.arun(), 0.3)
            assert stub.wait_closed(1)
            assert (await conv.arun()).status is Status.DONE
        assert stub.violations == []

    with Stub([Answer(hold_at=0), Answer(text="never whole", hold_at=2), OK]) as stub:
        asyncio.run(main())


def test_a_budget_of_time_ends_a_request(tmp_path: Path, watch: Watch) -> None:
    with Stub([Answer(hold_at=0), OK]) as stub:
        with chat(tmp_path, watch, stub, budgets={"time": 1.5}) as conv:
            result = conv.run()
            assert (result.status, result.exit_code) == (Status.BUDGET, 3)
            assert result.record.times.seconds is not None
            assert result.record.times.seconds < 1.5 + AT_ONCE * NOISE
            stub.wait_closed(0)
            assert conv.run().status is Status.DONE
        assert stub.violations == []


def test_closing_the_conversation_ends_a_request(tmp_path: Path, watch: Watch) -> None:
    with Stub([Answer(hold_at=0)]) as stub:
        conv = chat(tmp_path, watch, stub)
        after = struck(conv.run, lambda: stub.wait_requests(1), conv.close)
        assert after.result.status is Status.INTERRUPTED
        stub.wait_closed(0)


def test_a_pause_lets_the_answer_come(tmp_path: Path, watch: Watch) -> None:
    answer = Answer(calls=sh("echo hi").calls, hold_at=0)
    with Stub([answer, OK]) as stub, chat(tmp_path, watch, stub) as conv:
        ready, strike = lambda: stub.wait_requests(1), lambda: (conv.pause(), stub.open())
        assert struck(conv.run, ready, strike).result.status is Status.PAUSED
        assert len(ends(conv)) == 1
        assert conv.run().status is Status.DONE


def test_one_conversations_interrupt_does_not_disturb_another(tmp_path: Path, process: int) -> None:
    answers = {"first": Answer(text="never", hold_at=0), "second": Answer(text="heard", hold_at=4)}
    folders = {name: tmp_path / name for name in answers}
    for folder in folders.values():
        folder.mkdir()

    async def main() -> None:
        one = chat(folders["first"], Watch(), stub)
        other = chat(folders["second"], Watch(), stub)
        one.send_message("first")
        other.send_message("second")
        async with one, other:
            tasks = [asyncio.create_task(each.arun()) for each in (one, other)]
            await asyncio.to_thread(stub.wait_requests, 2)
            [second] = (each for each in stub.requests if "second" in str(each.body))
            await asyncio.to_thread(stub.wait_events, second.number, 4)
            assert model_processes(os.getpid()) == [process]
            one.interrupt()
            assert (await tasks[0]).status is Status.INTERRUPTED
            assert not tasks[1].done()
            stub.open(second.number)
            result = await tasks[1]
            assert (result.status, result.message) == (Status.DONE, "heard")

    with Stub(
        lambda request: answers["second" if "second" in str(request.body) else "first"]
    ) as stub:
        asyncio.run(main())
        assert stub.violations == [] and len(stub.requests) == 2


def test_many_conversations_share_the_process(tmp_path: Path, process: int) -> None:
    """Eight at once, each in an event loop of its own; every other one interrupts itself when it
    hears the first words."""
    answers = (sh("true"), Answer(text="slowly, slowly", pieces=10, pause=0.03))

    def one(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()

        def hear(delta: ModelDelta) -> None:
            if number % 2 and delta.kind is DeltaKind.TEXT:
                conv.interrupt()

        with chat(folder, Watch(), stub, tools=["shell"], on_delta=hear) as conv:
            ended[number] = conv.run().status

    ended: dict[int, Status] = {}
    with Stub(Script(answers, by=By.TURN)) as stub:
        threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stub.violations == []
    assert set(ended) == set(range(8))
    assert {ended[number] for number in range(0, 8, 2)} == {Status.DONE}
    assert {ended[number] for number in range(1, 8, 2)} == {Status.INTERRUPTED}
    assert model_processes(os.getpid()) == [process]


# --- what a model says --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_everything_a_model_can_get_wrong_goes_back_to_it(
    tmp_path: Path, watch: Watch, name: str, stream: bool
) -> None:
    wrong = (
        ToolCall("shell", {"command": "echo right"}, id="same"),
        ToolCall("shell", {"command": "echo as well"}, id="same"),
        ToolCall("shell", '{"command": "ec'),
        ToolCall("shell", '["a list"]'),
        ToolCall("shell", ""),
        ToolCall("shell", {"comand": "echo"}),
        ToolCall("shell", {"command": 7, "more": [None, {"deep": 1e300}]}),
        ToolCall("rm_rf", {"path": "/"}),
        ToolCall("", {}),
    )
    if name == CLAUDE:  # what its own servers have parsed is an object
        wrong = tuple(call for call in wrong if isinstance(call.arguments, dict))
    answer = Answer(text="Let me see.", calls=wrong)
    with Stub([answer, OK]) as stub:
        with chat(tmp_path, watch, stub, name, model={"stream": stream}) as conv:
            assert conv.run().status is Status.DONE
            found = dict(sorted(ends(conv).items()))
        assert stub.violations == []
        assert len(stub.requests) == 2
    assert [end.outcome.value for end in found.values()] == ["ok"] * 2 + ["error"] * (
        len(wrong) - 2
    )
    assert [end.content for end in found.values()][:2] == ["right\n", "as well\n"]
    if name == GPT:
        told = list(results(stub.requests[1]).values())
        assert len(told) == len(wrong)
        assert "JSON" in told[2] and "object" in told[3]
        assert "comand" in told[5] and "rm_rf" in told[7]


@pytest.mark.parametrize("blank", [Answer(), Answer(text=" \n "), Answer(reasoning="Hm.")])
@BOTH
def test_an_answer_of_nothing_is_asked_for_again_and_is_an_error_in_the_end(
    tmp_path: Path, watch: Watch, blank: Answer, name: str
) -> None:
    with Stub([blank, OK, blank, blank, blank]) as stub:
        with chat(tmp_path, watch, stub, name) as conv:
            assert conv.run().status is Status.DONE
            conv.send_message("more")
            result = conv.run()
            assert (result.status, result.exit_code) == (Status.ERROR, 4)
            assert "3 empty answers in a row" in result.reason
            assert isinstance(result.error, ModelError)
            conv.send_message("and more")
            assert conv.run().status is Status.DONE
        assert stub.violations == []


def test_a_listener_gets_the_stream_and_may_raise(tmp_path: Path, watch: Watch) -> None:
    def heard(kind: DeltaKind) -> str:
        return "".join(delta.text for delta in deltas if delta.kind is kind)

    deltas: list[ModelDelta] = []
    first = Answer(text="Wait a moment.", reasoning="Let me think.", calls=sh("echo hi").calls)
    with Stub([first, Answer(text="broken off", end=End.CLOSE, after=2), OK] * 2) as stub:
        with chat(tmp_path, watch, stub, on_delta=deltas.append) as conv:
            assert conv.run().status is Status.DONE
            [turn, _] = (event for event in conv.events if isinstance(event, TurnTaken))
        assert (turn.text, turn.reasoning) == ("Wait a moment.", "Let me think.")
        assert heard(DeltaKind.REASONING) == "Let me think."
        assert heard(DeltaKind.CALL) == 'shell{"command":"echo hi"}'
        kinds = [delta.kind for delta in deltas]
        # What had come before it broke off is taken back.
        again = kinds.index(DeltaKind.RESTART)
        assert kinds.count(DeltaKind.RESTART) == 1
        assert "".join(delta.text for delta in deltas[again + 1 :]) == "Done."

        heard_by = []

        def raises(delta: ModelDelta) -> None:
            heard_by.append(delta)
            raise RuntimeError("a listener's own fault")

        (tmp_path / "second").mkdir()
        warned = pytest.warns(RuntimeWarning, match="a listener's own fault")
        with chat(tmp_path / "second", watch, stub, on_delta=raises) as conv, warned:
            assert conv.run().status is Status.DONE
        assert len(heard_by) == 1


def test_a_listener_of_the_stream_can_interrupt(tmp_path: Path, watch: Watch) -> None:
    with Stub([Answer(text="word " * 1000, pieces=1000, pause=0.005)]) as stub:
        heard: list[ModelDelta] = []

        def listen(delta: ModelDelta) -> None:
            heard.append(delta)
            if len(heard) == 5:
                conv.interrupt()

        with chat(tmp_path, watch, stub, on_delta=listen) as conv:
            assert conv.run().status is Status.INTERRUPTED
        stub.wait_closed(0)
        assert len(heard) == 5  # nothing is heard of a run that is stopped


@BOTH
def test_a_flood_of_tiny_pieces_loses_nothing(tmp_path: Path, watch: Watch, name: str) -> None:
    text = "".join(f"{number} " for number in range(5_000))
    deltas: list[ModelDelta] = []
    with (
        Stub([Answer(text=text, pieces=1_000)]) as stub,
        chat(tmp_path, watch, stub, name, on_delta=deltas.append) as conv,
    ):
        assert conv.run().message == text
    assert "".join(delta.text for delta in deltas) == text


def test_an_answer_too_long_to_be_one_is_refused_and_nothing_swells(
    tmp_path: Path, watch: Watch
) -> None:
    huge = Answer(text="x" * 1024, repeat=4096, pieces=64)
    endless = Answer(text="q" * 9999, pieces=1, end=End.ENDLESS)
    with Stub([huge, endless, OK]) as stub, chat(tmp_path, watch, stub) as conv:
        for _ in range(2):
            result = conv.run()
            assert result.exit_code == 4
            assert "longer than" in result.reason
        assert conv.run().status is Status.DONE


def test_thinking_goes_back_as_it_was_signed_also_after_a_resume(
    tmp_path: Path, watch: Watch
) -> None:
    first = Answer(
        reasoning="They want it twice.", text="Sure.", calls=sh("echo 1", "echo 2").calls
    )
    second = Answer(reasoning="One is missing.", calls=sh("echo 3").calls)
    with Stub([first, second, Answer(hold_at=0), OK, OK, OK]) as stub:
        with chat(tmp_path, watch, stub, CLAUDE) as conv:
            after = struck(conv.run, lambda: stub.wait_requests(3), conv.interrupt)
            assert after.result.status is Status.INTERRUPTED
        with Conversation.resume(conv.run_dir) as again:
            assert again.run().status is Status.DONE
        # Another model gets none of it.
        with Conversation.resume(conv.run_dir, message="more", model=model_of(stub)) as third:
            assert third.run().status is Status.DONE
            third.send_message("and more")
            assert third.run().status is Status.DONE
        assert stub.violations == []
        thoughts = [
            [
                block["thinking"]
                for message in request.body["messages"]
                if isinstance(message.get("content"), list)
                for block in message["content"]
                if block["type"] == "thinking"
            ]
            for request in stub.requests
        ]
        both = ["They want it twice.", "One is missing."]
        assert thoughts == [[], both[:1], both, both, [], []]
        assert "They want" not in json.dumps(stub.requests[4].body)


def test_unicode_of_every_kind_survives(tmp_path: Path, watch: Watch) -> None:
    odd = "ä €uro 🙂 \u202e \x00 \\ud800 \u2028 </script>"
    with Stub(
        [Answer(text=odd, calls=(ToolCall("shell", {"command": "printf '\\377\\0🙂'"}),)), OK]
    ) as stub:
        with chat(tmp_path, watch, stub) as conv:
            conv.send_message(f"{odd} \ud800")
            assert conv.run().status is Status.DONE
            [turn, _] = (event for event in conv.events if isinstance(event, TurnTaken))
            assert turn.text == odd
        assert stub.violations == []


# --- cut off, and what is paid for all the same ---------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """A model whose provider cuts answers off. finish: its word for that."""

    name: str
    finish: str


CUT = pytest.mark.parametrize(
    "cut", [Cut(GPT, "length"), Cut(CLAUDE, "max_tokens")], ids=["openai", "anthropic"]
)
DEAR = Usage(prompt=1000, completion=1000)


@CUT
def test_an_answer_cut_off_by_its_length_is_not_the_end_of_the_work(
    tmp_path: Path, watch: Watch, cut: Cut
) -> None:
    half = Answer(text="I am now going to ", finish=cut.finish)
    verify = ["touch verified"]
    with Stub([half, half, OK, OK]) as stub:
        with chat(tmp_path, watch, stub, cut.name, verify=verify) as conv:
            result = conv.run()
        assert (result.status, result.exit_code, result.message) == (Status.FAILED, 1, None)
        assert "cut off by its length limit" in result.reason
        assert "model.params.max_tokens" in result.reason
        assert not (tmp_path / "work" / "verified").exists()
        [turn] = (event for event in conv.events if isinstance(event, TurnTaken))
        assert (turn.text, turn.finish_reason) == ("I am now going to ", "length")
        # Given more room, it is asked for the same once more.
        wider = model_of(stub, cut.name, params={"max_tokens": 9000})
        with Conversation.resume(conv.run_dir, model=wider) as again:
            assert again.run().status is Status.FAILED
            assert said(stub.requests[1]) == said(stub.requests[0])
            assert stub.requests[1].body["max_tokens"] == 9000
            # What the user says to it, is said to what it has said.
            again.send_message("Be short.")
            assert again.run().message == "Done."
        assert "I am now going to" in json.dumps(said(stub.requests[2]))
        assert (tmp_path / "work" / "verified").exists()
        assert stub.violations == []


@BOTH
def test_a_refused_answer_is_asked_for_again_as_if_it_had_not_been(
    tmp_path: Path, watch: Watch, name: str
) -> None:
    word = "content_filter" if name == GPT else "refusal"
    with Stub([Answer(text="I will not.", finish=word), OK]) as stub:
        with chat(tmp_path, watch, stub, name) as conv:
            result = conv.run()
            assert (result.status, result.exit_code) == (Status.FAILED, 1)
            assert "I will not." in result.reason
            assert result.message is None
        with Conversation.resume(result.run_dir, model=model_of(stub, name)) as conv:
            assert conv.run().message == "Done."
        assert said(stub.requests[0]) == said(stub.requests[1])
        assert stub.violations == []


@CUT
def test_thoughts_cut_off_by_their_length_say_so_and_are_not_paid_for_three_times(
    tmp_path: Path, watch: Watch, cut: Cut
) -> None:
    thoughts = Answer(reasoning="Well, then", finish=cut.finish, usage=DEAR)
    with Stub([thoughts]) as stub:
        with chat(tmp_path, watch, stub, cut.name) as conv:
            result = conv.run()
        assert len(stub.requests) == 1
    assert (result.status, result.exit_code) == (Status.FAILED, 1)
    assert (
        "cut off by its length limit, after 1000 tokens, and it has no text at all" in result.reason
    )
    assert "model.params.max_tokens" in result.reason
    assert result.record.usage.tokens == 2000


@BOTH
@pytest.mark.parametrize("budget", [{"turns": 2}, {"tokens": 4000}, {"cost_usd": 0.02}])
def test_budgets_are_looked_at_before_an_answer_of_nothing_is_asked_for_again(
    tmp_path: Path, watch: Watch, name: str, budget: dict[str, Any]
) -> None:
    blank = Answer(reasoning="Hm.", usage=DEAR)
    with Stub([blank, blank, OK]) as stub:
        with chat(tmp_path, watch, stub, name, budgets=budget) as conv:
            result = conv.run()
            assert (result.status, result.exit_code) == (Status.BUDGET, 3), result.reason
            assert len(stub.requests) == result.record.usage.requests <= 2
            assert result.record.usage.tokens == 2000 * len(stub.requests)
            assert conv.run().status is Status.DONE
        assert stub.violations == []


BLANK = Answer(reasoning="Hm.", usage=DEAR)
VAIN = {
    "nothing": ((BLANK,) * 3, Status.ERROR, 3),
    "an error": ((BLANK, Answer(fault=Fault(Kind.AUTHENTICATION))), Status.ERROR, 1),
    "an interrupt": ((BLANK, BLANK, Answer(hold_at=0)), Status.INTERRUPTED, 2),
}


@BOTH
@pytest.mark.parametrize("kind", VAIN)
def test_what_was_answered_in_vain_is_accounted_for_however_the_run_ends(
    tmp_path: Path, watch: Watch, name: str, kind: str
) -> None:
    answers, status, requests = VAIN[kind]
    with Stub([*answers, sh("echo on"), BLANK, OK]) as stub:
        with chat(tmp_path, watch, stub, name) as conv:
            if status is Status.INTERRUPTED:
                ready = lambda: stub.wait_requests(len(answers))  # noqa: E731
                result = struck(conv.run, ready, conv.interrupt).result
            else:
                result = conv.run()
            assert result.status is status
            usage = read_record(conv.run_dir).usage
            assert (usage.requests, usage.tokens) == (requests, 2000 * requests)
            assert usage.cost_usd is not None and usage.cost_usd > 0.01 * requests
            assert usage == result.record.usage
            end = conv.events[-1]
            assert isinstance(end, SegmentEnded) and end.usage is not None
            assert (end.requests, end.usage.total) == (requests, usage.tokens)
        # Earlier empty answers do not count for a resumed run.
        with Conversation.resume(conv.run_dir) as again:
            assert again.run().message == "Done."
            turns = [event for event in again.events if isinstance(event, TurnTaken)]
        assert stub.violations == []
    assert len(turns) == requests + 3
    with talk(tmp_path, watch, model=load_replay(conv.run_dir, check=True)) as replay:
        replay.send_message("go")
        result = replay.run()
    assert (result.status, result.message) == (Status.DONE, "Done."), result.reason
    assert result.record.usage.requests == len(turns)


def test_an_answer_after_the_cancellation_is_counted(tmp_path: Path) -> None:
    async def ask(model: ProviderModel) -> None:
        def hear(delta: ModelDelta) -> None:
            # The whole answer is there, and the task that waits for it does not know of it yet.
            assert model._in_flight is not None
            model._in_flight.result.result(30)
            asking.cancel()

        history = History([UserMessage("go")], 0)
        asking = asyncio.ensure_future(model.complete(history, (), RunToken(), hear))
        with pytest.raises(asyncio.CancelledError):
            await asking
        lost = model.take_lost()
        assert lost is not None and lost.total == 2000
        assert model.take_lost() is None
        await model.aclose()

    with Stub([Answer(text="too late", usage=DEAR)]) as stub:
        asyncio.run(ask(model_of(stub)))


# --- budgets and windows --------------------------------------------------------------------------


def test_tokens_and_money_are_those_of_the_provider(tmp_path: Path, watch: Watch) -> None:
    used = Usage(prompt=1000, completion=100, cached=600)
    turns = [Answer(calls=sh(f"echo {n}").calls, usage=used) for n in range(9)]
    with Stub(turns) as stub:
        with chat(tmp_path, watch, stub, budgets={"tokens": 2500}) as conv:
            result = conv.run()
            assert (result.status, result.exit_code) == (Status.BUDGET, 3)
            assert result.record.usage.tokens == 3300
            assert result.record.usage.cost_usd == pytest.approx(3 * 0.00275)
        with Conversation.resume(
            conv.run_dir, budgets={"tokens": None, "cost_usd": 0.005}
        ) as again:
            result = again.run()
            assert result.status is Status.BUDGET
            assert result.record.usage.requests == 2
        assert stub.violations == []


def test_a_budget_that_cannot_be_kept_is_refused_with_the_first_answer(
    tmp_path: Path, watch: Watch
) -> None:
    name = "openai/my-own-model"
    with Stub([OK, Answer(text="Done.", usage=None), OK]) as stub:
        with chat(tmp_path, watch, stub, name, budgets={"cost_usd": 1}) as conv:
            result = conv.run()
            assert result.exit_code == 4 and "budgets.cost_usd" in result.reason
        with chat(tmp_path, watch, stub, budgets={"tokens": 1000}) as conv:
            result = conv.run()
            assert result.exit_code == 4 and "budgets.tokens" in result.reason
        with chat(tmp_path, watch, stub, name) as conv:
            result = conv.run()
            assert result.status is Status.DONE
            assert result.record.usage.cost_usd is None
            assert result.record.usage.tokens == 15


@BOTH
def test_a_conversation_too_long_is_shortened_and_asked_again(
    tmp_path: Path, watch: Watch, name: str
) -> None:
    too_long = Answer(fault=Fault(Kind.CONTEXT_WINDOW))
    with Stub([sh("seq 1 9000"), sh("seq 1 3000"), too_long, OK, too_long, too_long, OK]) as stub:
        with chat(tmp_path, watch, stub, name) as conv:
            assert conv.run().status is Status.DONE
            refused, shorter = (len(json.dumps(stub.requests[n].body)) for n in (2, 3))
            assert shorter < 0.7 * refused
            assert "left out" in json.dumps(stub.requests[3].body)
            # In the record it is whole.
            assert [len(end.content) > 13_000 for end in ends(conv).values()] == [True, True]
            conv.send_message("more")
            result = conv.run()
            assert result.exit_code == 4
            assert isinstance(result.error, ModelError)
            assert result.error.kind is FailureKind.CONTEXT_WINDOW
            assert conv.run().status is Status.DONE
        assert stub.violations == []


def test_a_long_conversation_that_is_resumed_is_shortened_from_the_first_request(
    tmp_path: Path, watch: Watch
) -> None:
    """Before an answer of this process has given the context window."""
    with Stub([sh("seq 1 9000"), sh("echo two"), Answer(hold_at=0), OK]) as stub:
        with chat(tmp_path, watch, stub, "openai/gpt-4") as conv:  # 8192 tokens
            struck(conv.run, lambda: stub.wait_requests(3), conv.interrupt)
        with Conversation.resume(conv.run_dir) as again:
            assert again.run().message == "Done."
        whole, resumed = (len(json.dumps(stub.requests[n].body)) for n in (1, 3))
        assert resumed < whole / 2
        assert stub.violations == []


def test_an_endless_loop_of_calls_is_noticed_or_ends_with_its_turns(
    tmp_path: Path, watch: Watch
) -> None:
    with Stub(Script((sh("echo the same"),), then=Then.REPEAT)) as stub:
        with chat(tmp_path, watch, stub) as conv:
            result = conv.run()
            assert (result.status, result.exit_code) == (Status.FAILED, 1)
            assert "no progress" in result.reason
        with chat(tmp_path, watch, stub, budgets={"turns": 7, "repeats": None}) as conv:
            result = conv.run()
            assert (result.status, result.record.usage.requests) == (Status.BUDGET, 7)
        assert stub.violations == []


# --- secrets ----------------------------------------------------------------------------------


LOOK = """
import glob, os, re
seen, pids = [], []
for path in glob.glob("/proc/[0-9]*"):
    pids.append(path)
    for name in ("environ", "cmdline", "maps", "cwd/x", "root/x"):
        try:
            seen.append(open(f"{path}/{name}", "rb").read())
        except OSError as error:
            pass
    for link in glob.glob(f"{path}/fd/*"):
        try:
            seen.append(os.readlink(link).encode())
        except OSError:
            pass
text = b"\\n".join(seen)
print(len(pids), b"pl4nted" in text, b"litellm" in text, "pl4nted" in str(os.environ))
"""


def test_no_tool_and_no_record_ever_sees_a_key(tmp_path: Path, watch: Watch, process: int) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "look.py").write_text(LOOK)
    look = sh("env", "python3 look.py", "set; export; cat /proc/*/environ", "ps ax || true")
    wrong = Answer(fault=Fault(Kind.AUTHENTICATION))
    with Stub([look, OK, wrong]) as stub:
        with chat(tmp_path, watch, stub, model={"params": {"temperature": 0.5}}) as conv:
            assert conv.run().status is Status.DONE
            seen = {call: end.content for call, end in ends(conv).items()}
            conv.send_message("and with a wrong key")
            refused = conv.run()
            assert refused.exit_code == 4
            for text in (refused.reason, str(refused.error)):
                assert "Incorrect API key" in text
                assert not any(key[:8] in text or key[-4:] in text for key in KEYS.values())
            folder = conv.run_dir
        assert stub.requests[0].key == KEYS["OPENAI_API_KEY"]  # the control: it was sent
    count, *found = seen["call_1_2"].split()
    assert found == ["False"] * 3, seen
    assert int(count) < 10  # of the call's own, and nobody else's
    whole = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert len(whole) > 1000 and b"pl4nted" not in whole
    # Those who keep the model process have none either, in whatever memory of theirs. It has them.
    if os.geteuid() == 0:
        kin = observer.descendants(os.getpid())
        assert len(kin) > 3
        assert [one.pid for one in kin if holds(one.pid, b"pl4nted")] == [process]


def holds(pid: int, needle: bytes) -> bool:
    """Whether the bytes are anywhere in what a process may write to, or began with. proc(5)."""
    if needle in Path(f"/proc/{pid}/environ").read_bytes():
        return True
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            area, rights = line.split()[:2]
            begin, end = (int(number, 16) for number in area.split("-"))
            if rights.startswith("rw"):
                memory.seek(begin)
                if needle in memory.read(end - begin):
                    return True
    return False


# --- errors -----------------------------------------------------------------------------------


ERRORS = {
    Kind.BAD_REQUEST: FailureKind.BAD_REQUEST,
    Kind.CONTENT_POLICY: FailureKind.CONTENT_POLICY,
    Kind.AUTHENTICATION: FailureKind.AUTHENTICATION,
    Kind.PERMISSION: FailureKind.AUTHENTICATION,
    Kind.NOT_FOUND: FailureKind.UNKNOWN_MODEL,
    Kind.RATE_LIMIT: FailureKind.RATE_LIMIT,
    Kind.QUOTA: FailureKind.RATE_LIMIT,
    Kind.SERVER: FailureKind.PROVIDER,
    Kind.GATEWAY: FailureKind.PROVIDER,
    Kind.UNAVAILABLE: FailureKind.PROVIDER,
    Kind.OVERLOADED: FailureKind.PROVIDER,
}


@BOTH
def test_a_providers_errors_end_the_run_with_its_words_and_the_conversation_goes_on(
    tmp_path: Path, watch: Watch, name: str
) -> None:
    rows = OPENAI if name == GPT else ANTHROPIC
    answers = [Answer(fault=Fault(kind)) for kind in ERRORS]
    wrong = {}
    with Stub([*answers, OK]) as stub:
        with chat(tmp_path, watch, stub, name, model={"retries": 0}) as conv:
            for kind, meant in ERRORS.items():
                result = conv.run()
                assert (result.status, result.exit_code) == (Status.ERROR, 4), kind
                assert isinstance(result.error, ModelError)
                if kind is Kind.QUOTA and name == CLAUDE:  # says no more than 400
                    meant = FailureKind.BAD_REQUEST
                words = rows[kind].message.partition("{")[0]
                if result.error.kind is not meant or words not in result.reason:
                    wrong[kind] = (result.error.kind, result.reason)
                assert "Traceback" not in result.reason and "litellm." not in result.reason
            assert wrong == {}
            assert conv.run().status is Status.DONE
        assert stub.violations == []
        assert len(stub.requests) == len(ERRORS) + 1


PASSING: dict[str, Answer] = {
    "429": Answer(fault=Fault(Kind.RATE_LIMIT, retry_after="0")),
    "500": Answer(fault=Fault(Kind.SERVER, retry_after="0")),
    "529": Answer(fault=Fault(Kind.OVERLOADED, retry_after="0")),
    "closed": Answer(text="half of an ans", end=End.CLOSE, after=2),
    "reset": Answer(text="half of an ans", end=End.RESET, after=2),
    "short": Answer(text="half of an ans", end=End.SHORT, after=2),
    "half a call": Answer(calls=sh("rm -rf work").calls, end=End.SHORT, after=3),
    "no JSON": Answer(text="half of an ans", end=End.BAD_JSON, after=2),
    "no event": Answer(text="half of an ans", end=End.BAD_SSE, after=2),
    "silence": Answer(text="half of an ans", hold_at=3),
    "silence at first": Answer(hold_at=0),
}


@BOTH
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_what_may_pass_is_asked_again_and_never_half_believed(
    tmp_path: Path, watch: Watch, name: str, stream: bool
) -> None:
    answers = [one for answer in PASSING.values() for one in (answer, Answer(text="whole"))]
    with Stub(answers) as stub:
        options = {"stream": stream, "timeout": 0.5, "retries": 1}
        with chat(tmp_path, watch, stub, name, model=options) as conv:
            for kind in PASSING:
                conv.send_message(f"now {kind}")
                result = conv.run()
                assert (result.status, result.message) == (Status.DONE, "whole"), (
                    kind,
                    result.reason,
                )
        assert stub.violations == []
        assert len(stub.requests) == 2 * len(PASSING)
        assert ends(conv) == {}


def test_a_refused_connection_is_reported_with_the_address(tmp_path: Path, watch: Watch) -> None:
    with nobody() as gone, Stub([OK]) as stub:
        cases: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
            gone: ({"api_base": gone}, ("cannot be reached",)),
            "wrong path": ({"api_base": stub.address + "/v2"}, ("404",)),
            "no such host": (
                {"api_base": "http://no-such-host.invalid/v1"},
                ("cannot be reached",),
            ),
            "not http": ({"api_base": stub.address.replace("http:", "https:")}, ()),
        }
        for kind, (options, words) in cases.items():
            with chat(tmp_path, watch, stub, model={**options, "retries": 0}) as conv:
                result = conv.run()
                assert result.exit_code == 4, kind
                for word in words:
                    assert word in result.reason, kind


# --- resume -----------------------------------------------------------------------------------


def test_a_run_stopped_in_a_request_asks_again_with_the_options_it_had(
    tmp_path: Path, watch: Watch
) -> None:
    options = {"params": {"temperature": 0.25, "max_tokens": 77}, "stream": False, "timeout": 33.0}
    with Stub([sh("echo one"), Answer(hold_at=0), OK]) as stub:
        with chat(tmp_path, watch, stub, model=options) as conv:
            after = struck(conv.run, lambda: stub.wait_requests(2), conv.interrupt)
            assert after.result.status is Status.INTERRUPTED
        with Conversation.resume(conv.run_dir) as again:
            assert again.model.name == GPT
            assert options.items() <= again.model.options.items()
            assert again.run().message == "Done."
        assert stub.violations == []
        assert said(stub.requests[2]) == said(stub.requests[1])
        body = stub.requests[2].body
        assert (body["temperature"], body["max_tokens"]) == (0.25, 77)
        assert not body.get("stream")
        assert len(ends(again)) == 1
