"""From the command line to its verb. The module of a verb is imported when it is used, and only the
arguments of that verb are built: `--help` must be quick, however many verbs there are."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from sandbox_agent import lean_imports
from sandbox_agent.cli.argument_parser import Parser, UsageError, Version, looks_like_option
from sandbox_agent.cli.find_arguments import FIND_VERBS
from sandbox_agent.cli.verb_arguments import RUN_VERBS, SETUP_VERBS, AddsVerb
from sandbox_agent.exit_codes import RUN_CODES, ExitCode, listing

Verb = Callable[[argparse.Namespace, Any, Any], int]

GROUPS: tuple[tuple[str, tuple[AddsVerb, ...]], ...] = (
    ("run and stop", RUN_VERBS),
    ("find and read runs", FIND_VERBS),
    ("set up and check", SETUP_VERBS),
)
"""The groups of `--help` in their order, and for each verb the function that adds it."""

_PROGRAM = "sandbox-agent"
_VERBS = "sandbox_agent.cli.verbs"
_EXEC = f"{_VERBS}.exec"
_RUNS = (f"{_VERBS}.run", f"{_VERBS}.resume")
_EXAMPLES = (
    "init demo",
    "run demo/task.yaml",
    'run "Make the tests pass." --model openai/gpt-4o',
    "resume last",
    "exec -- make test",
)
OTHER_NAMES = {
    "run": ("start", "do"),
    "cancel": ("stop", "kill", "interrupt"),
    "resume": ("continue", "restart"),
    "ls": ("list", "ps", "status", "runs", "history"),
    "show": ("view", "cat", "inspect"),
    "compare": ("diff",),
    "rm": ("remove", "delete"),
    "prune": ("clean", "gc"),
    "validate": ("check", "lint"),
    "init": ("new", "create"),
}
"""What verbs are called in other programs: a hint for who types one of these."""


class Arguments:
    """A parsed command. failed_code: what it exits with after an error; None for the error's own
    code. bug_code: what it exits with after a bug in sandbox-agent."""

    def __init__(
        self, values: argparse.Namespace, module: str, failed_code: int | None, bug_code: int
    ) -> None:
        self.values = values
        self.module = module
        self.failed_code = failed_code
        self.bug_code = bug_code

    def verb(self) -> Verb:
        """The function of the verb. Imports the verb's module."""
        # Here, since the other verbs need what is left out.
        if self.module == _EXEC:
            lean_imports.import_for_exec()
        elif self.module in _RUNS:
            lean_imports.import_for_run()
        verb: Verb = import_module(self.module).main
        return verb


def parse(argv: Sequence[str]) -> Arguments:
    """The command that `argv` asks for. Raises UsageError.

    Without a verb the help is an error: a script whose variable is empty must not succeed.
    """
    words = _help_as_option(argv)
    if not words:
        raise UsageError(ExitCode.USAGE, program_parser().format_help())
    name = words[0]
    if looks_like_option(name):
        _refuse_option(words)
    verbs = list_verbs(name)
    if name not in verbs.parsers:
        _refuse_verb(words, verbs)
    try:
        values = verbs.parsers[name].read(words[1:])
    except UsageError as error:
        if error.code and name == "exec":
            raise UsageError(ExitCode.EXEC_FAILED, error.text) from None
        raise
    values.verb = name
    module = f"{_VERBS}.{values.module}"
    if module == _EXEC:
        return Arguments(values, module, ExitCode.EXEC_FAILED, ExitCode.EXEC_FAILED)
    return Arguments(values, module, None, ExitCode.INTERNAL)


class Verbs:
    """The verbs: name and summary by group, and the parsers of those that were built."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, str]] = {}
        self.parsers: dict[str, Parser] = {}

    @property
    def names(self) -> list[str]:
        return [name for group in self.groups.values() for name in group]

    def lines(self) -> str:
        """The groups with their verbs, for `--help`."""
        width = max(map(len, self.names))
        lines = []
        for title, group in self.groups.items():
            lines += ["", f"{title}:"]
            lines += [f"  {name:<{width}}  {summary}" for name, summary in group.items()]
        return "\n".join(lines)


class _OnlyListed(Exception):
    """Leaves the function that adds a verb: only the verb's name is wanted, not its arguments."""


