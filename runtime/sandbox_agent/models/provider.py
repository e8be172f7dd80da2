"""A provider's model, asked through litellm in the model process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.futures import call_soon, resolve
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.model_messages import Answer, Ask, Failure, FailureKind, Finish, Piece
from sandbox_agent_ipc.token import CancelToken, RunToken

from sandbox_agent.config.model_settings import RETRIES, THROUGH, TIMEOUT, USUAL, check_params
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.errors import ConfigError, ModelError
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.history import AssistantMessage, Message, answers_in
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.models import DeltaKind, Model, ModelCall, ModelDelta, ModelTurn, OnDelta
from sandbox_agent.models.catalogue import context_window, key_variables, problem_with
from sandbox_agent.models.process.host import Request, Result
from sandbox_agent.models.process.shared import Lease
from sandbox_agent.models.prompt import system_prompt
from sandbox_agent.models.shortening import Shortener
from sandbox_agent.models.wire import Wire

EMPTY_ANSWERS = 3
"""Empty answers in a row that count as an error of the provider."""

_KINDS = {kind.value for kind in DeltaKind}


class ProviderModel(Model):
    """Any model that litellm supports. Keys come from the environment variables that litellm names.

    name: litellm's, such as "openai/gpt-4o". api_base: another server with the same API. timeout:
    seconds that the provider may be silent, before an answer and between its pieces. retries: of
    errors that another attempt may not meet. stream: whether the answer comes in pieces. params:
    further arguments of `litellm.completion`, such as temperature.

    All models of one program share one model process, from the first `start` or request to the last
    `aclose`. Raises ConfigError if the model cannot work, for example if its key is not set.
    """

    def __init__(
        self,
        name: str,
        *,
        api_base: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        stream: bool = True,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        problem = problem_with(name, api_base, os.environ)
        if problem is not None:
            _, what, hint = problem
            raise ConfigError(what, field="model", hint=hint)
        self._name = name
        self._api_base = api_base
        self._timeout = timeout
        self._retries = retries
        self._stream = stream
        self._params = _checked(params or {})
        self._interrupt = Interrupt()
        self._wire: Wire | None = None
        self._instructions = ""
        self._shortener = Shortener()
        self._lease: Lease | None = None
        self._in_flight: Request | None = None
        self._window: int | None = None
        self._empty = 0  # empty answers in a row, in this run
        self._lost: TokenUsage | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def options(self) -> dict[str, Any]:
        """The settings that are not defaults, and `through`, which distinguishes it from other
        kinds of model. User and password of an address are left out."""
        given = {
            "api_base": None if self._api_base is None else _without_password(self._api_base),
            "timeout": self._timeout,
            "retries": self._retries,
            "stream": self._stream,
            "params": self._params,
        }
        changed = {name: value for name, value in given.items() if value != USUAL[name]}
        return {"through": THROUGH, **changed}

    @property
    def keys(self) -> tuple[str, ...]:
        return key_variables(self._name)

    def start(self, interrupt: Interrupt) -> None:
        """Starts the model process without blocking, unless it runs."""
        self._interrupt = interrupt
        self._empty = 0
        self._open_lease().process.start()

    def instruct(self, text: str) -> None:
        if text != self._instructions:
            self._instructions, self._wire = text, None

    def escalate(self) -> None:
        """Ends the process without further grace, if a cancelled request is in it."""
        request = self._in_flight
        if request is not None:
            request.escalate()

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        """The next turn. An empty one is not final, so the run asks again. A request that does not
        fit the context window is repeated once with more of the older output left out: a refused
        request costs nothing."""
        if self._empty == EMPTY_ANSWERS:
            raise ModelError(
                f"{self._name}: the model gave {self._empty} empty answers in a row",
                FailureKind.PROVIDER,
            )
        if self._window is None and answers_in(history):
            # A resumed conversation may be long. Later answers give the window too.
            self._window = context_window(self._name)
        history = _without_trailing_empty_turns(history)
        refused = False
        while True:
            sent = self._shortener.fit(history, self._window, harder=refused)
            result = await self._send(self._ask(sent, tools), token, on_delta)
            if isinstance(result, Answer):
                break
            if result.kind is not FailureKind.CONTEXT_WINDOW or refused:
                raise _error(self._name, result)
            refused = True
        self._window = result.window or self._window
        if result.input is not None:
            self._shortener.counted(sent, result.input)
        turn = _turn(result)
        self._empty = 0 if turn.calls or turn.text.strip() else self._empty + 1
        return turn

    def take_lost(self) -> TokenUsage | None:
        lost, self._lost = self._lost, None
        return lost

    async def aclose(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await asyncio.to_thread(lease.close)

    # ------------------------------------------------------------------------------------------

    def _open_lease(self) -> Lease:
        if self._lease is None:
            self._lease = Lease()
        return self._lease

    def _ask(self, history: Sequence[Message], tools: Sequence[ToolSpec]) -> Ask:
        if self._wire is None:
            names = [tool.name for tool in tools]
            self._wire = Wire(self._name, system_prompt(names, self._instructions))
        return Ask(
            model=self._name,
            messages=self._wire.messages(history),
            tools=self._wire.tools(tools),
            api_base=self._api_base,
            timeout=self._timeout,
            retries=self._retries,
            stream=self._stream,
            params=self._params,
        )

    async def _send(self, ask: Ask, token: CancelToken, on_delta: OnDelta) -> Answer | Failure:
        """One request. Waits for its end even if this task is cancelled."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        request_token = token.child() if isinstance(token, RunToken) else RunToken()

        def deliver(piece: Piece) -> None:
            if piece.kind in _KINDS and not over.done():
                on_delta(ModelDelta(DeltaKind(piece.kind), piece.text))

        def on_piece(piece: Piece) -> None:
            call_soon(loop, deliver, piece)

        def on_result(result: object) -> None:
            call_soon(loop, resolve, over)

        request = self._open_lease().process.ask(ask, self._interrupt, request_token, on_piece)
        self._in_flight = request
        request.result.add_done_callback(on_result)
        shield = CancelShield(lambda: request_token.cancel(CancelReason.CANCELLED))
        try:
            await shield.wait([over])
        finally:
            request_token.detach()
            self._in_flight = None
        if shield.cancelled:
            if not request.result.exception() and isinstance(
                late := request.result.result(), Answer
            ):
                self._lost = _usage(late)  # the answer came, and the provider charges for it
            shield.raise_cancelled()
        result: Result = request.result.result()
        if result is None:
            if request_token.is_cancelled:
                raise asyncio.CancelledError
            raise ModelError(
                f"{self._name} was closed during the request, by another conversation that uses it "
                f"too; give each conversation its own model",
                FailureKind.CRASHED,
            )
        return result


