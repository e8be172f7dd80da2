"""What the model process relies on in litellm, by the installed one over real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import paths
import pytest

from provider import Answer, Request, Stub
from provider.anthropic_shape import sign
from provider.cases import (
    CASES,
    HISTORIES,
    KEY,
    LONG,
    PROVIDERS,
    TEXT,
    THINKING,
    THOUGHT,
    Case,
    arguments,
)

Json = dict[str, Any]
KNOWN, UNKNOWN = "openai/gpt-4o", "openai/nobody-knows-it"
QUESTIONS: Json = {
    "price": ["cost_per_token", {"model": KNOWN, "prompt_tokens": 1000, "completion_tokens": 100}],
    "no price": ["cost_per_token", {"model": UNKNOWN, "prompt_tokens": 1, "completion_tokens": 1}],
    "window": ["get_model_info", {"model": KNOWN}],
    "no window": ["get_model_info", {"model": UNKNOWN}],
    "provider": ["get_llm_provider", {"model": "anthropic/claude-any"}],
    "no provider": ["get_llm_provider", {"model": "nobody/knows-it"}],
    "bare name": ["get_llm_provider", {"model": "knows-it"}],
    "no key": ["validate_environment", {"model": "anthropic/claude-any"}],
    "key": ["validate_environment", {"model": "anthropic/claude-any", "api_key": "k"}],
    "no key of nobody": ["validate_environment", {"model": "nobody/knows-it"}],
}
LATE = 0.5
"""Seconds in which a closed connection must have been seen, on a machine that is busy."""


class Told:
    """What came of every case. requests: by provider and case."""

    def __init__(self, answers: Json, stub: Stub) -> None:
        self.answers = answers
        self.violations = list(stub.violations)
        self.strays = list(stub.strays)
        self.requests: dict[str, list[Request]] = {}
        for request in stub.requests:
            self.requests.setdefault(request.headers["x-case"], []).append(request)

    def of(self, provider: str, case: str) -> Any:
        return self.answers[f"{provider}: {case}"]

    def error(self, provider: str, case: str) -> Any:
        found = self.of(provider, case)
        assert "error" in found, found
        return found["error"]

    def request(self, provider: str, case: str) -> Request:
        (request,) = self.requests[f"{provider}: {case}"]
        return request


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """One process, since the import alone takes seconds."""
    cases = {f"{one}: {name}": (one, case) for one in PROVIDERS for name, case in CASES.items()}
    cases["anthropic: thinking"] = ("anthropic", Case(Answer(text="fine"), arguments=THINKING))
    with Stub(lambda request: cases[request.headers["x-case"]][1].answer) as stub:
        exchanges = {
            name: arguments(case, provider, name, stub) for name, (provider, case) in cases.items()
        }
        environment = {
            name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")
        }
        done = subprocess.run(
            [sys.executable, "-m", "provider.through_litellm"],
            input=json.dumps({"exchanges": exchanges, "questions": QUESTIONS}),
            capture_output=True,
            text=True,
            cwd=paths.TESTS,
            env=environment,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        yield Told(json.loads(done.stdout), stub)


def deltas(found: Json) -> list[Json]:
    return [piece["choices"][0]["delta"] for piece in found["pieces"] if piece["choices"]]


def joined(found: Json, name: str) -> str:
    return "".join(delta.get(name) or "" for delta in deltas(found))


def calls(found: Json) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each call of a stream, put together by their index."""
    whole: dict[int, list[str]] = {}
    for delta in deltas(found):
        for part in delta.get("tool_calls") or []:
            call = whole.setdefault(part["index"], ["", "", ""])
            function = part["function"]
            pieces = (part.get("id"), function.get("name"), function.get("arguments"))
            for place, piece in enumerate(pieces):
                call[place] += piece or ""
    return [(id, name, text) for id, name, text in whole.values()]


both = pytest.mark.parametrize("provider", PROVIDERS)


