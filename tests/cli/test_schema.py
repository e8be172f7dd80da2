"""The schema accepts what the program accepts, and knows nothing that is not enforced."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox_agent", "schema"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def names(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from part.get("properties", {})
        for value in part.values():
            yield from names(value)
    elif isinstance(part, list):
        for value in part:
            yield from names(value)


def test_every_field_is_there_with_its_documentation(schema: dict[str, Any]) -> None:
    assert set(schema["properties"]) == {
        "version", "name", "prompt", "prompt_file", "model", "workspace", "tools", "sandbox",
        "interrupt", "budgets", "parallel", "verify", "output", "extends", "instructions",
        "agents_md", "spares",
    }  # fmt: skip
    # A description that is the same as that of what a `$ref` names stands there only.
    for name, field in schema["properties"].items():
        assert "description" in field or "$ref" in field, name
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"version", "model"}


def test_what_this_version_does_not_enforce_is_absent(schema: dict[str, Any]) -> None:
    absent = {"approval", "mcp", "secret", "allow"}
    assert not absent & set(names(schema))
    text = json.dumps(schema)
    for word in ("overlay", "litellm", "replay", "python"):
        assert f'"{word}"' not in text


def test_nothing_else_is_on_the_screen_when_it_goes_to_a_closed_pipe() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox_agent", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 128 + signal.SIGPIPE, "as of a command that SIGPIPE ends"