def _without_trailing_empty_turns(history: Sequence[Message]) -> Sequence[Message]:
    """The history without trailing assistant turns that made no call, are empty, cut off or
    refused, and got no reply: the same request is made again. Some providers would continue a
    trailing assistant turn instead, and some refuse it. A paused turn stays: its provider continues
    it."""
    end = len(history)
    while end and _led_to_nothing(history[end - 1]):
        end -= 1
    return history if end == len(history) else history[:end]


def _led_to_nothing(message: Message) -> bool:
    return (
        isinstance(message, AssistantMessage)
        and not message.calls
        and (message.cut or not message.text.strip())
    )


def _usage(answer: Answer) -> TokenUsage:
    """The usage of an answer. If the provider does not count, nothing is known: zero tokens, and no
    known price."""
    return TokenUsage(
        answer.input or 0,
        answer.output or 0,
        answer.cached,
        answer.reasoning_tokens,
        answer.cost_usd,
    )


def _turn(answer: Answer) -> ModelTurn:
    calls = tuple(
        ModelCall(call.name, call.arguments, call.provider_state) for call in answer.calls
    )
    return ModelTurn(
        text=answer.text,
        calls=calls,
        final=bool(not calls and answer.text.strip() and answer.finish is Finish.STOP),
        reasoning=answer.reasoning,
        provider_state=answer.provider_state,
        usage=_usage(answer),
        finish_reason=answer.finish.value,
        finish_word=answer.finish_word,
    )


def _error(name: str, failure: Failure) -> ModelError:
    status = f" (HTTP {failure.status})" if failure.status else ""
    times = f", after {failure.attempts} attempts" if failure.attempts > 1 else ""
    what = _WORDS.get(failure.kind, "the provider failed")
    error = ModelError(f"{name}: {what}{status}{times}: {failure.text}", failure.kind)
    if failure.kind is FailureKind.SHORTAGE:
        error.exit_code = ExitCode.SANDBOX  # the host failed, and not the provider
    return error


_WORDS = {
    FailureKind.UNKNOWN_MODEL: "the model does not exist",
    FailureKind.MISSING_KEY: "the key is missing",
    FailureKind.AUTHENTICATION: "the provider refused the key",
    FailureKind.CONTEXT_WINDOW: "the conversation is too long for the model",
    FailureKind.CONTENT_POLICY: "the provider's content policy stopped the answer",
    FailureKind.RATE_LIMIT: "the provider's rate limit was hit",
    FailureKind.TIMEOUT: "the provider was silent for too long",
    FailureKind.CONNECTION: "the provider cannot be reached",
    FailureKind.BAD_REQUEST: "the provider refused the request",
    FailureKind.CRASHED: "no answer",
    FailureKind.SHORTAGE: "the request cannot be made",
}


def _checked(params: Mapping[str, Any]) -> dict[str, Any]:
    try:
        check_params(params)
    except ValueError as error:
        raise ConfigError(str(error), field="model.params") from None
    return dict(params)


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