@both
def test_a_streamed_answer_arrives_whole(told: Told, provider: str) -> None:
    found = told.of(provider, "full")
    assert joined(found, "content") == TEXT
    assert joined(found, "reasoning_content") == THOUGHT
    assert [one[1:] for one in calls(found)] == [
        ("shell", '{"command":"ls"}'),
        ("shell", '{"command":"pwd"}'),
    ]
    assert len({id for id, _, _ in calls(found)}) == 2
    assert found["received"] == "tool_calls"
    usage = found["pieces"][-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (100, 20)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 60


@both
def test_an_answer_at_once_arrives_whole(told: Told, provider: str) -> None:
    answer = told.of(provider, "full at once")["answer"]
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (TEXT, THOUGHT)
    assert [json.loads(one["function"]["arguments"]) for one in message["tool_calls"]] == [
        {"command": "ls"},
        {"command": "pwd"},
    ]
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 60


def test_the_piece_with_the_signature_holds_the_whole_thinking(told: Told) -> None:
    signed = [
        block
        for delta in deltas(told.of("anthropic", "full"))
        for block in delta.get("thinking_blocks") or []
        if block.get("signature")
    ]
    assert signed == [{"type": "thinking", "thinking": THOUGHT, "signature": sign(THOUGHT)}]


@both
def test_a_huge_answer_arrives_whole(told: Told, provider: str) -> None:
    assert len(joined(told.of(provider, "huge"), "content")) == LONG // 13 * 13


@both
def test_odd_calls_arrive_as_they_were_sent(told: Told, provider: str) -> None:
    same = calls(told.of(provider, "same id"))
    assert [(id, text) for id, _, text in same] == [("a", "{}"), ("a", '{"command":"x"}')]
    assert calls(told.of(provider, "malformed arguments"))[0][2] == '{"command": '
    assert (
        calls(told.of(provider, "no arguments"))[0][2]
        == {"openai": "", "anthropic": "{}"}[provider]
    )


@both
def test_empty_and_cut_off_answers_say_how_they_finished(told: Told, provider: str) -> None:
    assert told.of(provider, "empty")["received"] == "stop"
    assert joined(told.of(provider, "empty"), "content") == ""
    assert told.of(provider, "length")["received"] == "length"


@both
@pytest.mark.parametrize("case", ["short", "bad_json", "bad_sse", "cut call"])
def test_a_stream_that_breaks_off_silently_received_no_finish(
    told: Told, provider: str, case: str
) -> None:
    """litellm raises nothing, and makes up a finish reason and a usage."""
    found = told.of(provider, case)
    assert "error" not in found and found["received"] is None
    assert [piece["choices"][0].get("finish_reason") for piece in found["pieces"]].count("stop")


@both
@pytest.mark.parametrize("case", ["close", "reset"])
def test_a_lost_connection_is_an_error_with_what_had_come(
    told: Told, provider: str, case: str
) -> None:
    found = told.of(provider, case)
    assert found["error"]["kinds"][0] == "MidStreamFallbackError"
    assert found["error"]["original"] == "APIConnectionError"
    assert 0 < len(joined(found, "content")) < len(TEXT)


@both
@pytest.mark.parametrize("case", ["short at once", "close at once", "reset at once"])
def test_half_a_body_is_an_error(told: Told, provider: str, case: str) -> None:
    assert told.error(provider, case)["kinds"][0] in ("InternalServerError", "APIConnectionError")


@both
def test_an_error_in_the_middle_of_a_stream_is_one(told: Told, provider: str) -> None:
    error = told.error(provider, "fault later")
    assert error["kinds"][0] == "MidStreamFallbackError"
    assert "verloaded" in error["words"]


KINDS = {
    "bad_request": ("BadRequestError", 400, "BadRequestError", 400),
    "context_window": ("ContextWindowExceededError", 400, "ContextWindowExceededError", 400),
    "content_policy": ("ContentPolicyViolationError", 400, "ContentPolicyViolationError", 400),
    "content_filter": ("BadRequestError", 400, "ContentPolicyViolationError", 400),
    "authentication": ("AuthenticationError", 401, "AuthenticationError", 401),
    "permission": ("BadRequestError", 403, "PermissionDeniedError", 403),
    "not_found": ("NotFoundError", 404, "NotFoundError", 404),
    "too_large": ("BadRequestError", 413, "BadRequestError", 400),
    "rate_limit": ("RateLimitError", 429, "RateLimitError", 429),
    "quota": ("RateLimitError", 429, "BadRequestError", 400),
    "server": ("InternalServerError", 500, "InternalServerError", 500),
    "gateway": ("BadGatewayError", 502, "BadGatewayError", 502),
    "unavailable": ("ServiceUnavailableError", 503, "ServiceUnavailableError", 503),
    "overloaded": ("ServiceUnavailableError", 503, "InternalServerError", 500),
}
"""Of each fault: class and status, OpenAI's, then Anthropic's. The statuses are litellm's."""


@both
@pytest.mark.parametrize("kind", KINDS)
def test_a_providers_error_has_its_class(told: Told, provider: str, kind: str) -> None:
    error = told.error(provider, f"fault {kind}")
    at = 2 * PROVIDERS.index(provider)
    assert (error["kinds"][0], error["status"]) == KINDS[kind][at : at + 2], error["words"]


def test_openai_repeats_a_part_of_the_key(told: Told) -> None:
    words = told.error("openai", "fault authentication")["words"]
    assert f"{KEY[:8]}**********{KEY[-4:]}" in words


@both
def test_how_long_to_wait_is_among_the_errors_headers(told: Told, provider: str) -> None:
    assert told.error(provider, "retry after")["retry_after"] == "7"
    date = told.error(provider, "retry after date")["retry_after"]
    assert date == "Wed, 21 Oct 2026 07:28:00 GMT"


def test_nothing_is_retried(told: Told) -> None:
    many = {case: len(found) for case, found in told.requests.items() if len(found) > 1}
    assert not many
    unreached = {f"{one}: {case}" for one in PROVIDERS for case in ("wrong base", "nobody there")}
    assert set(told.requests) == set(told.answers) - set(QUESTIONS) - unreached


@both
def test_the_key_reaches_the_provider(told: Told, provider: str) -> None:
    assert told.request(provider, "full").key == KEY


@both
def test_silence_is_a_timeout_by_kind_or_cause(told: Told, provider: str) -> None:
    assert told.error(provider, "never")["kinds"][0] == "Timeout"
    stalled = told.error(provider, "stalled")
    assert (stalled["original"], stalled["cause"]) == ("APIConnectionError", "ReadTimeout")


@both
@pytest.mark.parametrize("case", ["given up before", "given up at once", "given up in the middle"])
def test_a_cancelled_task_closes_its_connection(told: Told, provider: str, case: str) -> None:
    closed = told.request(provider, case).closed
    assert closed is not None
    assert 0 <= closed - told.of(provider, case)["given_up"] < LATE


@both
def test_a_wrong_base_is_not_found_and_a_closed_port_is_an_error(told: Told, provider: str) -> None:
    assert told.error(provider, "wrong base")["kinds"][0] == "NotFoundError"
    assert told.error(provider, "nobody there")["kinds"][0] == "InternalServerError"
    assert len(told.strays) == len(PROVIDERS)


@both
@pytest.mark.parametrize("case", HISTORIES)
def test_histories_reach_the_provider_as_it_takes_them(
    told: Told, provider: str, case: str
) -> None:
    assert joined(told.of(provider, case), "content") == "fine"


def test_signed_thinking_is_given_back_unchanged(told: Told) -> None:
    assert joined(told.of("anthropic", "thinking"), "content") == "fine"
    block = told.request("anthropic", "thinking").body["messages"][1]["content"][0]
    assert block["signature"] == sign(THOUGHT)


def test_no_request_broke_a_rule(told: Told) -> None:
    assert told.violations == []


def test_what_a_request_costs_is_known_or_known_to_be_unknown(told: Told) -> None:
    assert told.answers["price"]["value"] == pytest.approx([0.0025, 0.001])
    assert "ModelNotMappedError" in told.answers["no price"]["error"]["kinds"]


def test_the_context_window_is_known_or_known_to_be_unknown(told: Told) -> None:
    assert told.answers["window"]["value"]["max_input_tokens"] == 128_000
    assert "ModelNotMappedError" in told.answers["no window"]["error"]["kinds"]


def test_unknown_providers_and_missing_keys_show_before_a_request(told: Told) -> None:
    assert told.answers["provider"]["value"][:2] == ["claude-any", "anthropic"]
    for case in ("no provider", "bare name"):
        assert "LLM Provider NOT provided" in told.answers[case]["error"]["words"]
    assert told.answers["no key"]["value"]["missing_keys"] == ["ANTHROPIC_API_KEY"]
    assert told.answers["key"]["value"]["missing_keys"] == []
    # So the provider is to be asked for first.
    assert told.answers["no key of nobody"]["value"]["missing_keys"] == []
