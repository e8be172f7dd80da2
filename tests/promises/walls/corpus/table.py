"""The classes of the corpus, and who can try what."""

from __future__ import annotations

import importlib
from types import ModuleType

from identity import Person

from . import known
from .attempt import Attempt
from .trial import Result

CLASSES = {
    "reading": "secrets",
    "processes": "other processes",
    "view": "the view",
    "kernel": "kernel surfaces",
    "sockets": "sockets of every family",
    "planting": "planting and renaming",
    "bombs": "bombs",
    "leftovers": "leftovers",
    "terminal": "the terminal",
}
"""Each class by its file, and its name for people."""

EXPECTED = known.NO_WALL.keys() | known.OPEN.keys()


def module(name: str) -> ModuleType:
    return importlib.import_module(f"walls.corpus.{name}")


def full(name: str, result: Result) -> str:
    return f"{name}.{result.attempt.name}"


def possible(name: str, person: Person) -> list[Attempt]:
    """The attempts of a class that succeed for this person here without a sandbox."""
    kind = "user" if person.uid else "root"
    return [one for one in module(name).ATTEMPTS if kind in one.persons and not one.needs()]
