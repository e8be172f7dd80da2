"""The stub does what its script says, and sees what its clients do."""

from __future__ import annotations

import http.client
import json
import time

import pytest

from provider import Answer, By, End, Fault, Kind, Request, Script, Stub, Then, ToolCall, Usage
from provider.anthropic_shape import sign
from provider.asking import PATIENCE, USER, ask, asked, stream, text

both = pytest.mark.parametrize("provider", ["openai", "anthropic"])
ONE, TWO = Answer(text="one"), Answer(text="two")
SAID = {"role": "assistant", "content": "said"}


# --- which answer ------------------------------------------------------------------------------


@both
def test_requests_take_the_answers_in_their_order_and_then_a_plain_text(provider: str) -> None:
    with Stub([ONE, TWO]) as stub:
        assert [text(ask(stub, provider)) for _ in range(3)] == ["one", "two", "Done."]
        assert [request.number for request in stub.requests] == [0, 1, 2]


def test_the_last_answer_may_be_repeated() -> None:
    with Stub(Script((ONE, TWO), then=Then.REPEAT)) as stub:
        assert [text(ask(stub)) for _ in range(3)] == ["one", "two", "two"]


def test_by_turn_a_repeated_request_is_answered_alike() -> None:
    with Stub(Script((ONE, TWO), by=By.TURN)) as stub:
        later = [USER, SAID, USER]
        said = [text(ask(stub, messages=one)) for one in ([USER], [USER], later, [USER])]
    assert said == ["one", "one", "two", "one"]


def test_a_callable_answers_by_what_is_asked() -> None:
    with Stub(lambda request: Answer(text=request.body["model"])) as stub:
        assert text(ask(stub, model="a-name")) == "a-name"


def test_what_a_callable_raises_is_not_overlooked() -> None:
    def wrong(request: Request) -> Answer:
        raise LookupError("no such case")

    with pytest.raises(LookupError, match="no such case"), Stub(wrong) as stub, asked(stub) as one:
        assert one.getresponse().status == 500


# --- the shapes --------------------------------------------------------------------------------


