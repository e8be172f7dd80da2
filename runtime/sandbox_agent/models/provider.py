"""A model that a provider runs, asked through litellm, in the model process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.futures import resolve
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.model_messages import Answer, Ask, Failure, FailureKind, Piece
from sandbox_agent_ipc.token import CancelToken, RunToken

from sandbox_agent.config.model_settings import RETRIES, TIMEOUT, USUAL, check_params
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.errors import ConfigError, ModelError
from sandbox_agent.journal.events import LENGTH
from sandbox_agent.journal.history import AssistantMessage, Message, answers_in
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.models import DeltaKind, Model, ModelCall, ModelDelta, ModelTurn, OnDelta
from sandbox_agent.models.catalogue import context_window, key_variables, problem_with
from sandbox_agent.models.process.host import Asking, Result
from sandbox_agent.models.process.shared import Lease
from sandbox_agent.models.prompt import system_prompt
from sandbox_agent.models.shortening import Shortener
from sandbox_agent.models.wire import Wire

EMPTY_ANSWERS = 3
"""Answers of nothing at all, one after the other, that are taken for an error of the provider."""

THROUGH = "litellm"
"""In `options`: who is to be asked for the model."""

_KINDS = {kind.value for kind in DeltaKind}


class ProviderModel(Model):
    """Any model that litellm speaks to. The keys come from the environment, as litellm names them.

    name: as litellm names it, "openai/gpt-4o". api_base: of another server that speaks the same.
    timeout: seconds that it may be silent, before an answer and between its pieces. retries: of
    what may pass by itself. stream: have the answer come in pieces. params: further arguments of
    `litellm.completion`, such as temperature.

    All of them in one program share one model process, from the first `start` or request to the
    last `aclose`. Raises ConfigError for what cannot be, such as a key that is not set.
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
        self._shortener = Shortener()
        self._lease: Lease | None = None
        self._asking: Asking | None = None
        self._window: int | None = None
        self._empty = 0  # answers of nothing, one after the other, in this run
        self._lost: TokenUsage | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def options(self) -> dict[str, Any]:
        """All but the defaults, and what tells it from models that are made otherwise. An address's
        user and password are left out."""
        given = {
            "api_base": None if self._api_base is None else _without_password(self._api_base),
            "timeout": self._timeout,
            "retries": self._retries,
            "stream": self._stream,
            "params": self._params,
        }
        said = {name: value for name, value in given.items() if value != USUAL[name]}
        return {"through": THROUGH, **said}

    @property
    def keys(self) -> tuple[str, ...]:
        return key_variables(self._name)

    def start(self, interrupt: Interrupt) -> None:
        """Begin to start the model process, unless it is there."""
        self._interrupt = interrupt
        self._empty = 0
        self._held().process.start()

    def escalate(self) -> None:
        """End the process without further grace, if a request that was told to stop is in it."""
        asking = self._asking
        if asking is not None:
            asking.escalate()

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        """The next turn. One of nothing at all is not final, so it is asked for again; a request
        that does not fit the model's window is made once more with more of the older output left
        out: a refusal uses nothing up."""
        if self._empty == EMPTY_ANSWERS:
            raise ModelError(
                f"{self._name}: the model answered with nothing, {self._empty} times",
                FailureKind.PROVIDER,
            )
        if self._window is None and answers_in(history):
            # A conversation that is gone on with, perhaps a long one. Later answers tell.
            self._window = context_window(self._name)
        history = _without_vain_end(history)
        refused = False
        while True:
            sent = self._shortener.fit(history, self._window, harder=refused)
            result = await self._ask(self._request(sent, tools), token, on_delta)
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

    def _held(self) -> Lease:
        if self._lease is None:
            self._lease = Lease()
        return self._lease

    def _request(self, history: Sequence[Message], tools: Sequence[ToolSpec]) -> Ask:
        if self._wire is None:
            self._wire = Wire(self._name, system_prompt([tool.name for tool in tools]))
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

    async def _ask(self, ask: Ask, token: CancelToken, on_delta: OnDelta) -> Answer | Failure:
        """One request, seen through to its end even where whoever waits is cancelled."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        mine = RunToken()

        def hear(piece: Piece) -> None:
            if piece.kind in _KINDS and not over.done():
                on_delta(ModelDelta(DeltaKind(piece.kind), piece.text))

        def on_piece(piece: Piece) -> None:
            with suppress(RuntimeError):  # the loop is closed, and with it whoever listens
                loop.call_soon_threadsafe(hear, piece)

        def on_result(result: object) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(resolve, over)

        forget = _follow(token, mine)
        asking = self._held().process.ask(ask, self._interrupt, mine, on_piece)
        self._asking = asking
        asking.result.add_done_callback(on_result)
        shield = CancelShield(lambda: mine.cancel(CancelReason.CANCELLED))
        try:
            await shield.wait([over])
        finally:
            forget()
            self._asking = None
        if shield.cancelled:
            if not asking.result.exception() and isinstance(late := asking.result.result(), Answer):
                self._lost = _usage(late)  # it came all the same, and has to be paid for
            shield.raise_cancelled()
        result: Result = asking.result.result()
        if result is None:
            if mine.is_cancelled:
                raise asyncio.CancelledError
            raise ModelError(
                f"{self._name} was closed while it was asked, with another conversation that had "
                f"it too; give each conversation a model of its own",
                FailureKind.CRASHED,
            )
        return result


def _follow(token: CancelToken, mine: RunToken) -> Any:
    """Cancel `mine` with `token`. Returns what takes that back."""
    if isinstance(token, RunToken):
        return token.add_callback(lambda: mine.cancel(token.reason or CancelReason.CANCELLED))
    return lambda: None


def _without_vain_end(history: Sequence[Message]) -> Sequence[Message]:
    """The history without last answers that led to nothing, being empty or cut off, and that
    nobody has said anything to: they are asked for again, with what they were asked for before.
    Some providers would go on with a last answer instead, and some refuse one."""
    end = len(history)
    while end and _is_vain(history[end - 1]):
        end -= 1
    return history if end == len(history) else history[:end]


def _is_vain(message: Message) -> bool:
    return (
        isinstance(message, AssistantMessage)
        and not message.calls
        and (message.cut or not message.text.strip())
    )


def _usage(answer: Answer) -> TokenUsage:
    """What it used up. Of a provider that does not count nothing is known, which is not that
    nothing was used: it is zero tokens at no known price."""
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
        final=bool(not calls and answer.text.strip() and answer.finish != LENGTH),
        reasoning=answer.reasoning,
        provider_state=answer.provider_state,
        usage=_usage(answer),
        finish=answer.finish,
    )


def _error(name: str, failure: Failure) -> ModelError:
    status = f" (HTTP {failure.status})" if failure.status else ""
    times = f", after {failure.attempts} attempts" if failure.attempts > 1 else ""
    what = _WORDS.get(failure.kind, "the provider failed")
    return ModelError(f"{name}: {what}{status}{times}: {failure.text}", failure.kind)


_WORDS = {
    FailureKind.UNKNOWN_MODEL: "there is no such model",
    FailureKind.MISSING_KEY: "its key is missing",
    FailureKind.AUTHENTICATION: "the provider refused the key",
    FailureKind.CONTEXT_WINDOW: "the conversation is too long for the model",
    FailureKind.CONTENT_POLICY: "the provider's content policy stopped it",
    FailureKind.RATE_LIMIT: "the provider's rate limit was hit",
    FailureKind.TIMEOUT: "the provider was silent for too long",
    FailureKind.CONNECTION: "the provider cannot be reached",
    FailureKind.BAD_REQUEST: "the provider refused the request",
    FailureKind.CRASHED: "no answer",
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
