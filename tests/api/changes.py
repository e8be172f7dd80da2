"""What differs between two surfaces, and what the CHANGELOG has to say about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.surface import Surface

ADDS, BREAKS = "Adds:", "Breaks:"

INPUTS = ("python", "task file", "commands")
"""Sections of what programs give. Where one has to give more than before, that breaks it."""


@dataclass(frozen=True)
class Change:
    """One entry that differs. lines: the kinds of CHANGELOG line that may name it."""

    section: str
    name: str
    what: str
    lines: tuple[str, ...]

    @property
    def spellings(self) -> set[str]:
        """How a line may name it: a parameter also by its function."""
        return {self.name, self.name.partition("(")[0].rstrip()}

    def __str__(self) -> str:
        return f"{self.section}: {self.name} {self.what}"


def changes(old: Surface, new: Surface) -> Iterator[Change]:
    """All that differs. What comes or goes together with what contains it is not listed apart."""
    for section in sorted({*old, *new}):
        before, after = old.get(section, {}), new.get(section, {})
        for name in sorted({*before, *after}):
            was, now = before.get(name), after.get(name)
            if was == now:
                continue
            if name not in after:
                if not any(one in before and one not in after for one in containers(name)):
                    yield Change(section, name, f"is gone (was: {was})", (BREAKS,))
            elif name not in before:
                if any(one in after and one not in before for one in containers(name)):
                    continue
                known = any(one in before for one in containers(name))
                lines = (BREAKS,) if known and section in INPUTS and is_required(now) else (ADDS,)
                yield Change(section, name, f"is new: {now}", lines)
            elif not (name.endswith(" (order)") and _only_longer(was, now)):
                yield Change(section, name, f"is now: {now} (was: {was})", (ADDS, BREAKS))


def containers(name: str) -> Iterator[str]:
    """Names that contain this one: "a.b(c)" is in "a.b" and "a"; "run --json" is in "run"."""
    while cut := max(name.rfind(one) for one in (".", "(", " ", "[")) + 1:
        name = name[: cut - 1].rstrip()
        yield name


def is_required(entry: Any) -> bool:
    if isinstance(entry, dict):
        return entry.get("required") is True
    return str(entry).endswith(", required")


def _only_longer(was: Any, now: Any) -> bool:
    """Whether an order of fields only has more of them: each has an entry of its own."""
    fields = iter(str(now).split(", "))
    return all(one in fields for one in str(was).split(", "))


def unsaid(found: list[Change], changelog: str) -> list[Change]:
    """The changes that no line of the CHANGELOG's newest version names."""
    named = {kind: set(_named(changelog, kind)) for kind in (ADDS, BREAKS)}
    return [one for one in found if not any(one.spellings & named[kind] for kind in one.lines)]


def newest(changelog: str) -> str:
    """The CHANGELOG's first section, with its heading."""
    found = re.search(r"^## .*?(?=^## |\Z)", changelog, re.M | re.S)
    return found[0] if found else ""


def _named(changelog: str, kind: str) -> Iterator[str]:
    """What the lines of a kind have in backticks. A line may go on, indented, in the next ones."""
    joined = re.sub(r"\n {2,}(?=\S)", " ", newest(changelog))
    for line in joined.splitlines():
        if line.removeprefix("- ").startswith(kind):
            for name in re.findall(r"`([^`]+)`", line):
                yield name.removeprefix("sandbox-agent ").removeprefix("sandbox_agent.")
