"""From the command line to its verb. The module of a verb is imported when it is used."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from sandbox_agent.cli.argument_parser import Parser, UsageError, Version
from sandbox_agent.cli.find_arguments import ADD_FIND_VERBS
from sandbox_agent.cli.verb_arguments import ADD_VERBS
from sandbox_agent.exit_codes import ExitCode

Verb = Callable[[argparse.Namespace, Any, Any], int]


class Arguments(NamedTuple):
    """A parsed command. failed_code: what it exits with after an error; None for the error's own
    code. bug_code: what it exits with after a bug in sandbox-agent."""

    values: argparse.Namespace
    module: str
    failed_code: int | None
    bug_code: int

    def verb(self) -> Verb:
        """The function of the verb. Imports the verb's module."""
        verb: Verb = import_module(self.module).main
        return verb


def parse(argv: Sequence[str]) -> Arguments:
    """The command that `argv` asks for. Raises UsageError."""
    try:
        values = _build().parse_args(argv)
    except UsageError as error:
        if error.code and list(argv[:1]) == ["exec"]:
            raise UsageError(ExitCode.EXEC_FAILED, error.text) from None
        raise
    module = f"sandbox_agent.cli.verbs.{values.module}"
    if values.verb == "exec":
        return Arguments(values, module, ExitCode.EXEC_FAILED, ExitCode.EXEC_FAILED)
    return Arguments(values, module, None, ExitCode.INTERNAL)


def _build() -> Parser:
    parser = Parser(
        prog="sandbox-agent",
        description="Runs an agent's tool calls in sandboxed processes, and stops them.",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)

    def verb(name: str, summary: str, description: str = "", epilog: str = "") -> Parser:
        description = description or f"{summary[0].upper()}{summary[1:]}."
        added: Parser = verbs.add_parser(name, help=summary, description=description, epilog=epilog)
        added.set_defaults(module=name)
        return added

    for add in (*ADD_VERBS, *ADD_FIND_VERBS):
        add(verb)
    return parser
