"""Asking a provider: the real litellm against stand-ins for providers, over real HTTP."""

from __future__ import annotations

import itertools
import json
import time
from email.utils import formatdate
from typing import Any

import pytest
from asker import KEYS, Asked, Asker
from provider import Answer as Say
from provider import End, Fault, Kind, Script, Stub, Then, ToolCall, Usage
from provider.anthropic_shape import sign
from raw_server import STREAM, events, http, nobody, raw
from sandbox_agent.journal.events import ToolCall as RecordedCall
from sandbox_agent.journal.history import AssistantMessage, Message, ToolMessage, UserMessage
from sandbox_agent.models.process.inside.error_text import message_of
from sandbox_agent.models.wire import Wire
from sandbox_agent_ipc.model_messages import Answer, Failure, FailureKind
from sandbox_agent_sandbox.outcome import Outcome, StartedState

GPT = "openai/gpt-4o"
CLAUDE = "anthropic/claude-sonnet-4-5"
NOISE = 4
"""Times the bound that a test allows on a shared machine."""

both = pytest.mark.parametrize("model", [GPT, CLAUDE])
either_way = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def base(stub: Stub, model: str) -> str:
    return stub.anthropic_base if model == CLAUDE else stub.openai_base


def always(say: Say) -> Script:
    return Script((say,), then=Then.REPEAT)


# --- what an answer is -----------------------------------------------------------------------

FULL = Say(
    text="Now I look.",
    reasoning="Where could it be?",
    calls=(ToolCall("shell", {"command": "ls"}), ToolCall("shell", {"command": "pwd"})),
    usage=Usage(1000, 100, 600, 50),
)


@both
@either_way
def test_text_thoughts_calls_and_usage_arrive(asker: Asker, model: str, stream: bool) -> None:
    with Stub([FULL]) as stub:
        asked = asker.begin(model, api_base=base(stub, model), stream=stream)
        answer = asker.end(asked).result
        assert not stub.violations
    assert isinstance(answer, Answer)
    assert (answer.text, answer.reasoning) == ("Now I look.", "Where could it be?")
    assert [call.name for call in answer.calls] == ["shell", "shell"]
    read = [json.loads(call.arguments) for call in answer.calls]
    assert read == [{"command": "ls"}, {"command": "pwd"}]
    assert (answer.finish, answer.attempts) == ("tool_calls", 1)
    assert (answer.input, answer.output, answer.cached) == (1000, 100, 600)
    assert answer.reasoning_tokens == (50 if model == GPT else 0)
    price = 0.00275 if model == GPT else 0.00288
    assert answer.cost_usd == pytest.approx(price)
    assert answer.window == (128_000 if model == GPT else 200_000)
    assert "".join(asked.said("text")) == answer.text
    assert "".join(asked.said("reasoning")) == answer.reasoning
    called = [call.name + call.arguments for call in answer.calls]
    assert "".join(asked.said("call")) == "".join(called)
    assert not asked.said("restart")
    if stream:
        assert len(asked.said("text")) > 1


@both
@either_way
def test_uncounted_and_unpriced_usage_is_unknown(asker: Asker, model: str, stream: bool) -> None:
    del model
    with Stub([Say(text="x" * 100, usage=None)]) as stub:
        answer = asker.answer("openai/local-model", api_base=stub.openai_base, stream=stream)
    assert (answer.input, answer.output, answer.cost_usd, answer.window) == (None, None, None, None)


ODD_USAGE: dict[str, tuple[dict[str, Any], tuple[int, int, float]]] = {
    "negative": ({"prompt_tokens": -5}, (0, 5, 3.75e-05)),
    "texts": ({"prompt_tokens": "12"}, (12, 5, 8e-05)),
    "65 bits": ({"prompt_tokens": 2**70}, (10**12, 5, 1e9)),
    "a price of 400 digits": ({"cost": 10**400}, (10, 5, 1e9)),
    "a huge price": ({"cost": 1e300}, (10, 5, 1e9)),
    "a negative price": ({"cost": -5}, (10, 5, 7.5e-05)),
    "a text for a price": ({"cost": "5"}, (10, 5, 7.5e-05)),
}


@either_way
@pytest.mark.parametrize(("odd", "found"), ODD_USAGE.values(), ids=ODD_USAGE)
def test_an_odd_usage_is_bounded(
    asker: Asker, odd: dict[str, Any], found: tuple[int, int, float], stream: bool
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} | odd
    said = {"role": "assistant", "content": "All."}
    if stream:
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        last = json.dumps(head | {"choices": [], "usage": usage})
        body = events(chunk(**said), chunk(finish="stop"), last, "[DONE]")
    else:
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        whole = {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}
        body = http(json.dumps(whole).encode())
    with raw(body) as server:
        answer = asker.answer(GPT, api_base=f"{server.base}/v1", stream=stream)
    assert (answer.input, answer.output) == found[:2]
    assert answer.cost_usd == pytest.approx(found[2])


