"""What a provider's word for the end of an answer means.

The words that mean a whole answer are listed. So a word that no one here has met never makes half
an answer look whole: the request is repeated, and at last the run fails with that word.
"""

from __future__ import annotations

import re

from sandbox_agent_ipc.model_messages import FailureKind, Finish

from .answer_builder import AnswerBuilder
from .own_end import OwnEnd
from .provider_errors import ProviderError
from .sanitize import one_line, without_secrets

_WORDS: dict[Finish, str] = {
    # OpenAI and what follows it; Anthropic, Bedrock; Cohere; Hugging Face, Together, Watsonx;
    # AI21, Aleph Alpha; Titan; OpenAI's Responses; Baidu.
    Finish.STOP: """
        stop end_turn stop_sequence complete eos eos_token end_of_turn endoftext end_of_text
        finish stop_criteria_met completed normal """,
    Finish.CALLS: "tool_calls tool_call tool_use function_call function_calls",
    # The last ones: Mistral; Anthropic, Bedrock, Zhipu. Their limit is the context window.
    Finish.LENGTH: """
        length max_tokens maximum_tokens max_new_tokens max_output_tokens token_limit max_length
        compaction model_length model_context_window_exceeded """,
    # OpenAI; Anthropic; Bedrock; Cohere; Zhipu, GigaChat; Gemini.
    Finish.REFUSED: """
        content_filter refusal content_filtered guardrail_intervened error_toxic sensitive blacklist
        safety recitation language blocklist prohibited_content spii escalation image_safety
        image_prohibited_content image_recitation """,
    Finish.PAUSED: "pause_turn",
}
_MEANING = {word: finish for finish, words in _WORDS.items() for word in words.split()}
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def finish_of(
    own: OwnEnd, mapped: str, builder: AnswerBuilder, *, is_made_up: bool
) -> tuple[Finish, str] | None:
    """How an answer ended, and the provider's own word for it; None if the answer broke off.

    own: what the bytes of the response say. mapped: litellm's finish reason, for a response that
    cannot be read here. is_made_up: litellm received no finish reason.

    Raises ProviderError for an end that is none.
    """
    if own.error:
        words = one_line(without_secrets(own.error), 2000)
        raise ProviderError(FailureKind.PROVIDER, words, is_transient=True)
    if own.is_mixed:
        raise ProviderError(
            FailureKind.PROVIDER,
            "the pieces of several answers came in one stream; leave model.params.n out",
        )
    word = own.word
    if not word and own.is_known:
        if not own.is_marked or builder.is_empty or not builder.calls_are_whole:
            return None
        mapped = Finish.CALLS if builder.calls else Finish.STOP
    elif not word and (is_made_up or not mapped):
        return None
    if builder.refusal.strip():
        return Finish.REFUSED, "refusal"
    if own.is_blocked:
        return Finish.REFUSED, word
    finish = _meaning(word or mapped)
    if finish is Finish.STOP and builder.calls:
        finish = Finish.CALLS  # Gemini's and Ollama's answers with calls end like others
    if finish is None:
        raise _no_end(f"the answer ended with {word or mapped!r}, which is no whole answer")
    if finish is Finish.CALLS and not builder.calls:
        raise _no_end(f"the answer ended with {word or mapped!r}, but has no call")
    return finish, word or mapped


def _meaning(word: str) -> Finish | None:
    """STOP, stop, tool-calls, toolUse, FinishReason.STOP and FINISH_REASON_STOP: gateways write the
    same words in many ways."""
    plain = _HUMP.sub("_", word.removeprefix("FinishReason.")).lower().replace("-", "_")
    return _MEANING.get(plain.removeprefix("finish_reason_"))


def _no_end(text: str) -> ProviderError:
    return ProviderError(FailureKind.PROVIDER, one_line(text, 300), is_transient=True)
