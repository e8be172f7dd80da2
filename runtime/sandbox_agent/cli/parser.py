"""The arguments of every verb. Imports only argparse and the exit codes: `--help` must be quick."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from sandbox_agent.exit_codes import EXEC_CODES, RUN_CODES, ExitCode, listing

Verb = Callable[[argparse.Namespace, Any, Any], int]


class UsageError(Exception):
    """Parsing ended without a verb: help was asked for (code 0), or the usage is wrong."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


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


class _Formatter(argparse.HelpFormatter):
    """Keeps the lines of a text that has several, such as the list of exit codes."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _Store(argparse.Action):
    """Stores a value. Refuses an empty one, which is a variable of a script that is not set, and
    the second value of an option, since the first one would have no effect."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        if values == "" and self.nargs != argparse.REMAINDER:
            raise argparse.ArgumentError(self, "is empty; give a value, or leave it out")
        if option is not None and getattr(namespace, self.dest, None) is not self.default:
            raise argparse.ArgumentError(self, "is given twice; remove one of them")
        setattr(namespace, self.dest, values)


class _File(_Store):
    """The file of -o. `-` means standard output elsewhere."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        if values == "-":
            raise argparse.ArgumentError(
                self, "standard output gets the message anyway; leave it out, or write ./-"
            )
        super().__call__(parser, namespace, values, option)


class _Either(argparse.BooleanOptionalAction):
    """`--x` or `--no-x`, and not both."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None)
        super().__call__(parser, namespace, values, option)
        if before not in (None, getattr(namespace, self.dest)):
            raise argparse.ArgumentError(self, "are both given; remove one of them")


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that neither prints nor exits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=_Formatter)
        self._printed = ""
        self.register("action", None, _Store)
        self.register("action", "store", _Store)

    def _print_message(self, message: str, file: object = None) -> None:
        self._printed += message or ""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(status, self._printed + (message or ""))

    def error(self, message: str) -> NoReturn:
        raise UsageError(
            ExitCode.USAGE,
            f"{self.format_usage()}{self.prog}: {message}\n  hint: see {self.prog} --help\n",
        )


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # here, because its import is slow

        raise UsageError(0, f"sandbox-agent {version('sandbox-agent-runtime')}\n")


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


def _build() -> _Parser:
    parser = _Parser(
        prog="sandbox-agent",
        description="Runs an agent's tool calls in sandboxed processes, and stops them.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    def verb(name: str, summary: str, description: str = "", epilog: str = "") -> _Parser:
        description = description or f"{summary[0].upper()}{summary[1:]}."
        added: _Parser = verbs.add_parser(
            name, help=summary, description=description, epilog=epilog
        )
        added.set_defaults(module=name)
        return added

    for add in (_run, _resume, _cancel, _exec, _validate, _schema, _init, _doctor):
        add(verb)
    return parser


_AddVerb = Callable[..., _Parser]
"""Of the name of a verb, its summary, and if wanted its description and epilog."""


def _task_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task", nargs="?", metavar="TASK", help="the task file (default: task.yaml)"
    )
    parser.add_argument(
        "--prompt", metavar="TEXT", help="what the agent is to do; - reads standard input"
    )
    parser.add_argument(
        "--model",
        metavar="M",
        help="a name of litellm (openai/gpt-4o), scripted:FILE, or replay:RUN. replay:RUN needs no "
        "TASK: it takes the settings of the recorded run. Where nothing names a model, it is "
        "SANDBOX_AGENT_MODEL",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="with replay:RUN: compare the results with the recorded ones, and stop at the first "
        "difference",
    )
    parser.add_argument("--workspace", metavar="D", help="the folder that the agent works in")
    parser.add_argument(
        "--var",
        metavar="K=V",
        action="append",
        default=[],
        help="a value for ${K} in the task file",
    )
    _set(parser)
    _grace(parser)
    parser.add_argument("--timeout", metavar="S", help="wall time of the run (budgets.time)")
    _out(parser)