@both
@either_way
def test_an_empty_answer_is_returned_as_it_is(asker: Asker, model: str, stream: bool) -> None:
    with Stub([Say()]) as stub:
        answer = asker.answer(model, api_base=base(stub, model), stream=stream)
    assert (answer.text, answer.calls, answer.finish) == ("", [], "stop")


@both
def test_calls_with_the_same_id_or_broken_arguments_are_returned_as_they_are(
    asker: Asker, model: str
) -> None:
    calls = (
        ToolCall("shell", {"command": "a"}, "same"),
        ToolCall("shell", '{"command": ', "same"),
        ToolCall("no such tool!", "", "same"),
    )
    with Stub([Say(calls=calls)]) as stub:
        answer = asker.answer(model, api_base=base(stub, model))
    found = [(call.name, call.arguments) for call in answer.calls]
    assert found[:2] == [("shell", '{"command":"a"}'), ("shell", '{"command": ')]
    assert found[2] == ("no such tool!", "" if model == GPT else "{}")


def chunk(calls: Any = None, finish: str | None = None, **delta: Any) -> str:
    if calls is not None:
        delta["tool_calls"] = calls
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps({**head, "choices": [choice]})


def fragment(name: str | None, arguments: str | None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"function": {key: value for key, value in function.items() if value is not None}} | more


A, B = '{"command":"a"}', '{"command":"b"}'
NUMBERINGS = {
    "as OpenAI does": [
        [fragment("one", "", index=0, id="a")],
        [fragment(None, A[:5], index=0)],
        [fragment(None, A[5:], index=0)],
        [fragment("two", B, index=1, id="b")],
    ],
    "interleaved": [
        [fragment("one", A[:5], index=0, id="a"), fragment("two", B[:5], index=1, id="b")],
        [fragment(None, B[5:], index=1), fragment(None, A[5:], index=0)],
    ],
    "whole calls in one chunk, not numbered": [[fragment("one", A, id="a"), fragment("two", B)]],
    "whole calls, all of them number 0": [
        [fragment("one", A, index=0, id="a")],
        [fragment("two", B, index=0, id="b")],
    ],
    "whole calls, not numbered, all with the same id": [
        [fragment("one", A, id="a")],
        [fragment("two", B, id="a")],
    ],
    "whole calls without anything": [[fragment("one", A)], [fragment("two", B)]],
    "id and name again and again": [
        [fragment("one", A[:5], index=0, id="a")],
        [fragment("one", A[5:], index=0, id="a")],
        [fragment("two", B[:5], index=1, id="b")],
        [fragment("two", B[5:], index=1, id="b")],
    ],
    "the name again and again, without an id": [
        [fragment("one", A[:5], index=0)],
        [fragment("one", A[5:], index=0)],
        [fragment("two", B[:5], index=0)],
        [fragment("two", B[5:], index=0)],
    ],
    "a fresh id for every piece": [
        [fragment("one", A[:5], index=0, id="a")],
        [fragment(None, A[5:], index=0, id="b")],
        [fragment("two", B[:5], index=1, id="c")],
        [fragment(None, B[5:], index=1, id="d")],
    ],
    "a name in two pieces": [
        [fragment("o", None, index=7, id="a")],
        [fragment("ne", A, index=7)],
        [fragment("two", B, index=-3, id="b")],
    ],
}


@pytest.mark.parametrize("pieces", NUMBERINGS.values(), ids=NUMBERINGS)
def test_calls_are_distinguished_however_they_are_numbered(asker: Asker, pieces: Any) -> None:
    sent = [*map(chunk, pieces), chunk(finish="tool_calls"), "[DONE]"]
    with raw(events(*sent)) as server:
        answer = asker.answer(GPT, api_base=f"{server.base}/v1")
    assert [(call.name, call.arguments) for call in answer.calls] == [("one", A), ("two", B)]


BRACES = ('{"path":"a.c","content":"int main() {', " return 0; }", '\\n"}')