def list_verbs(wanted: str | None) -> Verbs:
    """All verbs. wanted: the one whose parser is built; None builds all."""
    verbs = Verbs()
    for title, functions in GROUPS:
        group = verbs.groups.setdefault(title, {})

        def add(
            name: str,
            summary: str,
            description: str = "",
            epilog: str = "",
            *,
            examples: Sequence[str] = (),
            group: dict[str, str] = group,
        ) -> Parser:
            group[name] = summary
            if wanted not in (None, name):
                raise _OnlyListed
            parser = Parser(
                prog=f"{_PROGRAM} {name}",
                description=description or f"{summary[0].upper()}{summary[1:]}.",
                epilog=_below(examples, epilog),
            )
            parser.set_defaults(module=name)
            verbs.parsers[name] = parser
            return parser

        for function in functions:
            try:
                function(add)
            except _OnlyListed:
                continue
    return verbs


def program_parser() -> Parser:
    """The parser of what stands without a verb: `--help` and `--version`."""
    codes = (
        f"{listing(RUN_CODES)}\n\n"
        f"These are the codes of `run` and `resume`; `{_PROGRAM} VERB --help` explains a verb and\n"
        f"lists its codes. Without a verb, this help is printed, and the exit code is "
        f"{ExitCode.USAGE}."
    )
    parser = Parser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} VERB [ARGUMENTS]",
        description="Runs an agent's tool calls in sandboxed processes, and stops them.\n"
        + list_verbs("").lines(),
        epilog=_below(_EXAMPLES, codes),
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    return parser


def _below(examples: Sequence[str], epilog: str) -> str:
    """What stands below the options of a help: the examples and the exit codes."""
    shown = "\n".join(["examples:", *(f"  {_PROGRAM} {example}" for example in examples)])
    return "\n\n".join(part for part in (shown if examples else "", epilog) if part)


def _help_as_option(argv: Sequence[str]) -> list[str]:
    """`help VERB` is `VERB --help`, as other programs have it."""
    words = list(argv)
    return [*words[1:2], "--help"] if words[:1] == ["help"] else words


def _refuse_option(words: Sequence[str]) -> NoReturn:
    """Prints the help or the version, or says what is wrong with an option before the verb."""
    parser, names = program_parser(), list_verbs("").names
    after = next((word for word in words[1:] if word in names), None)
    option = words[0].partition("=")[0]
    if after is not None and not parser.knows(option):
        parser.refuse(
            f"{words[0]}: there is no such option before the verb",
            f"options come after the verb; see {_PROGRAM} {after} --help",
        )
    if not parser.knows(option) and list_verbs("run").parsers["run"].knows(option):
        parser.refuse(f"{option}: the verb is missing", f"did you mean {_PROGRAM} run {option}?")
    parser.read(words)
    raise UsageError(ExitCode.USAGE, parser.format_help())


def _refuse_verb(words: Sequence[str], verbs: Verbs) -> NoReturn:
    import shlex

    from sandbox_agent_sandbox.nearest import did_you_mean

    from sandbox_agent.reports.escape import one_line

    word = words[0]
    if any(character.isspace() for character in word) or os.path.lexists(word.replace("\0", "")):
        hint = f"did you mean {_PROGRAM} run {shlex.quote(one_line(word, 60))}?"
    else:
        known = [*verbs.names, "--help", "--version"]
        meant = next((verb for verb, others in OTHER_NAMES.items() if word in others), word)
        hint = did_you_mean(meant, known) or f"the verbs are {', '.join(verbs.names)}"
    program_parser().refuse(f"{word}: there is no such verb", hint)
