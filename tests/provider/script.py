"""What the stub answers: data, so that a test, a JSON file and a benchmark say it alike."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec


class Kind(StrEnum):
    """Errors that a provider answers with, named for what is wrong."""

    BAD_REQUEST = "bad_request"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"
    CONTENT_FILTER = "content_filter"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    SERVER = "server"
    GATEWAY = "gateway"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"


class End(StrEnum):
    """How an answer ends.

    whole: as it should. short: as far as HTTP can tell it is complete, and the rest is missing.
    close: the connection is closed (FIN) with the answer incomplete. reset: RST instead.
    bad_json: a body that is no JSON; of a stream, an event that is none. bad_sse: a line that
    is no field of an event. endless: the pieces of the text again and again, until the client goes.
    """

    WHOLE = "whole"
    SHORT = "short"
    CLOSE = "close"
    RESET = "reset"
    BAD_JSON = "bad_json"
    BAD_SSE = "bad_sse"
    ENDLESS = "endless"


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An error answer. retry_after: the header's text, seconds or an HTTP date. message: instead
    of the provider's usual words."""

    kind: Kind
    retry_after: str | None = None
    message: str | None = None


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """arguments: an object, or text that is sent as it is, valid or not. id: None for a fresh one;
    the same may be given twice."""

    name: str
    arguments: dict[str, Any] | str = {}
    id: str | None = None


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """In tokens. cached and reasoning are parts of prompt and completion."""

    prompt: int = 10
    completion: int = 5
    cached: int = 0
    reasoning: int = 0


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to one request.

    repeat: the text so many times, for huge ones. finish: the finish or stop reason in the
    provider's own word; None for what fits. pieces: into how many events of a stream a text, and
    the arguments of a call, are cut. delay: seconds before the first byte. pause: seconds between
    two events. fault: this error instead; with `after`, in the middle of a stream.
    end, after: how it ends, and after how many events of a stream (an answer that is not streamed
    breaks in the middle of its body). hold_at: waits for `Stub.open()` after so many events, 0 for
    before the first byte; an answer that nobody opens never comes.
    """

    text: str = ""
    repeat: int = 1
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = Usage()
    finish: str | None = None
    pieces: int = 3
    delay: float = 0.0
    pause: float = 0.0
    fault: Fault | None = None
    end: End = End.WHOLE
    after: int = 0
    hold_at: int | None = None

    def whole_text(self) -> str:
        return self.text * self.repeat


class By(StrEnum):
    """What chooses the answer: request: the n-th request to the stub takes the n-th. turn: a
    request with n assistant messages takes the one after n, so that a repeated one is answered
    alike, and several conversations do not disturb each other."""

    REQUEST = "request"
    TURN = "turn"


class Then(StrEnum):
    """After the last answer: it again, or a plain text."""

    DONE = "done"
    REPEAT = "repeat"


DONE = Answer(text="Done.")


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    answers: tuple[Answer, ...] = ()
    by: By = By.REQUEST
    then: Then = Then.DONE

    def answer(self, number: int) -> Answer:
        if number < len(self.answers):
            return self.answers[number]
        return self.answers[-1] if self.then is Then.REPEAT and self.answers else DONE

    @classmethod
    def load(cls, path: Path) -> Script:
        return msgspec.json.decode(path.read_bytes(), type=cls)


def cut(text: str, pieces: int) -> list[str]:
    """The text in at most so many pieces of about the same length."""
    size = max(1, -(-len(text) // max(1, pieces)))
    return [text[at : at + size] for at in range(0, len(text), size)]


def arguments_text(call: ToolCall) -> str:
    if isinstance(call.arguments, str):
        return call.arguments
    return msgspec.json.encode(call.arguments).decode()