@pytest.mark.parametrize("more", [{"index": 0, "id": "a"}, {"index": 0}, {"id": "a"}, {}], ids=str)
def test_a_call_is_not_torn_where_a_piece_of_it_ends_in_a_brace(asker: Asker, more: Any) -> None:
    pieces = [chunk([fragment("write_file", piece, **more)]) for piece in BRACES]
    with raw(events(*pieces, chunk(finish="tool_calls"), "[DONE]")) as server:
        answer = asker.answer(GPT, api_base=f"{server.base}/v1")
    assert [(call.name, call.arguments) for call in answer.calls] == [
        ("write_file", "".join(BRACES))
    ]


def test_what_has_the_same_number_and_id_is_one_call(asker: Asker) -> None:
    pieces = [chunk([fragment("one", text, index=0, id="a")]) for text in ("{}", A)]
    with raw(events(*pieces, chunk(finish="tool_calls"), "[DONE]")) as server:
        answer = asker.answer(GPT, api_base=f"{server.base}/v1")
    assert [call.arguments for call in answer.calls] == ["{}" + A]


# --- what goes back --------------------------------------------------------------------------


def history(answer: Answer, model: str) -> list[Message]:
    """As the runtime would go on after this answer."""
    calls = tuple(
        RecordedCall(f"call_1_{place}", call.name, call.arguments, call.provider_state)
        for place, call in enumerate(answer.calls)
    )
    said = AssistantMessage(answer.text, calls, model, answer.reasoning, answer.provider_state)
    results = [ToolMessage(c.id, c.tool, "done", Outcome.OK, StartedState.YES) for c in calls]
    return [UserMessage("hi"), said, *results]


@either_way
def test_signed_thoughts_go_back_as_they_came(asker: Asker, stream: bool) -> None:
    with Stub([FULL, Say(text="done")]) as stub:
        fields: dict[str, Any] = {"api_base": stub.anthropic_base, "stream": stream}
        fields["params"] = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        first = asker.answer(CLAUDE, **fields)
        messages = Wire(CLAUDE, "sys").messages(history(first, CLAUDE))
        assert asker.answer(CLAUDE, messages, **fields).text == "done"
        assert not stub.violations  # it checks the signature
        block = stub.requests[1].body["messages"][1]["content"][0]
    thought = FULL.reasoning
    assert block == {"type": "thinking", "thinking": thought, "signature": sign(thought)}


@either_way
def test_thoughts_go_back_to_those_who_insist_on_them(asker: Asker, stream: bool) -> None:
    name = "deepseek/deepseek-reasoner"
    with Stub([FULL, Say(text="done")]) as stub:
        fields: dict[str, Any] = {"api_base": stub.openai_base, "stream": stream}
        first = asker.answer(name, **fields)
        messages = Wire(name, "").messages(history(first, name))
        asker.answer(name, messages, **fields)
        said = stub.requests[1].body["messages"][1]
    assert said["reasoning_content"] == FULL.reasoning


def test_reasoning_does_not_go_back_to_other_providers(asker: Asker) -> None:
    with Stub([FULL]) as stub:
        assert asker.answer(GPT, api_base=stub.openai_base).provider_state == {}


GEMINI = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "Looking.", "thought": True},
                    {
                        "functionCall": {"name": "shell", "args": {"command": "ls"}},
                        "thoughtSignature": "c2lnbmVk",
                    },
                ],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12},
}


@either_way
def test_geminis_signatures_of_calls_go_back(asker: Asker, stream: bool) -> None:
    name = "gemini/gemini-2.5-pro"
    said = json.dumps(GEMINI)
    with raw(events(said) if stream else http(said.encode())) as server:
        fields: dict[str, Any] = {"api_base": server.base, "stream": stream}
        first = asker.answer(name, **fields)
        assert [call.name for call in first.calls] == ["shell"]
        assert first.reasoning == "Looking."
        messages = Wire(name, "").messages(history(first, name))
        asker.answer(name, messages, **fields)
        parts = json.loads(server.bodies[1])["contents"][1]["parts"]
    signed = [part for part in parts if "functionCall" in part or "function_call" in part]
    assert [part["thoughtSignature"] for part in signed] == ["c2lnbmVk"]


def test_an_answer_of_geminis_that_broke_off_is_none(asker: Asker) -> None:
    part = {"content": {"role": "model", "parts": [{"text": "half"}]}}
    event = f"data: {json.dumps({'candidates': [part]})}\n\n".encode()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n"
    with raw(chunked % (len(event), event)) as server:
        failure = asker.failure("gemini/gemini-2.5-pro", api_base=server.base)
    assert failure.kind is FailureKind.CONNECTION


