"""What a journal says, without what differs between two runs that went the same way: times, ids,
processes, who answered, and the order in which parallel calls raced."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

DROPPED = frozenset(
    {"at", "monotonic", "run", "pid", "seconds", "rungs_ms", "plan", "model", "model_options"}
    | {"task_files"}
)
"""Fields of events, and of the settings in them. plan: of the host, and names the run's folder.
task_files: a replay's are the recorded journal."""

_OF_CALLS = ("dispatching", "started", "ended")
_LATER = "user_message"
"""What is said while calls are going is heard after them, whenever it came."""


def read(folder: Path) -> list[dict[str, Any]]:
    """The events of a run's journal."""
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def normalised(folder: Path, workspace: Path | None = None) -> list[dict[str, Any]]:
    """The events of a run, comparable. workspace: where it stands in them, `<workspace>` does."""
    names = {folder.name: "<run>"}
    if workspace is not None:
        names[str(workspace)] = "<workspace>"
    events: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    for event in read(folder):
        plain = _renamed(_without(event), names)
        if event["event"] in _OF_CALLS:
            calls.append(plain)
        elif event["event"] == _LATER and calls:
            later.append(plain)
        else:
            events += [*sorted(calls, key=_by_call), *later, plain]
            calls, later = [], []
    return [*events, *sorted(calls, key=_by_call), *later]


def differences(one: Path, other: Path, *workspaces: Path) -> list[str]:
    """How the journals of two run folders differ, as a diff; empty when they do not.

    workspaces: of the one and of the other, where these are not the same.
    """
    places = [*workspaces] or [None, None]
    texts = [
        [json.dumps(event, sort_keys=True) for event in normalised(folder, place)]
        for folder, place in zip((one, other), places, strict=True)
    ]
    return list(difflib.unified_diff(*texts, str(one), str(other), lineterm="", n=1))


def _by_call(event: dict[str, Any]) -> str:
    # The events of one call keep their order: the sort is stable.
    return str(event["call"])


def _without(event: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in event.items() if name not in DROPPED}
    if isinstance(kept.get("settings"), dict):
        kept["settings"] = _without(kept["settings"])
    return kept


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, str):
        for name, stands in names.items():
            value = value.replace(name, stands)
    return value
