"""The tables of sandbox/README.md and ipc/README.md say what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import CHECKOUT
from sandbox_agent_ipc import channel, messages
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.inside.worker import send_result
from sandbox_agent_sandbox.outcome import Outcome, Rung
from sandbox_agent_sandbox.policy.fields.units import parse_count, parse_duration, parse_size
from sandbox_agent_sandbox.policy.policy import EnvPolicy, Limits, Policy, Strict

SANDBOX = CHECKOUT / "sandbox" / "README.md"
IPC = CHECKOUT / "ipc" / "README.md"
READ = {"float": parse_duration, "int": parse_size}
COUNTS = {"processes", "open_files"}


def table(readme: Path, *head: str) -> dict[str, list[str]]:
    """The rows below such a head: the first cell -> the others, without backquotes."""
    lines = readme.read_text().splitlines()
    at = lines.index(f"| {' | '.join(head)} |") + 2
    rows = {}
    for line in lines[at:]:
        if not line.startswith("|"):
            break
        first, *rest = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        rows[first] = rest
    return rows


def fields(model: type[Strict], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every field of the policy by its dotted name, with its default."""
    for name, field in model.model_fields.items():
        shown = prefix + (field.alias or name)
        if field.annotation in (EnvPolicy, Limits):
            yield from fields(field.annotation, f"{shown}.")
        else:
            yield shown, field.default


def message_kinds() -> set[type[messages.Message]]:
    kinds = {kind for kind in vars(messages).values() if isinstance(kind, type)}
    return {kind for kind in kinds if issubclass(kind, messages.Message)} - {messages.Message}


def test_every_field_of_the_policy_is_listed_with_its_default() -> None:
    rows = table(SANDBOX, "field", "default", "meaning")
    found = {name: cells[0] for name, cells in rows.items()}
    defaults = dict(fields(Policy))
    assert found.keys() == defaults.keys()
    for name, default in defaults.items():
        text = found[name]
        if default is None:
            assert text == "null", name
        elif isinstance(default, bool):
            assert text == str(default).lower(), name
        elif isinstance(default, str | list | dict):
            assert text == str(default), name
        elif name.removeprefix("limits.") in COUNTS:
            assert parse_count(text) == default, name
        else:
            assert READ[type(default).__name__](text) == default, name


def test_every_outcome_rung_and_reason_is_listed() -> None:
    outcomes = table(SANDBOX, "outcome", "meaning")
    assert outcomes.keys() == {outcome.value for outcome in Outcome}
    rungs = table(SANDBOX, "rung", "what happens")
    assert [name for name in rungs if name in set(Rung)] == [rung.value for rung in Rung]
    reasons = table(IPC, "reason", "code", "cause")
    assert {name: int(cells[0]) for name, cells in reasons.items()} == {
        reason.value: reason.code for reason in CancelReason
    }


def test_every_message_is_listed_on_its_channel() -> None:
    rows = table(IPC, "from, to", "channel", "messages")
    listed = {name for cells in rows.values() for name in re.findall(r"\b[A-Z]\w+\b", cells[-1])}
    assert listed == {kind.__name__ for kind in message_kinds()}


@pytest.mark.parametrize(
    ("readme", "text"),
    [
        (IPC, f"at most {messages.MAX_MESSAGE >> 20} MiB"),
        (IPC, f"longer than {send_result.PIECE >> 10} Ki characters"),
        (IPC, f"at most {messages.MAX_RESULT >> 20} MiB"),
        (IPC, f"at most {channel.MAX_DATAGRAM >> 10} KiB"),
        (IPC, f"at most {channel.MAX_DESCRIPTORS} descriptors"),
        (IPC, f"more than {channel.INLINE_BODY >> 10} KiB travel in a memfd"),
        (SANDBOX, f"{Deadlines().open:g} s to build a sandbox"),
        (SANDBOX, f"{Deadlines().start:g} s to make a call's processes"),
        (SANDBOX, f"{Deadlines().describe:g} s to import the tools' modules"),
        (SANDBOX, f"{Deadlines().serve:g} s until a session serves"),
        (SANDBOX, f"not proven {Deadlines().finish:g} s after the result"),
        (SANDBOX, f"If it is not after {Deadlines().proof:g} s"),
    ],
)
def test_the_numbers_are_those_of_the_code(readme: Path, text: str) -> None:
    assert text in readme.read_text()


def test_every_message_is_a_frozen_struct() -> None:
    assert len(message_kinds()) > 10
    assert all(kind.__struct_config__.frozen for kind in message_kinds())