ODD = [
    UserMessage("a"),
    AssistantMessage(""),
    UserMessage("b"),
    AssistantMessage(
        " ",
        (
            RecordedCall("call_1_0", "no such tool!", '{"cut": '),
            RecordedCall("call_1_1", "shell", ""),
        ),
        "openai/gpt-4o",
    ),
    ToolMessage("call_1_0", "no such tool!", "no such tool", Outcome.ERROR, StartedState.NO),
    ToolMessage("call_1_1", "shell", " ", Outcome.OK, StartedState.YES),
    UserMessage("c"),
    UserMessage("d"),
]


@both
def test_an_odd_history_is_accepted(asker: Asker, model: str) -> None:
    with Stub([Say(text="fine")]) as stub:
        messages = Wire(model, "sys").messages(ODD)
        assert asker.answer(model, messages, api_base=base(stub, model)).text == "fine"
        assert not stub.violations


# --- what fails ------------------------------------------------------------------------------

FAULTS = {
    Kind.BAD_REQUEST: (FailureKind.BAD_REQUEST, False),
    Kind.CONTEXT_WINDOW: (FailureKind.CONTEXT_WINDOW, False),
    Kind.CONTENT_POLICY: (FailureKind.CONTENT_POLICY, False),
    Kind.CONTENT_FILTER: (FailureKind.CONTENT_POLICY, False),
    Kind.AUTHENTICATION: (FailureKind.AUTHENTICATION, False),
    Kind.PERMISSION: (FailureKind.AUTHENTICATION, False),
    Kind.NOT_FOUND: (FailureKind.UNKNOWN_MODEL, False),
    Kind.TOO_LARGE: (FailureKind.CONTEXT_WINDOW, False),
    Kind.RATE_LIMIT: (FailureKind.RATE_LIMIT, True),
    Kind.SERVER: (FailureKind.PROVIDER, True),
    Kind.GATEWAY: (FailureKind.PROVIDER, True),
    Kind.UNAVAILABLE: (FailureKind.PROVIDER, True),
    Kind.OVERLOADED: (FailureKind.PROVIDER, True),
}
WORDS = {
    Kind.CONTEXT_WINDOW: ("maximum context length is 8192", "200251 tokens > 200000 maximum"),
    Kind.AUTHENTICATION: ("Incorrect API key provided", "invalid x-api-key"),
    Kind.NOT_FOUND: ("The model `gpt-4o` does not exist", "model: claude-sonnet-4-5"),
    Kind.GATEWAY: ("502 Bad Gateway nginx", "502 Bad Gateway nginx"),
    Kind.OVERLOADED: ("That model is currently overloaded", "Overloaded"),
}


@pytest.mark.parametrize("fault", FAULTS)
@both
@either_way
def test_errors_are_distinguished_and_transient_ones_retried(
    asker: Asker, model: str, fault: Kind, stream: bool
) -> None:
    kind, passing = FAULTS[fault]
    refused = Say(fault=Fault(fault, retry_after="0.01"))
    with Stub([refused, Say(text="at last")]) as stub:
        asked = asker.begin(model, api_base=base(stub, model), retries=1, stream=stream)
        result = asker.end(asked).result
    if passing:
        assert isinstance(result, Answer), result
        assert (result.text, result.attempts) == ("at last", 2)
        (why,) = asked.said("restart")
        words = why
    else:
        assert isinstance(result, Failure)
        assert (result.kind, result.attempts, asked.pieces) == (kind, 1, [])
        words = result.text
    assert WORDS.get(fault, ("", ""))[model == CLAUDE] in words
    for noise in ("litellm", "Exception", "Error:", "{", "<"):
        assert noise not in words
    with Stub([refused]) as stub:
        failure = asker.failure(model, api_base=base(stub, model), stream=stream)
    assert failure.kind is kind
    assert failure.status is not None and failure.status >= 400


def test_a_spent_quota_is_not_asked_for_again(asker: Asker) -> None:
    with Stub(always(Say(fault=Fault(Kind.QUOTA)))) as stub:
        failure = asker.failure(GPT, api_base=stub.openai_base, retries=5)
    assert (failure.kind, failure.attempts) == (FailureKind.RATE_LIMIT, 1)
    assert "billing details" in failure.text


BROKEN = [End.SHORT, End.CLOSE, End.RESET, End.BAD_JSON, End.BAD_SSE]


