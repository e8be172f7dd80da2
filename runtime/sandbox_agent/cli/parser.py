"""The arguments of every verb. Imports argparse only: `--help` is to be quick."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

OURS = 125
"""What `exec` exits with for all that goes wrong on our side, as docker(1) and timeout(1) do."""

Verb = Callable[[argparse.Namespace, Any, Any], int]


class UsageError(Exception):
    """Parsing is over without a verb: help was asked for (code 0), or the usage is wrong."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Arguments:
    """A parsed command. failed_code: what it exits with for an error, None for the error's own.
    bug_code: the same for a bug of ours."""

    values: argparse.Namespace
    module: str
    failed_code: int | None
    bug_code: int

    def verb(self) -> Verb:
        """Its function. Here the verb's own imports happen."""
        verb: Verb = import_module(self.module).main
        return verb


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that neither prints nor exits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self._printed = ""

    def _print_message(self, message: str, file: object = None) -> None:
        self._printed += message or ""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(status, self._printed + (message or ""))

    def error(self, message: str) -> NoReturn:
        raise UsageError(
            2,
            f"{self.format_usage()}{self.prog}: {message}\n  hint: see {self.prog} --help\n",
        )


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # slow to import, hence here

        raise UsageError(0, f"sandbox-agent {version('sandbox-agent-runtime')}\n")


def parse(argv: Sequence[str]) -> Arguments:
    """The command that `argv` asks for. Raises UsageError."""
    try:
        values = _build().parse_args(argv)
    except UsageError as error:
        if error.code and list(argv[:1]) == ["exec"]:
            raise UsageError(OURS, error.text) from None
        raise
    module = f"sandbox_agent.cli.verbs.{values.module}"
    if values.verb == "exec":
        return Arguments(values, module, OURS, OURS)
    return Arguments(values, module, None, 70)


def _build() -> _Parser:
    parser = _Parser(
        prog="sandbox-agent",
        description="Runs an agent's tools in sandboxed processes, and stops them.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    _run(verbs.add_parser("run", help="run a task", description="Run a task."))
    _resume(
        verbs.add_parser(
            "resume",
            help="go on with a run",
            description="Go on with a run that was interrupted or paused, failed, spent a budget, "
            "or whose agent was killed. What was in flight then is told to the model, and is not "
            "run again. All is as it was, but for what is given here; budgets count anew. Exit "
            "codes as of run.",
        )
    )
    _cancel(
        verbs.add_parser(
            "cancel",
            help="stop a run from another terminal",
            description="Interrupt a run, whichever program it is part of, as Ctrl-C would; once "
            "more skips the grace period. The run exits with 130. Exit code: 0 when it was told, "
            "1 when it is not going, or not over after --wait; 7, with --wait, when something "
            "could not be stopped.",
        )
    )
    _exec(
        verbs.add_parser(
            "exec",
            help="run one command in the sandbox",
            description="Run one command in the sandbox. Exit code: the command's, 128+n when "
            "signal n ended it, 124 when its time was up, 125 for an error of ours, 126 or 127 "
            "when it cannot be executed or found.",
        )
    )
    _validate(
        verbs.add_parser(
            "validate",
            help="check a task file",
            description="Check a task file and what it names. Nothing is started.",
        )
    )
    schema = verbs.add_parser(
        "schema",
        help="print the JSON Schema of task files",
        description="Print the JSON Schema of task files.",
    )
    schema.set_defaults(module="schema")
    init = verbs.add_parser(
        "init",
        help="write a demo project",
        description="Write a small project with a failing test suite, and a task that mends it.",
    )
    init.add_argument("name", nargs="?", default="demo", metavar="NAME", help="folder (demo)")
    init.set_defaults(module="init")
    doctor = verbs.add_parser(
        "doctor",
        help="show what this host can enforce",
        description="Show what this host can enforce. Exit code 5 when the sandbox cannot work.",
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(module="doctor")
    return parser


def _die_with_parent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--die-with-parent",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="interrupt the run when the parent process dies (where CI is set)",
    )


def _task_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", nargs="?", metavar="TASK", help="task file (task.yaml)")
    parser.add_argument("--prompt", metavar="TEXT", help="what the agent is told; - reads stdin")
    parser.add_argument(
        "--model",
        metavar="M",
        help="as litellm names it (openai/gpt-4o), scripted:FILE, or replay:RUN, which needs no "
        "TASK: all is as the recorded run had it "
        "(SANDBOX_AGENT_MODEL when there is no TASK)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="with replay:RUN, compare the results with the recorded ones, and stop at the first "
        "that differs",
    )
    parser.add_argument("--workspace", metavar="D", help="the folder that the agent works in")
    parser.add_argument(
        "--var", metavar="K=V", action="append", default=[], help="value of ${K} in the task file"
    )
    parser.add_argument(
        "--set",
        metavar="A.B=V",
        action="append",
        default=[],
        help="set a field, as budgets.tokens=200k",
    )
    parser.add_argument("--grace", metavar="S", help="from an interrupt to SIGTERM")
    parser.add_argument("--timeout", metavar="S", help="wall time of the run (budgets.time)")
    parser.add_argument("--out", metavar="DIR", help="where run folders go (output.dir)")


def _run(parser: argparse.ArgumentParser) -> None:
    _task_arguments(parser)
    _reporting(parser)
    parser.set_defaults(module="run")


def _reporting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", dest="message_file", metavar="FILE", help="final message to FILE")
    parser.add_argument(
        "--json", action="store_true", help="events on stdout as they come, one a line"
    )
    _die_with_parent(parser)


def _which_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="its id, the beginning of it, its folder's path, or `last`"
    )
    parser.add_argument("--out", metavar="DIR", help="where run folders are")


def _resume(parser: argparse.ArgumentParser) -> None:
    _which_run(parser)
    parser.add_argument(
        "--prompt", metavar="TEXT", help="what more the agent is told; - reads stdin"
    )
    parser.add_argument("--model", metavar="M", help="another model, as for run")
    parser.add_argument(
        "--set",
        metavar="A.B=V",
        action="append",
        default=[],
        help="set a field, as budgets.tokens=200k",
    )
    parser.add_argument("--grace", metavar="S", help="from an interrupt to SIGTERM")
    parser.add_argument("--timeout", metavar="S", help="wall time from now on (budgets.time)")
    _reporting(parser)
    parser.set_defaults(module="resume")


def _cancel(parser: argparse.ArgumentParser) -> None:
    _which_run(parser)
    parser.add_argument("--wait", metavar="S", help="wait for its end, so long")
    parser.set_defaults(module="cancel")


def _validate(parser: argparse.ArgumentParser) -> None:
    _task_arguments(parser)
    parser.set_defaults(module="validate")


def _exec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workspace", metavar="D", help="folder to work in (the current one)")
    parser.add_argument("--policy", metavar="F", help="YAML file with the fields of `sandbox`")
    parser.add_argument("--timeout", metavar="S", help="wall time of the command (none)")
    parser.add_argument("--grace", metavar="S", help="from an interrupt to SIGTERM")
    parser.add_argument("--out", metavar="DIR", help="where run folders go")
    _die_with_parent(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command")
    parser.set_defaults(module="exec")