def _set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="A.B=V",
        action="append",
        default=[],
        help="set a field of the task file, for example budgets.tokens=200k",
    )


def _grace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grace", metavar="S", help="the grace period: time from an interrupt to SIGTERM"
    )


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", help="the folder of run folders")


def _die_with_parent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--die-with-parent",
        action=_Either,
        default=None,
        help="interrupt the run when the parent process dies (default: if CI is set)",
    )


def _reporting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        action=_File,
        dest="message_file",
        metavar="FILE",
        help="write the final message to FILE too",
    )
    parser.add_argument(
        "--json", action="store_true", help="print events to standard output, one a line"
    )
    _die_with_parent(parser)


def _which_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="its id, the beginning of its id, its folder, or `last`"
    )
    _out(parser)


def _run(verb: _AddVerb) -> None:
    parser = verb("run", "run a task", epilog=listing(RUN_CODES))
    _task_arguments(parser)
    _reporting(parser)


def _resume(verb: _AddVerb) -> None:
    parser = verb(
        "resume",
        "continue a run",
        "Continue a run that was interrupted or paused, that failed or spent a budget, or whose "
        "agent was killed. The model is told which calls were in flight; they are not run again. "
        "Settings stay as they were, unless an option changes them. Budgets start again at zero.",
        listing(RUN_CODES),
    )
    _which_run(parser)
    parser.add_argument(
        "--prompt", metavar="TEXT", help="a new message to the agent; - reads standard input"
    )
    parser.add_argument("--model", metavar="M", help="another model, written as for run")
    _set(parser)
    _grace(parser)
    parser.add_argument("--timeout", metavar="S", help="wall time from now on (budgets.time)")
    _reporting(parser)


def _cancel(verb: _AddVerb) -> None:
    parser = verb(
        "cancel",
        "stop a run from another terminal",
        "Interrupt a run as Ctrl-C does, in whichever program it runs. Use it a second time to "
        f"skip the grace period. The run exits with {ExitCode.INTERRUPTED}.",
        "exit codes:\n"
        f"  {ExitCode.DONE}     the request was delivered; with --wait, the run has ended\n"
        f"  {ExitCode.FAILED}     the run is not active, or with --wait, has not ended in time\n"
        f"  {ExitCode.SURVIVORS}     with --wait, a process could not be stopped",
    )
    _which_run(parser)
    parser.add_argument("--wait", metavar="S", help="wait until the run has ended, at most S")


def _exec(verb: _AddVerb) -> None:
    parser = verb(
        "exec",
        "run one command in the sandbox",
        "Run one command in the sandbox, and exit with its exit code: 128+n if signal n ended it.",
        listing(EXEC_CODES),
    )
    parser.add_argument(
        "--workspace", metavar="D", help="the folder to work in (default: the current one)"
    )
    parser.add_argument("--policy", metavar="F", help="a YAML file with the fields of `sandbox`")
    parser.add_argument(
        "--timeout", metavar="S", help="wall time of the command (default: no limit)"
    )
    _grace(parser)
    _out(parser)
    _die_with_parent(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command")


def _validate(verb: _AddVerb) -> None:
    _task_arguments(
        verb(
            "validate",
            "check a task file",
            "Check a task file and the files that it names. Nothing is started.",
        )
    )


def _schema(verb: _AddVerb) -> None:
    verb("schema", "print the JSON Schema of task files")


def _init(verb: _AddVerb) -> None:
    parser = verb(
        "init",
        "write a demo project",
        "Write a small project with a failing test suite, and a task that fixes it.",
    )
    parser.add_argument(
        "name", nargs="?", default="demo", metavar="NAME", help="its folder (default: demo)"
    )


def _doctor(verb: _AddVerb) -> None:
    parser = verb(
        "doctor",
        "show what this host can enforce",
        epilog="exit codes:\n"
        f"  {ExitCode.DONE}     the sandbox works here\n"
        f"  {ExitCode.SANDBOX}     it does not",
    )
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
