"""A model that follows a list of turns: no key, no network, always the same.

Each request gets the next turn of the list, also after an interrupt and in another process. The
position is the number of answers in the history, so the model has no state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken

from sandbox_agent.config import yaml_source
from sandbox_agent.config.model_settings import not_finite
from sandbox_agent.errors import AgentFailed
from sandbox_agent.journal.history import AssistantMessage, Message, ToolMessage, answers_in
from sandbox_agent.models import STOPPED, Model, ModelCall, ModelTurn, OnDelta


@dataclass(frozen=True)
class Step:
    """One turn of the list. expect: patterns that the results of its calls must match.

    where: `file:line` of the turn, for messages. call_places: the same of each call.
    """

    turn: ModelTurn
    expect: tuple[re.Pattern[str], ...] = ()
    where: str = ""
    call_places: tuple[str, ...] = ()


class ScriptedModel(Model):
    """See the module. Made by `load_script`, or from your own steps."""

    def __init__(self, steps: Sequence[Step], name: str = "scripted") -> None:
        self.steps = tuple(steps)
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        """The next turn. Raises AgentFailed if there is none, or if the results of the last turn do
        not match `expect`."""
        taken = answers_in(history)
        if taken:
            self._compare(self.steps[taken - 1] if taken <= len(self.steps) else None, history)
        if taken >= len(self.steps):
            raise AgentFailed(
                f"{self._name}: all {len(self.steps)} turns are used up, and the last one is not "
                f"`final`; end the list with `- final: ...`"
            )
        return self.steps[taken].turn

    def _compare(self, step: Step | None, history: Sequence[Message]) -> None:
        if step is None or not step.expect:
            return
        results = _last_results(history)
        if any(result.outcome in STOPPED for result in results):
            return  # `expect` is about the results of a turn that was not interrupted.
        text = "\n".join(result.content for result in results)
        for pattern in step.expect:
            if not pattern.search(text):
                raise AgentFailed(
                    f"{step.where}: expected results that match {pattern.pattern!r}; "
                    f"got: {_excerpt(text)}"
                )


def _last_results(history: Sequence[Message]) -> list[ToolMessage]:
    results: list[ToolMessage] = []
    for message in reversed(history):
        if isinstance(message, AssistantMessage):
            break
        if isinstance(message, ToolMessage):
            results.insert(0, message)
    return results


def _excerpt(text: str, limit: int = 400) -> str:
    shown = text if len(text) <= limit else f"{text[: limit // 2]} [...] {text[-limit // 2 :]}"
    return repr(shown)


def load_script(path: Path | str, name: str | None = None) -> ScriptedModel:
    """Reads a list of turns from a YAML file.

    Raises ConfigError with file, line, field and hint.
    """
    data, source = yaml_source.load(Path(path), yaml_source.MAX_LIST_BYTES)
    reader = _Reader(source)
    if not isinstance(data, list):
        raise reader.error((), "a scripted model must be a list of turns", _TURN)
    steps = [reader.step((number,), item) for number, item in enumerate(data)]
    return ScriptedModel(steps, name or f"scripted:{path}")


_TURN = "write each turn as `- say: ...` and/or `calls: [...]`, and the last as `- final: ...`"
_CALL = "write each call as `- tool_name: {argument: value}`"

_Place = tuple[str | int, ...]


class _Reader:
    """Reads steps from the data of a YAML file."""

    def __init__(self, source: yaml_source.SourceMap) -> None:
        self._source = source
        self.error = source.error

    def step(self, place: _Place, item: Any) -> Step:
        if not isinstance(item, dict):
            raise self.error(place, f"a turn must be a mapping, not {_kind(item)}", _TURN)
        unknown = [key for key in item if key not in ("say", "calls", "expect", "final")]
        if unknown:
            raise self.error(
                (*place, unknown[0]),
                f"unknown field {unknown[0]!r}",
                "a turn has `say`, `calls`, `expect` and `final`",
            )
        if "final" in item:
            return self._final(place, item)
        if "say" not in item and "calls" not in item:
            raise self.error(place, "a turn needs `say` or `calls`", _TURN)
        calls = self._list((*place, "calls"), item.get("calls"), _CALL)
        places = [(*place, "calls", number) for number in range(len(calls))]
        return Step(
            turn=ModelTurn(
                text=self._text((*place, "say"), item.get("say", "")),
                calls=tuple(self._call(at, call) for at, call in zip(places, calls, strict=True)),
            ),
            expect=self._patterns(place, item),
            where=self._source.where(place),
            call_places=tuple(self._source.where(at) for at in places),
        )

    def _final(self, place: _Place, item: dict[str, Any]) -> Step:
        if "calls" in item or "expect" in item:
            raise self.error(
                (*place, "final"),
                "a final turn cannot have `calls` or `expect`",
                "put the calls into a turn before it",
            )
        said = [self._text((*place, key), item[key]) for key in ("say", "final") if key in item]
        turn = ModelTurn(text="\n".join(text for text in said if text), final=True)
        return Step(turn=turn, where=self._source.where(place))

    def _patterns(self, place: _Place, item: dict[str, Any]) -> tuple[re.Pattern[str], ...]:
        if "expect" in item and not item.get("calls"):
            raise self.error(
                (*place, "expect"),
                "a turn without calls has no results to match",
                "add `calls`, or remove `expect`",
            )
        hint = "give a list of regular expressions (Python's `re`), each in quotes"
        at = (*place, "expect")
        patterns = []
        for number, text in enumerate(self._list(at, item.get("expect"), hint)):
            try:
                patterns.append(re.compile(self._text((*at, number), text), re.MULTILINE))
            except re.error as error:
                what = f"not a regular expression: {error}"
                raise self.error((*at, number), what, hint) from None
        return tuple(patterns)

    def _call(self, place: _Place, item: Any) -> ModelCall:
        if not isinstance(item, dict) or len(item) != 1:
            raise self.error(place, "a call must name one tool", _CALL)
        ((name, arguments),) = item.items()
        if not isinstance(name, str) or not name:
            raise self.error(place, f"{name!r} is not a tool name", _CALL)
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
            what = f"arguments must be a mapping from names, not {_kind(arguments)}"
            raise self.error((*place, name), what, _CALL)
        odd = not_finite(arguments)
        if odd is not None:
            raise self.error(
                (*place, name, *odd),
                "is no finite number, which JSON cannot hold",
                "write a number",
            )
        return ModelCall(name, arguments)

    def _list(self, place: _Place, value: Any, hint: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(place, f"must be a list, not {_kind(value)}", hint)
        return value

    def _text(self, place: _Place, value: Any) -> str:
        if not isinstance(value, str):
            raise self.error(place, f"must be text, not {_kind(value)}", "put it in quotes")
        return value


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), repr(value))
