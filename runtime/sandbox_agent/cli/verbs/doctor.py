"""`sandbox-agent doctor`: tries what this host can enforce."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import msgspec
from sandbox_agent_sandbox.errors import SandboxError
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import Check, host_facts, probe

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.exit_codes import ExitCode


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints every check, and what tools in the current folder would not see. Returns 5 if a check
    that the sandbox needs fails."""
    checks = probe()
    notes = _notes()
    seen = "; ".join(notes) or "what the programs of $PATH need is visible"
    checks.append(Check("the view of tools here", not notes, seen, _HINT, needed=False))
    failed = [check for check in checks if check.needed and not check.ok]
    if arguments.json:
        console.out(msgspec.json.encode(checks).decode() + "\n")
    else:
        if notes:
            checks[-1] = msgspec.structs.replace(checks[-1], detail="see below")
        console.out(_table(checks))
        for note in notes:
            console.out(f"- {note}\n")
        if failed:
            names = ", ".join(check.name for check in failed)
            console.out(f"\nThe sandbox cannot work here. Failed: {names}.\n")
        else:
            console.out("\nThis host can enforce every field of a policy.\n")
    return ExitCode.SANDBOX if failed else ExitCode.DONE


_HINT = "name in sandbox.read what tools should see"


def _notes() -> tuple[str, ...]:
    """What a run in the current folder would be warned of."""
    try:
        return make_plan(Policy(), host_facts(), workspace=Path.cwd()).notes
    except (OSError, SandboxError):
        return ()  # the current folder cannot be a workspace; a run says why


def _table(checks: list[Check]) -> str:
    import rich.box
    import rich.console
    import rich.table
    import rich.text

    table = rich.table.Table(box=rich.box.SIMPLE)
    for heading in ("", "check", "found", "hint"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        state = "ok" if check.ok else "FAILED" if check.needed else "absent"
        cells = (state, check.name, check.detail, "" if check.ok else check.hint)
        # Text, so that a square bracket in an error message is not read as markup.
        table.add_row(*(rich.text.Text(cell) for cell in cells))
    # Rendered to plain text, which the writing thread of `Console` writes.
    rendered = io.StringIO()
    rich.console.Console(file=rendered, width=110, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in rendered.getvalue().splitlines()) + "\n"
