"""One wrong change of the product, and the tests that must fail for it."""

from __future__ import annotations

from dataclasses import dataclass

from broken_copy import Change

SANDBOX = "sandbox/sandbox_agent_sandbox"
RUNTIME = "runtime/sandbox_agent"


@dataclass(frozen=True)
class Mutant:
    """name: what is wrong. tests: as pytest takes them, relative to `tests/`. changes: (file, what
    stands there once, what comes instead)."""

    name: str
    tests: tuple[str, ...]
    changes: tuple[Change, ...]


def mutant(name: str, test: str, file: str, old: str, new: str) -> Mutant:
    """A mutant of one change. test: one or more, separated by spaces."""
    return Mutant(name, tuple(test.split()), ((file, old, new),))