@pytest.mark.parametrize("end", BROKEN)
@both
@either_way
def test_an_answer_that_broke_off_is_never_taken_for_a_whole_one(
    asker: Asker, model: str, end: End, stream: bool
) -> None:
    # After this many events some text is there and the finish reason is not.
    broken = Say(text="rm -rf /tmp/x", end=end, after=5 if model == CLAUDE else 3)
    with Stub([broken, Say(text="whole")]) as stub:
        asked = asker.begin(model, api_base=base(stub, model), stream=stream, retries=1)
        result = asker.end(asked).result
        assert isinstance(result, Answer), result
        assert (result.text, result.attempts) == ("whole", 2)
        assert len(asked.said("restart")) == 1
    with Stub([broken]) as stub:
        failure = asker.failure(model, api_base=base(stub, model), stream=stream)
    assert failure.kind in (FailureKind.CONNECTION, FailureKind.PROVIDER)
    assert failure.status is None


def test_a_call_that_was_cut_off_is_no_call(asker: Asker) -> None:
    cut = Say(calls=(ToolCall("shell", {"command": "rm -r build"}),), end=End.SHORT, after=4)
    for model in (GPT, CLAUDE):
        with Stub([cut]) as stub:
            assert asker.failure(model, api_base=base(stub, model)).attempts == 1


@both
def test_an_error_in_the_middle_of_a_stream_is_repeated(asker: Asker, model: str) -> None:
    broken = Say(text="abcdef", fault=Fault(Kind.OVERLOADED), after=5)
    with Stub([broken, Say(text="whole")]) as stub:
        asked = asker.begin(model, api_base=base(stub, model), retries=1)
        result = asker.end(asked).result
    assert isinstance(result, Answer)
    assert result.text == "whole"
    assert "overloaded" in asked.said("restart")[0].lower()


OVERLOADED = b'{"error": {"message": "Provider XYZ is overloaded", "code": 502}}'
PAGE = b"<html><head><style>p {}</style></head><body>Welcome to nginx!%b</body></html>" % (
    b"<p>x" * 9999
)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (http(OVERLOADED), "Provider XYZ is overloaded"),
        (http(PAGE, "text/html"), "Welcome to nginx!"),
        (http(b"no healthy upstream", "text/plain"), "no healthy upstream"),
    ],
    ids=["an error", "a page", "plain text"],
)
@both
def test_a_body_in_place_of_a_stream_is_reported(
    asker: Asker, model: str, body: bytes, words: str
) -> None:
    with raw(body) as server:
        asked = asker.begin(model, api_base=f"{server.base}/v1", retries=1)
        failure = asker.end(asked).result
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts) == (FailureKind.PROVIDER, 2)
    assert words in failure.text and words in asked.said("restart")[0]
    assert "{" not in failure.text and "<" not in failure.text
    assert len(failure.text) < 400


def test_what_came_instead_of_a_stream_holds_no_secret(asker: Asker) -> None:
    message = b'{"error": {"message": "Bad key sk-test-1234567890abcd"}}'
    for body in (message, b"Bad key sk-test-1234567890abcd"):
        with raw(http(body)) as server:
            failure = asker.failure(GPT, api_base=server.base)
        assert "Bad key [OPENAI_API_KEY]" in failure.text


def test_the_advice_of_litellm_is_removed(asker: Asker) -> None:
    only = [{"role": "system", "content": "Be kind."}]
    failure = asker.failure(CLAUDE, only, api_base="http://127.0.0.1:9")
    assert failure.kind is FailureKind.BAD_REQUEST
    assert "at least one non-system message" in failure.text
    assert "litellm" not in failure.text and "modify_params" not in failure.text


ADVICE = [
    "Bad. Enable 'litellm.modify_params=True' (for PROXY do: `litellm_settings::modify_params`).",
    "Bad. set 'litellm.modify_params = True' or 'litellm_settings:modify_params = True' on proxy",
    "Bad. Either provide one, or set `litellm.modify_params = True` // and so on",
    "Bad. To drop unsupported params, set `drop_params=True`.",
    "Bad. To drop it from the call, set `litellm.drop_params = True.",
    "Bad. Set drop_params=True to drop unsupported parameters.",
    "Bad. File an issue if litellm error - https://github.com",
]


@pytest.mark.parametrize("text", ADVICE)
def test_advice_is_cut_off_after_what_is_wrong(text: str) -> None:
    assert message_of(ValueError(text)) == "Bad"
    said = "Please set max_tokens to 5, use litellm or add a parameter."
    assert message_of(ValueError(said)) == said


@both
@either_way
def test_a_refused_connection_is_reported_with_the_address(
    asker: Asker, model: str, stream: bool
) -> None:
    with nobody() as gone:
        asked = asker.begin(model, api_base=gone, stream=stream, retries=1)
        failure = asker.end(asked).result
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts, failure.status) == (FailureKind.CONNECTION, 2, None)
    assert gone.removeprefix("http://") in failure.text


