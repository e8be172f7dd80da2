"""Processes with litellm that files of tests share: its import takes seconds.

The files of one group run one after the other and in one process of pytest. With the last of them
the shared process ends, so other tests never find it below them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import groups
import pytest
from asker import KEYS, Asker
from providing import warm


class Shared:
    """What is open for a group of files."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._open: dict[object, Any] = {}

    def get(self, make: Callable[[], AbstractContextManager[Any]]) -> Any:
        if make not in self._open:
            self._open[make] = self._stack.enter_context(make())
        return self._open[make]

    def close(self) -> None:
        self._open.clear()
        self._stack.close()


_shared = Shared()


def _asker() -> Asker:
    return Asker(KEYS)


@pytest.fixture(scope="session")
def closed_at_the_end() -> Iterator[None]:
    yield
    _shared.close()


@pytest.fixture(scope="module")
def asker(closed_at_the_end: None) -> Asker:
    """`completion` with the real litellm, in a process of its own."""
    found: Asker = _shared.get(_asker)
    return found


@pytest.fixture(scope="module")
def warm_process(closed_at_the_end: None) -> None:
    """A model process that all conversations share, and the environment with keys."""
    _shared.get(warm)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    try:
        return (yield)
    finally:
        if nextitem is not None and groups.of(nextitem.nodeid) != groups.of(item.nodeid):
            _shared.close()
