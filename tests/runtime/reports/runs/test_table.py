"""The list of runs as a table: aligned, escaped, and as wide as the terminal."""

from __future__ import annotations

import msgspec
from made_runs import AT, HOSTILE, ID
from sandbox_agent.reports.runs.summary import Summary
from sandbox_agent.reports.runs.table import table

RUN = Summary(
    run=ID, status="done", folder="/runs", name="fix", model="openai/gpt-4o", begun=AT, turns=12,
    cost_usd=0.0123,
)  # fmt: skip
NOW = 1795860000.0 + 3 * 3600
LOST = msgspec.structs.replace(RUN, status="lost", name=None, cost_usd=None, turns=None, begun=None)


def test_columns_are_aligned_and_what_is_not_known_is_a_dash() -> None:
    lines = table([RUN, LOST], NOW).splitlines()
    assert lines[0].split() == ["RUN", "STATUS", "TURNS", "COST", "AGE", "MODEL", "NAME"]
    assert lines[1].split() == [ID, "done", "12", "$0.0123", "3h", "openai/gpt-4o", "fix"]
    assert lines[2].split() == [ID, "lost", "-", "-", "-", "openai/gpt-4o", "-"]
    at = lines[0].index("MODEL")
    assert all(line[at:].startswith("openai") for line in lines[1:])


def test_a_local_model_is_shown_by_its_file() -> None:
    local = msgspec.structs.replace(RUN, model="scripted:/home/you/steps.yaml")
    assert "  scripted:steps.yaml  fix" in table([local], NOW)


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    for width in (120, 80, 60, 40, 26, 10):
        lines = table([RUN, LOST], NOW, width).splitlines()
        assert all(len(line) <= width for line in lines)
        assert len(lines) == 3
    long = msgspec.structs.replace(
        RUN, status="interrupted", model="openrouter/anthropic/claude-sonnet", name="n" * 30
    )
    heading, line = table([long], NOW, 80).splitlines()
    assert heading.split() == ["RUN", "STATUS", "TURNS", "COST", "AGE", "MODEL", "NAME"]
    assert line.split()[0] == ID[-6:] and ".." in line.split()[-2]
    assert table([RUN], NOW, 200).splitlines()[1].startswith(ID)
    heading = table([RUN], NOW, 40).splitlines()[0]
    assert heading.split() == ["RUN", "STATUS", "TURNS", "AGE", "NAME"]


def test_hostile_names_are_one_escaped_cell() -> None:
    odd = msgspec.structs.replace(RUN, name=HOSTILE, model="x\ny" * 5000, status="\x1b[2J")
    text = table([odd], NOW)
    assert len(text.splitlines()) == 2
    assert not set(text) & set("\x1b\0\x07\x9b\u202e\u2028")
    assert "\\x1b" in text