@pytest.mark.parametrize("path", ["/nowhere", "/v1/chat"])
def test_a_wrong_api_base_is_reported(asker: Asker, path: str) -> None:
    with Stub() as stub:
        failure = asker.failure(GPT, api_base=stub.address + path)
    assert (failure.kind, failure.status) == (FailureKind.BAD_REQUEST, 404)
    assert "is api_base right?" in failure.text


@pytest.mark.parametrize("name", ["nosuch", "nosuch/model"])
def test_a_name_that_litellm_does_not_know_is_reported(asker: Asker, name: str) -> None:
    failure = asker.failure(name, retries=3)
    assert (failure.kind, failure.attempts) == (FailureKind.UNKNOWN_MODEL, 1)
    assert repr(name) in failure.text and "PROVIDER/MODEL" in failure.text


def test_an_unsupported_parameter_is_reported(asker: Asker) -> None:
    failure = asker.failure(GPT, params={"reasoning_effort": "high"})
    assert failure.kind is FailureKind.BAD_REQUEST
    assert "reasoning_effort" in failure.text and "drop_params" in failure.text


# --- keys ------------------------------------------------------------------------------------


def test_no_failure_holds_a_secret_or_what_a_terminal_would_obey(asker: Asker) -> None:
    told = "key sk-test-1234567890abcd, hunter2hunter2 \x1b[31mred\x07 \u202e" + "x" * 10_000
    body = json.dumps({"error": {"message": told, "type": "x"}}).encode()
    for model, stream in itertools.product([GPT, CLAUDE], [True, False]):
        with raw(http(body, status="400 Bad Request")) as server:
            failure = asker.failure(model, api_base=server.base, stream=stream)
        assert "1234567890abcd" not in failure.text and "hunter2" not in failure.text
        assert "[DEPLOY_TOKEN]" in failure.text
        assert failure.text.isprintable() and "\\x1b[31mred" in failure.text
        assert len(failure.text) <= 2000


def test_a_short_secret_is_removed_but_not_inside_words(asker: Asker) -> None:
    said = "Bad key hunt2. 'hunt2' (hunt2) hunt23 nor shunt2; abc"
    body = json.dumps({"error": {"message": said}}).encode()
    asker.set_environ(SHORT_TOKEN="hunt2", TINY_TOKEN="abc")
    try:
        with raw(http(body, status="400 Bad Request")) as server:
            failure = asker.failure(GPT, api_base=server.base)
    finally:
        asker.set_environ(SHORT_TOKEN="", TINY_TOKEN="")
    there = "[SHORT_TOKEN]"
    expected = f"Bad key {there}. '{there}' ({there}) hunt23 nor shunt2; abc"
    assert failure.text == expected


@both
def test_a_missing_key_is_named(asker: Asker, model: str) -> None:
    name = "OPENAI_API_KEY" if model == GPT else "ANTHROPIC_API_KEY"
    asker.set_environ(**{name: ""})
    try:
        failure = asker.failure(model, retries=3)
        assert (failure.kind, failure.attempts) == (FailureKind.MISSING_KEY, 1)
        assert name in failure.text
        with Stub([Say(text="hi"), Say(fault=Fault(Kind.AUTHENTICATION))]) as stub:
            # A server of one's own may want none; when it does, that is what is missing.
            assert asker.answer(model, api_base=base(stub, model)).text == "hi"
            failure = asker.failure(model, api_base=base(stub, model))
        assert failure.kind is FailureKind.MISSING_KEY
        assert name in failure.text
    finally:
        asker.set_environ(**{name: KEYS[name]})


# --- silence, and asking again ---------------------------------------------------------------


@both
@either_way
@pytest.mark.parametrize("held", [0, 4], ids=["before the first piece", "in the middle"])
def test_silence_ends_a_request(asker: Asker, model: str, stream: bool, held: int) -> None:
    # On a busy machine litellm itself may be silent for so long, so there are several to follow.
    with Stub([Say(text="abcdef", hold_at=held), *[Say(text="then")] * 5]) as stub:
        asked = asker.begin(
            model, api_base=base(stub, model), stream=stream, timeout=0.3, retries=5
        )
        result = asker.end(asked).result
        stub.wait_closed(0)
    assert isinstance(result, Answer), result
    assert result.text == "then"
    assert result.attempts >= 2
    assert "silent for 0.3 s" in asked.said("restart")[0]


