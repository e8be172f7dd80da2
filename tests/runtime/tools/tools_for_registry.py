"""Functions that tests/runtime/tools/test_registry.py hands over as tools."""

from __future__ import annotations

from sandbox_agent import CancelToken, tool


@tool
def greet(name: str, token: CancelToken) -> str:
    """Greets somebody."""
    return f"hello {name}"


@tool(name="shell")
def not_the_shell() -> None:
    """Has the name of a built-in one."""


def everything(*things: str) -> None:
    """Has a signature that no model can be told of."""


nameless = lambda: None  # noqa: E731


class Store:
    """Has methods of every kind."""

    def add(self, a: int) -> int:
        """Adds."""
        return a

    @staticmethod
    def size() -> int:
        """Says how large it is."""
        return 0

    @classmethod
    def kind(cls) -> str:
        """Says what it is."""
        return cls.__name__


def unlike() -> None:
    """Was replaced under its name, as a decorator may do."""


undecorated = unlike


def unlike() -> None:  # type: ignore[no-redef]
    """Stands under the name."""
