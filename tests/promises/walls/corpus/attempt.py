"""What a hostile attempt is. Standard library only: this file also runs inside the walls.

An attempt has an attack, which runs inside; a neighbour, the legitimate thing beside it, which also
runs inside and raises when it does not work; and a proof, which looks from outside whether the
attack succeeded. What the attack itself says never counts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Stage:
    """What an attack knows: the places and numbers of its stage, and none of the canaries."""

    name: str
    home: Path
    """The home folder of who starts the command."""
    work: Path
    """The workspace."""
    other: Path
    """A folder outside, which no policy names."""
    library: Path
    """A folder outside, which the policy names in `read`."""
    temporary: Path
    """A folder in the host's /tmp."""

    def __init__(self, facts: dict[str, Any], name: str) -> None:
        self.facts = facts
        self.endings: list[Callable[[], object]] = []
        self.name = name
        for key in ("home", "work", "other", "library", "temporary"):
            setattr(self, key, Path(facts[key]))

    def __getattr__(self, key: str) -> Any:
        return self.facts[key]

    @property
    def target(self) -> int:
        """The pid of a process outside that is there for this attempt alone."""
        return int(self.facts["targets"][self.name])

    @property
    def mark(self) -> str:
        """Digits for the arguments of a process that the attack starts."""
        return f"{self.facts['mark']}{self.facts['names'].index(self.name):03}"

    def later(self, ending: Callable[[], object]) -> None:
        """What the attack undoes once the proof has looked, where there is no sandbox to do it."""
        self.endings.append(ending)

    def take(self, data: bytes | str) -> None:
        """Puts loot into the workspace, where the proof looks for it."""
        with open(self.work / "loot" / self.name, "ab") as file:
            file.write(data.encode() if isinstance(data, str) else data)


Attack = Callable[[Stage], object]
Proof = Callable[[Any, str], bool]
"""What it gets is an `outside.Outside`, and the name of the attempt."""


@dataclass(frozen=True)
class Attempt:
    """name: that of the attack's function. persons: for whom it succeeds without a sandbox.

    held: its process stays until the proof has looked. after: the proof looks when the command has
    ended. needs: says what this host lacks for it, if it does. blind: written by its author from
    the promises and the public documentation alone, before reading the code of the walls. alone: it
    has a sandbox of its own, since it may bring down everything in it.
    """

    name: str
    says: str
    attack: Attack
    proof: Proof
    neighbour: Attack
    persons: tuple[str, ...] = ("root", "user")
    held: bool = False
    after: bool = False
    blind: bool = False
    alone: bool = False
    needs: Callable[[], str | None] = lambda: None


def attempt(
    attempts: list[Attempt], proof: Proof, neighbour: Attack, **more: Any
) -> Callable[[Attack], Attack]:
    """Adds the attack that it decorates, whose docstring says what is attempted."""

    def add(attack: Attack) -> Attack:
        name = attack.__name__  # type: ignore[attr-defined]
        says = (attack.__doc__ or "").strip().rstrip(".")
        attempts.append(Attempt(name, says, attack, proof, neighbour, **more))
        return attack

    return add


ROOT = ("root",)
USER = ("user",)


def another_user() -> str | None:
    """For `needs`: without a sandbox, the attempt would disturb what else the user of these tests
    does. Root's tests have users of their own."""
    return None if os.geteuid() == 0 else "the tests are not root's"


def lacking(*paths: str) -> Callable[[], str | None]:
    """For `needs`: files of the host that must be there."""

    def look() -> str | None:
        missing = [path for path in paths if not Path(path).exists()]
        return f"no {missing[0]}" if missing else None

    return look


def unless(paths: Iterable[tuple[str, str]]) -> Callable[[], str | None]:
    """For `needs`: (sysctl file, value that forbids it to everybody)."""

    def look() -> str | None:
        for path, value in paths:
            if Path(path).exists() and Path(path).read_text().strip() == value:
                return f"{path} is {value}"
        return None

    return look


if sys.platform != "linux":
    raise ImportError("Linux only")