def test_pieces_that_come_slowly_are_no_silence(asker: Asker) -> None:
    with Stub([Say(text="abcdefgh", pieces=8, pause=0.1)]) as stub:
        assert asker.answer(GPT, api_base=stub.openai_base, timeout=0.5).text == "abcdefgh"


def test_a_providers_wish_to_be_left_alone_is_granted(asker: Asker) -> None:
    busy = Say(fault=Fault(Kind.RATE_LIMIT, retry_after="2.5"))
    with Stub([busy, Say(text="hi")]) as stub:
        asked = asker.begin(GPT, api_base=stub.openai_base, retries=1)
        assert asker.end(asked).result.text == "hi"  # type: ignore[union-attr]
        first, second = stub.requests
        assert second.at - first.at >= 2.5
    assert asked.said("alive")  # somebody is at work
    assert "asking again in 2.5 s" in asked.said("restart")[0]


def test_a_date_is_understood_too(asker: Asker) -> None:
    when = time.time() + 2
    busy = Say(fault=Fault(Kind.UNAVAILABLE, retry_after=formatdate(when, usegmt=True)))
    with Stub([busy, Say(text="hi")]) as stub:
        asker.answer(GPT, api_base=stub.openai_base, retries=1)
        assert time.time() >= int(when)
        assert len(stub.requests) == 2


@both
def test_a_long_retry_after_is_not_waited_for(asker: Asker, model: str) -> None:
    with Stub(always(Say(fault=Fault(Kind.RATE_LIMIT, retry_after="600")))) as stub:
        failure = asker.failure(model, api_base=base(stub, model), retries=5)
    assert (failure.kind, failure.attempts) == (FailureKind.RATE_LIMIT, 1)
    assert "600 s" in failure.text


def test_pauses_grow_when_nothing_is_wished_for(asker: Asker) -> None:
    with Stub(always(Say(fault=Fault(Kind.SERVER)))) as stub:
        failure = asker.failure(GPT, api_base=stub.openai_base, retries=2)
        one, two, three = stub.requests
    assert failure.attempts == 3
    assert two.at - one.at >= 0.25
    assert three.at - two.at >= 0.5


# --- cancelling ------------------------------------------------------------------------------


def cancelled(asker: Asker, asked: Asked) -> float:
    """Cancels. Returns when."""
    at = time.monotonic()
    asker.cancel(asked)
    assert asker.end(asked).raised == "CancelledError"
    return at


@both
@either_way
def test_cancelling_closes_the_connection_at_once(asker: Asker, model: str, stream: bool) -> None:
    for number, held in enumerate([0, 4]):  # before the first byte, and in the middle
        with Stub([Say(text="abcdef", hold_at=held)]) as stub:
            asked = asker.begin(model, api_base=base(stub, model), stream=stream)
            stub.wait_requests(1)
            if held and stream:
                asker.wait_pieces(asked, 1)
            elif held:
                stub.wait_events(0, 1)
            at = cancelled(asker, asked)
            assert stub.wait_closed(0) - at < 0.015 * NOISE, number
        end = asker.end(asked)
        assert end.at - at < 0.015 * NOISE
        assert end.tasks in ([], ["_worker_loop"])  # litellm's own, for ever


def test_cancelling_a_flood_closes_the_connection(asker: Asker) -> None:
    with Stub([Say(text="abcdefgh", end=End.ENDLESS)]) as stub:
        asked = asker.begin(GPT, api_base=stub.openai_base, answer_limit=1 << 30)
        asker.wait_pieces(asked, 50)
        cancelled(asker, asked)
        stub.wait_closed(0)


def test_cancelling_ends_the_wait_for_the_next_attempt(asker: Asker) -> None:
    with Stub(always(Say(fault=Fault(Kind.RATE_LIMIT, retry_after="60")))) as stub:
        asked = asker.begin(GPT, api_base=stub.openai_base, retries=5)
        asker.wait_pieces(asked, 1)
        at = cancelled(asker, asked)
        assert asker.end(asked).at - at < 0.015 * NOISE
        assert len(stub.requests) == 1


def test_one_that_is_cancelled_does_not_disturb_the_others(asker: Asker) -> None:
    with Stub(lambda one: Say(text="abcdef", hold_at=2)) as stub:
        several = [asker.begin(GPT, api_base=stub.openai_base) for _ in range(4)]
        for one in several:
            asker.wait_pieces(one, 1)
        cancelled(asker, several[1])
        stub.open()
        results = [asker.end(one).result for one in several]
    texts = [result.text if isinstance(result, Answer) else None for result in results]
    assert texts == ["abcdef", None, "abcdef", "abcdef"]


