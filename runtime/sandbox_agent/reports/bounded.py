"""The arguments of a call, cut to what a report can show. A model may give 32 MiB of them."""

from __future__ import annotations

from typing import Any

import msgspec

ROOM = 32_768
"""Characters of the arguments of one call that are kept."""
_KEY = 200
"""Characters of the name of an argument that are kept."""
_DEPTH = 64
"""Levels of nesting that are kept. A call with more was not made."""
_PIECE = 8
"""What a number or an empty list counts, in characters."""


class _Cutter:
    """room: characters that may still be kept."""

    def __init__(self, room: int) -> None:
        self.room = room

    def cut(self, value: Any, depth: int = 0) -> Any:
        self.room -= _PIECE
        if depth > _DEPTH:
            return "[... nested too deeply ...]"
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            kept: dict[str, Any] = {}
            for key, item in value.items():
                if self.room <= 0:
                    kept["..."] = f"[... {len(value) - len(kept)} more left out ...]"
                    break
                self.room -= min(len(key), _KEY)
                kept[key[:_KEY]] = self.cut(item, depth + 1)
            return kept
        if isinstance(value, list):
            items: list[Any] = []
            for item in value:
                if self.room <= 0:
                    items.append(f"[... {len(value) - len(items)} more left out ...]")
                    break
                items.append(self.cut(item, depth + 1))
            return items
        return value

    def _text(self, text: str) -> str:
        most = max(self.room // 2, 64)
        shown = len(text) if len(text) <= most else most
        self.room -= shown
        if shown == len(text):
            return text
        left_out = len(text) - shown
        tail = text[-(shown // 2) :]
        return f"{text[: shown - len(tail)]}\n[... {left_out} characters left out ...]\n{tail}"


def bounded(arguments: dict[str, Any] | str) -> dict[str, Any] | str:
    """`arguments` with long texts, lists and mappings cut. What is left out is said in its place.

    Providers give JSON text. If that is an object, so is the answer.
    """
    cut: dict[str, Any] | str = _Cutter(ROOM).cut(_read(arguments))
    return cut


def _read(arguments: dict[str, Any] | str) -> dict[str, Any] | str:
    if not isinstance(arguments, str) or not arguments.lstrip().startswith("{"):
        return arguments
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return arguments
    return value if isinstance(value, dict) else arguments
