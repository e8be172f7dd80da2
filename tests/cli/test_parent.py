"""A variable that switches something on."""

from __future__ import annotations

import pytest
from sandbox_agent.cli.console import is_on
from sandbox_agent.cli.parent import wanted


@pytest.mark.parametrize(
    ("value", "on"),
    [
        (None, False), ("", False), ("0", False), ("false", False), ("FALSE", False),
        ("no", False), ("off", False), (" ", False), ("1", True), ("true", True), ("github", True),
    ],
)  # fmt: skip
def test_a_word_that_means_no_switches_nothing_on(
    monkeypatch: pytest.MonkeyPatch, value: str | None, on: bool
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if value is not None:
        monkeypatch.setenv("CI", value)
    assert is_on("CI") == on
    assert wanted(None) == on
    assert wanted(True) and not wanted(False)