# --- hostile providers -----------------------------------------------------------------------


@both
def test_an_endless_answer_is_cut_off(asker: Asker, model: str) -> None:
    with Stub([Say(text="abcdefgh", end=End.ENDLESS)]) as stub:
        asked = asker.begin(model, api_base=base(stub, model), answer_limit=2000, retries=3)
        failure = asker.end(asked).result
        stub.wait_closed(0)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts) == (FailureKind.PROVIDER, 1)
    assert "longer than 2000 bytes" in failure.text


def test_endless_calls_without_content_are_cut_off(asker: Asker) -> None:
    def send(connection: Any) -> None:
        connection.sendall(STREAM)
        for number in itertools.count():
            data = chunk([fragment("", "", index=number)])
            connection.sendall(f"data: {data}\n\n".encode())

    with raw(send) as server:
        failure = asker.failure(GPT, api_base=server.base, answer_limit=5000)
    assert "longer than 5000 bytes" in failure.text


@either_way
def test_ids_without_end_count_too(asker: Asker, stream: bool) -> None:
    calls = [fragment("one", "{}", id=f"{at}" * 600_000, type="function") for at in range(3)]
    if stream:
        body = events(*(chunk([one | {"index": at}]) for at, one in enumerate(calls)), "[DONE]")
    else:
        body = odd(content=None, role="assistant", tool_calls=calls)
    with raw(body) as server:
        failure = asker.failure(GPT, api_base=server.base, stream=stream)
    assert "longer than 1048576 bytes" in failure.text


@either_way
def test_a_huge_answer_is_cut_off_or_taken(asker: Asker, stream: bool) -> None:
    with Stub(always(Say(text="0123456789", repeat=300_000, pieces=50))) as stub:
        fields: dict[str, Any] = {"api_base": stub.openai_base, "stream": stream}
        assert "longer than" in asker.failure(GPT, answer_limit=1 << 20, **fields).text
        assert len(asker.answer(GPT, answer_limit=1 << 22, **fields).text) == 3_000_000


def odd(**message: Any) -> bytes:
    return http(json.dumps({"choices": [{"index": 0, "message": message}]}).encode())


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "an empty body": http(b""),
    "a page": http(b"<html><body>Welcome</body></html>", "text/html"),
    "noise": bytes(range(256)) * 20,
    "a list": http(b"[1, 2]"),
    "null": http(b"null"),
    "no choices": http(b'{"choices": []}'),
    "no message": http(b'{"choices": [{"message": null}]}'),
    "wrong types": odd(content=5, tool_calls=[{"id": 7, "function": {"name": [], "arguments": 1}}]),
    "deep": http(b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a huge header": b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 500_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X-More: a\r\n" * 50_000 + b"\r\n",
    "a lie about its length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{}",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n{}\r\n",
    "a redirect to itself": b"HTTP/1.1 307 R\r\nLocation: /v1\r\nContent-Length: 0\r\n\r\n",
    "a teapot": http(b"short and stout", "text/plain", "418 I'm a teapot"),
    "a strange status": http(b"{}", status="999 What"),
    "no events": events("[DONE]"),
    "events of nonsense": events("5", "null", "[]", "{}", "{", "[DONE]"),
    "an error of nonsense": events('{"error": {"message": [1, {"a": null}], "code": "x"}}'),
    "pieces of nonsense": events(
        chunk([fragment("x", "{}", index="abc")], content=5),
        chunk([fragment("y", None, index=10**30, id={})], role=[], reasoning_content={"a": 1}),
        chunk([None, 5], finish="tool_calls"),
    ),
    "halves of characters": events(
        chunk(content="a\ud83d"), chunk(content="\ude00b"), chunk(content="\udfff", finish="stop")
    ),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
@both
@either_way
def test_whatever_a_provider_sends_ends_in_an_answer_or_a_failure(
    asker: Asker, model: str, answer: bytes, stream: bool
) -> None:
    with raw(answer) as server:
        asked = asker.begin(model, api_base=f"{server.base}/v1", stream=stream, timeout=10)
        end = asker.end(asked)
    assert end.raised == ""
    if isinstance(end.result, Failure):
        assert end.result.text.isprintable() and 0 < len(end.result.text) <= 2000
        assert "bug" not in end.result.text


def test_characters_that_came_in_halves_are_put_together(asker: Asker) -> None:
    with raw(HOSTILE["halves of characters"]) as server:
        answer = asker.answer(GPT, api_base=f"{server.base}/v1")
    assert answer.text == "a\U0001f600b\ufffd"