def test_openais_stream_has_its_parts_in_their_order() -> None:
    answer = Answer(text="abcdef", calls=(ToolCall("shell", {"a": 1}),), usage=Usage(7, 3, 2, 1))
    with Stub([answer]) as stub:
        events = stream(stub, stream_options={"include_usage": True})
    deltas = [one["choices"][0]["delta"] for one in events if one["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas) == "abcdef"
    parts = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert parts[0]["function"] == {"name": "shell", "arguments": ""}
    assert "".join(part["function"]["arguments"] for part in parts) == '{"a":1}'
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert events[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


def test_openais_usage_comes_only_when_it_is_asked_for() -> None:
    with Stub([ONE]) as stub:
        assert not any(event.get("usage") for event in stream(stub))


def test_anthropics_stream_has_its_blocks_in_their_order() -> None:
    answer = Answer(
        text="abc", reasoning="hm", calls=(ToolCall("shell", {}),), usage=Usage(7, 3, 2)
    )
    with Stub([answer]) as stub:
        events = stream(stub, "anthropic")
    blocks = [one["content_block"]["type"] for one in events if "content_block" in one]
    assert blocks == ["thinking", "text", "tool_use"]
    usage = events[0]["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (5, 2)
    signed = [one["delta"] for one in events if one.get("delta", {}).get("signature")]
    assert signed == [{"type": "signature_delta", "signature": sign("hm")}]
    assert [one["type"] for one in events[-2:]] == ["message_delta", "message_stop"]


@both
def test_ids_may_be_given_and_given_twice(provider: str) -> None:
    calls = (ToolCall("shell", {}, "same"), ToolCall("shell", {}, "same"))
    with Stub([Answer(calls=calls)]) as stub:
        answer = ask(stub, provider)
    found = answer["content"] if provider == "anthropic" else None
    found = found or answer["choices"][0]["message"]["tool_calls"]
    assert [call["id"] for call in found] == ["same", "same"]


@both
@pytest.mark.parametrize("kind", Kind)
def test_errors_come_in_the_providers_own_form(provider: str, kind: Kind) -> None:
    with (
        Stub([Answer(fault=Fault(kind, retry_after="3"))]) as stub,
        asked(stub, provider) as connection,
    ):
        answer = connection.getresponse()
        assert answer.status >= 400 and answer.headers["Retry-After"] == "3"
        body = answer.read()
    if kind is not Kind.GATEWAY:
        error = json.loads(body)["error"]
        assert error["type"] and error["message"]


# --- in its own time ---------------------------------------------------------------------------


@both
def test_a_held_answer_goes_on_when_it_is_opened(provider: str) -> None:
    with (
        Stub([Answer(text="abc", hold_at=3)]) as stub,
        asked(stub, provider, stream=True) as connection,
    ):
        answer = connection.getresponse()
        stub.wait_events(0, 3)
        assert stub.requests[0].answered is None
        stub.open(0)
        assert answer.read()
        assert stub.wait_answered(0) >= stub.requests[0].at
    assert stub.requests[0].closed is None


def test_many_answers_are_held_and_opened_one_by_one() -> None:
    with Stub(lambda request: Answer(text=f"{request.number}", hold_at=0)) as stub:
        with asked(stub) as first:
            stub.wait_requests(1)
            with asked(stub) as second:
                stub.wait_requests(2)
                stub.open(1)
                assert text(json.loads(second.getresponse().read())) == "1"
                stub.open()
                assert text(json.loads(first.getresponse().read())) == "0"
        assert text(ask(stub)) == "2"


def test_delays_and_pauses_are_kept() -> None:
    with Stub([Answer(text="abc", delay=0.05, pause=0.02)]) as stub:
        begin = time.monotonic()
        events = stream(stub)
        assert time.monotonic() - begin >= 0.05 + 0.02 * (len(events) - 1)


@both
@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("hold_at", [0, 1])
def test_a_client_that_goes_away_is_seen(provider: str, streams: bool, hold_at: int) -> None:
    with Stub([Answer(text="abc", hold_at=hold_at)]) as stub:
        with asked(stub, provider, stream=streams):
            stub.wait_events(0, hold_at)
            before = time.monotonic()
        assert 0 <= stub.wait_closed(0) - before < PATIENCE
        assert stub.requests[0].answered is None


@both
def test_an_endless_answer_ends_with_its_client(provider: str) -> None:
    with Stub([Answer(text="round and round", end=End.ENDLESS)]) as stub:
        with asked(stub, provider, stream=True) as connection:
            connection.getresponse().read(100_000)
        stub.wait_closed(0)


def test_what_never_comes_is_a_timeout_that_says_what() -> None:
    with Stub() as stub, pytest.raises(TimeoutError, match="not seen 1 requests"):
        stub.wait_requests(1, timeout=0.01)


def test_closing_ends_what_is_held() -> None:
    with Stub([Answer(hold_at=0)]) as stub, asked(stub) as connection:
        stub.wait_requests(1)
        stub.close()
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            connection.getresponse()
        assert stub.requests[0].closed is None


# --- broken off --------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("end", "error"),
    [(End.CLOSE, http.client.IncompleteRead), (End.RESET, ConnectionResetError)],
)
@pytest.mark.parametrize("streams", [True, False])
def test_connections_break_in_the_middle(
    provider: str, end: End, error: type[Exception], streams: bool
) -> None:
    with (
        Stub([Answer(text="abcdef", end=end, after=3)]) as stub,
        asked(stub, provider, stream=streams) as connection,
    ):
        answer = connection.getresponse()
        assert answer.status == 200
        with pytest.raises(error):
            answer.read()


@both
def test_a_short_stream_ends_without_its_end(provider: str) -> None:
    with Stub([Answer(text="abcdef", end=End.SHORT, after=3)]) as stub:
        assert len(stream(stub, provider)) == 3


@both
@pytest.mark.parametrize("end", [End.SHORT, End.BAD_JSON, End.BAD_SSE])
def test_a_damaged_body_is_no_json(provider: str, end: End) -> None:
    with Stub([Answer(text="abcdef", end=end)]) as stub, pytest.raises(ValueError):
        ask(stub, provider)


@both
def test_an_error_may_come_in_the_middle_of_a_stream(provider: str) -> None:
    with Stub([Answer(text="abc", after=2, fault=Fault(Kind.OVERLOADED))]) as stub:
        events = stream(stub, provider)
    assert len(events) == 3 and "error" in events[-1]


# --- what it is told ---------------------------------------------------------------------------


def test_requests_are_recorded_with_key_body_and_time() -> None:
    before = time.monotonic()
    with Stub([ONE]) as stub:
        ask(stub, model="m", messages=[USER, SAID, USER])
        (request,) = stub.wait_requests(1)
    assert (request.key, request.body["model"], request.turn) == ("key", "m", 1)
    assert before < request.at < time.monotonic()


def test_bodies_need_not_be_kept() -> None:
    with Stub([ONE, TWO], keep=False) as stub:
        assert [text(ask(stub)), text(ask(stub))] == ["one", "two"]
        stub.wait_answered(1)
    assert [request.body for request in stub.requests] == [None, None]


@both
def test_what_breaks_a_rule_is_refused_and_noted(provider: str) -> None:
    stray = [USER, {"role": "tool", "tool_call_id": "x", "content": "?"}]
    with Stub([ONE]) as stub:
        with asked(stub, provider, messages=stray) as connection:
            answer = connection.getresponse()
            assert (answer.status, "error" in json.loads(answer.read())) == (400, True)
        assert len(stub.violations) == 1 and stub.violations[0].startswith("request 0: messages")


def test_rules_may_be_left_alone() -> None:
    with Stub([ONE], validate=False) as stub:
        assert text(ask(stub, messages=[{"role": "tool", "content": "?"}])) == "one"
        assert stub.violations == []


def test_thinking_that_was_changed_is_refused() -> None:
    def history(thinking: str) -> list[dict[str, object]]:
        block = {"type": "thinking", "thinking": thinking, "signature": sign("hm")}
        return [USER, {"role": "assistant", "content": [block]}, USER]

    with Stub([ONE]) as stub:
        assert text(ask(stub, "anthropic", messages=history("hm"))) == "one"
        assert "error" in ask(stub, "anthropic", messages=history("hmhm"))
        assert "Invalid `signature`" in stub.violations[0]


def test_a_path_that_no_provider_has_is_not_found() -> None:
    with Stub() as stub:
        host = stub.address.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=PATIENCE)
        connection.request("POST", "/wrong/chat/completions", "{}")
        assert connection.getresponse().status == 404
        connection.close()
        assert (stub.strays, stub.requests) == (["/wrong/chat/completions"], ())


def test_a_port_that_is_taken_is_an_error() -> None:
    with Stub() as stub:
        port = int(stub.address.rpartition(":")[2])
        with pytest.raises(OSError), Stub(port=port):
            pytest.fail("it was free")
