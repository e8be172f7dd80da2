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
