"""The Markdown summary says what happened, and text from inside has no effect in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from reported import HOSTILE, report
from sandbox_agent.reports.ci.summary import block, code, summary
from sandbox_agent.reports.mask import Mask
from sandbox_agent_sandbox.outcome import Survivor

FENCE = re.compile("`{3,}")


def of(mask: Mask | None = None, **more: Any) -> str:
    return summary(report(**more), mask or Mask())


def test_a_run_that_is_done() -> None:
    assert of(verify=(("pytest -q", 0, "3 passed"),), reason="verify agrees") == (
        "## `task`: done\n"
        "\n"
        "|  |  |\n"
        "| --- | --- |\n"
        "| Run | `20261128T100000000-abcdef` |\n"
        "| Exit code | 0 |\n"
        "| Model | `scripted:steps.yaml` |\n"
        "| Turns | 2 |\n"
        "| Calls | 1 |\n"
        "| Time | 9.5 s |\n"
        "| Record | `/runs/agent-run` |\n"
        "\n"
        "### Verify\n"
        "\n"
        "| Command | Verdict | Why | Time |\n"
        "| --- | --- | --- | --- |\n"
        "| `pytest -q` | passed |  | 0.5 s |\n"
        "\n"
        "### Calls that did not end well\n"
        "\n"
        "| Call | What | Outcome | Why |\n"
        "| --- | --- | --- | --- |\n"
        "| `call_1_1` | `shell {'command': 'All done.'}` | error | `out` |\n"
        "\n"
        "### Final message\n"
        "\n"
        "```text\n"
        "All done.\n"
        "```\n"
    )


def test_a_failure_shows_its_last_lines_and_what_was_left() -> None:
    text = of(
        verify=(("pytest -q", 1, "\n".join(map(str, range(50)))),), status="failed", exit_code=7,
        reason="verify failed: pytest -q", survivors=(Survivor(42, "sleep 600"),),
    )  # fmt: skip
    assert text.startswith("## `task`: failed\n\n`failed: verify failed: pytest -q`\n")
    assert "| `pytest -q` | failed | `exit status 1` | 0.5 s |" in text
    assert "```text\n30\n31\n" in text and "\n29\n" not in text
    assert "| 42 | `sleep 600` |" in text


def test_a_run_whose_agent_was_killed() -> None:
    text = of(status=None)
    assert text.startswith("## `task`: lost\n\n`lost: the agent was killed")
    assert "Exit code" not in text


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE + "x" * 10_000_000, "|" * 500, "`" * 500])
def test_hostile_text_stays_in_its_span_or_block(text: str) -> None:
    made = of(
        verify=((text[:300], 1, text),), status="failed", exit_code=1, reason=text, text=text,
        name=text[:100], output=text, workspace=text[:40], survivors=(Survivor(1, text[:300]),),
    )  # fmt: skip
    assert len(made) < 100_000
    outside: list[str] = []
    fence = ""
    for line in made.splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif found := FENCE.match(line.removesuffix("text")):
            fence = found[0] if line == f"{found[0]}text" else fence
        else:
            outside.append(without_spans(line))
    assert fence == "", "the last block is closed"
    assert not re.search(r"[<\[@&]|script|add-mask", "\n".join(outside))
    rows = [line for line in outside if line.startswith("|")]
    assert {line.count("|") for line in rows} <= {3, 5}
    for command in ("\n::", "##vso[", "##[", "section_start:", "\n--- x"):
        assert command not in made.replace("| --- ", "")


def without_spans(line: str) -> str:
    """A line without its code spans, as CommonMark 0.31 finds them (6.1)."""
    at, kept = 0, ""
    while (begun := re.compile("`+").search(line, at)) is not None:
        ended = re.compile(f"(?<!`){begun[0]}(?!`)").search(line, begun.end())
        if ended is None:
            return kept + line[at:]
        kept, at = kept + line[at : begun.start()], ended.end()
    return kept + line[at:]


def test_code_spans_and_blocks_hold_any_text() -> None:
    assert code("a | b", Mask()) == r"`a \| b`"
    assert code("`a`", Mask()) == "`` `a` ``"
    assert code("", Mask()) == ""
    assert block(["a", "````"]) == ["`````text", "a\n````", "`````"]


def test_secrets_are_masked() -> None:
    secret = "s3cret-value-1"
    made = of(
        Mask([secret]), verify=((f"run {secret}", 1, secret),), status="failed", exit_code=1,
        reason=secret, text=f"{'y' * 150} {secret}", output=f"{'x' * 155} {secret}", name=secret,
    )  # fmt: skip
    assert "s3c" not in made and made.count("***") > 4
