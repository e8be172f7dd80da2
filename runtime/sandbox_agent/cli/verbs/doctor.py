"""`sandbox-agent doctor`: tries what this host can enforce."""

from __future__ import annotations

import argparse
import io

import msgspec
from sandbox_agent_sandbox.policy.probe import Check, probe

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.exit_codes import ExitCode


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints every check. Returns 5 if a check that the sandbox needs fails."""
    checks = probe()
    failed = [check for check in checks if check.needed and not check.ok]
    if arguments.json:
        console.out(msgspec.json.encode(checks).decode() + "\n")
    else:
        console.out(_table(checks))
        if failed:
            names = ", ".join(check.name for check in failed)
            console.out(f"\nThe sandbox cannot work here. Failed: {names}.\n")
        else:
            console.out("\nThis host can enforce every field of a policy.\n")
    return ExitCode.SANDBOX if failed else ExitCode.DONE


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
