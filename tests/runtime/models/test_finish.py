"""What a provider's word for the end of an answer means: whole only where it is listed as whole."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sandbox_agent.models.process.inside.answer_builder import AnswerBuilder
from sandbox_agent.models.process.inside.finish import finish_of
from sandbox_agent.models.process.inside.own_end import OwnEnd
from sandbox_agent.models.process.inside.provider_errors import ProviderError
from sandbox_agent_ipc.model_messages import Finish


def built(text: str = "", *arguments: str, refusal: str | None = None) -> AnswerBuilder:
    """An answer of that text, and with a call for each text of arguments."""
    builder = AnswerBuilder(lambda piece: None, 1 << 20)
    calls = [
        SimpleNamespace(
            index=place, id=str(place), function=SimpleNamespace(name="shell", arguments=one)
        )
        for place, one in enumerate(arguments)
    ]
    builder.add(SimpleNamespace(content=text, refusal=refusal, tool_calls=calls))
    return builder


def ended(word: str, builder: AnswerBuilder, **fields: object) -> tuple[Finish, str] | None:
    end = OwnEnd()
    end.word, end.is_known = word, True
    for name, value in fields.items():
        setattr(end, name, value)
    return finish_of(end, "stop", builder, is_made_up=False)


WORDS = {
    Finish.STOP: "stop end_turn stop_sequence STOP COMPLETE STOP_SEQUENCE eos eos_token completed "
    "endTurn stop-sequence FinishReason.STOP FINISH_REASON_STOP normal",
    Finish.LENGTH: "length max_tokens MAX_TOKENS model_length max_output_tokens "
    "model_context_window_exceeded maxTokens max-tokens maximum_tokens",
    Finish.REFUSED: "refusal content_filter content_filtered SAFETY RECITATION LANGUAGE BLOCKLIST "
    "PROHIBITED_CONTENT SPII guardrail_intervened ERROR_TOXIC sensitive",
    Finish.PAUSED: "pause_turn",
}


@pytest.mark.parametrize(
    ("finish", "word"),
    [(finish, one) for finish, words in WORDS.items() for one in words.split()],
)
def test_a_known_word_has_its_meaning_and_is_kept(finish: Finish, word: str) -> None:
    assert ended(word, built("Half a text")) == (finish, word)


@pytest.mark.parametrize(
    "word",
    ["error", "ERROR", "OTHER", "MALFORMED_FUNCTION_CALL", "insufficient_system_resource",
     "network_error", "abort", "time_limit", "cancelled", "load", "weird", "7", "non.stop"],
)  # fmt: skip
def test_any_other_word_is_no_end_and_the_request_is_repeated(word: str) -> None:
    with pytest.raises(ProviderError, match="which is no whole answer") as caught:
        ended(word, built("Half a text"))
    assert repr(word) in caught.value.text
    assert caught.value.is_transient


@pytest.mark.parametrize(
    "word", ["tool_calls", "tool_use", "TOOL_CALL", "toolUse", "tool-calls", "STOP"]
)
def test_calls_end_an_answer_only_where_there_are_some(word: str) -> None:
    assert ended(word, built("", "{}")) == (Finish.CALLS, word)
    if word != "STOP":
        with pytest.raises(ProviderError, match="has no call"):
            ended(word, built("I call it now."))


def test_without_a_word_the_mark_decides() -> None:
    assert ended("", built("All."), is_marked=True) == (Finish.STOP, "stop")
    assert ended("", built("All."), is_marked=False) is None
    assert ended("", built(), is_marked=True) is None
    assert ended("", built("", '{"a": 1}'), is_marked=True) == (Finish.CALLS, "tool_calls")
    assert ended("", built("", '{"a": 1}', '{"a'), is_marked=True) is None
    assert ended("", built("", ""), is_marked=True) is None


def test_a_response_that_cannot_be_read_ends_as_litellm_says_unless_it_made_that_up() -> None:
    builder = built("All.")
    assert finish_of(OwnEnd(), "stop", builder, is_made_up=False) == (Finish.STOP, "stop")
    assert finish_of(OwnEnd(), "length", builder, is_made_up=False) == (Finish.LENGTH, "length")
    assert finish_of(OwnEnd(), "stop", builder, is_made_up=True) is None
    assert finish_of(OwnEnd(), "", builder, is_made_up=False) is None


def test_a_refusal_refuses_whatever_the_word_is() -> None:
    assert ended("stop", built("Sure.", refusal="No.")) == (Finish.REFUSED, "refusal")
    assert ended("tool_calls", built("", "{}", refusal="No.")) == (Finish.REFUSED, "refusal")
    assert ended("stop", built("Sure.", refusal=" ")) == (Finish.STOP, "stop")
    assert ended("stop", built("Sure.", refusal="")) == (Finish.STOP, "stop")
    assert ended("OTHER", built(), is_blocked=True) == (Finish.REFUSED, "OTHER")


def test_an_error_among_the_events_is_an_error_whatever_else_came() -> None:
    with pytest.raises(ProviderError, match="no room") as caught:
        ended("stop", built("All."), error="no room")
    assert caught.value.is_transient
