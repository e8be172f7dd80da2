"""The arguments of the verbs that find a run again. Imports as little as `verb_arguments`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sandbox_agent.cli.argument_parser import Parser
from sandbox_agent.cli.verb_arguments import (
    AddsVerb,
    AddVerb,
    add_out,
    add_report_files,
    add_run,
)
from sandbox_agent.exit_codes import PRINT_CODES, listing


def _verb(
    add: AddVerb,
    name: str,
    summary: str,
    description: str,
    *,
    done: str,
    examples: Sequence[str],
) -> Parser:
    """done: what exit code 0 means."""
    parser = add(name, summary, description, listing(PRINT_CODES, done), examples=examples)
    parser.set_defaults(module=f"runs.{name}")
    return parser


def _json(parser: argparse._ActionsContainer, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def _ls(verb: AddVerb) -> None:
    parser = _verb(
        verb,
        "ls",
        "list the runs",
        "List the runs, the newest first: status, turns, cost, age, model and name. `lost` is a "
        "run whose agent was killed before its end; `resume` continues it.",
        done="the runs were listed",
        examples=("ls", "ls --status failed -n 5", "ls --json"),
    )
    parser.add_argument("--status", metavar="S", help="only runs of this status, such as failed")
    parser.add_argument("-n", dest="most", metavar="N", help="only the newest N")
    parser.add_argument("--all", action="store_true", help="also the commands of `exec`")
    _json(parser, "an object for each run, one a line,")
    add_out(parser)


def _show(verb: AddVerb) -> None:
    parser = _verb(
        verb,
        "show",
        "show a run",
        "Show a run: its conversation, its calls with outcome and time, verify, the limits that "
        "it has met, what could not be stopped, and its cost. Long outputs are shown by their "
        "last lines.",
        done="the run was shown",
        examples=("show last", "show nightly --html run.html"),
    )
    add_run(parser)
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--whole", action="store_true", help="longer outputs, and what the model thought"
    )
    _json(forms, "the run without its texts")
    forms.add_argument(
        "--html", metavar="FILE", help="write one HTML file, and print nothing; - prints it"
    )


def _logs(verb: AddVerb) -> None:
    parser = _verb(
        verb,
        "logs",
        "print what a run did and printed",
        "Print what happened in a run, with the whole output of its calls; with CALL, the output "
        "of that call alone.",
        done="the output was printed",
        examples=("logs last -f", "logs last call_1_1"),
    )
    add_run(parser)
    parser.add_argument("call", nargs="?", metavar="CALL", help="the id of a call, as call_1_1")
    parser.add_argument("-f", action="store_true", dest="follow", help="go on until the run ends")


def _compare(verb: AddVerb) -> None:
    parser = _verb(
        verb,
        "compare",
        "compare two runs",
        "Compare two runs: how they ended, what they used, their settings and their calls.",
        done="the comparison was printed",
        examples=("compare nightly last",),
    )
    parser.add_argument("run", metavar="RUN", help="a run, named as for show")
    parser.add_argument("other", metavar="OTHER", help="the other run")
    _json(parser, "the comparison")
    add_out(parser)


def _rm(verb: AddVerb) -> None:
    parser = _verb(
        verb,
        "rm",
        "remove runs",
        "Remove runs: their journals, records and outputs. A run that is going is not removed, and "
        "a name that several runs have is refused.",
        done="the runs were removed",
        examples=("rm 20261128T0024", "rm nightly"),
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run, named as for show")
    add_out(parser)


def _report(verb: AddVerb) -> None:
    parser = verb(
        "report",
        "write the reports of a run",
        "Write the reports of a run from its journal, also of one whose agent was killed. Without "
        "an option, print the Markdown summary.",
        listing(PRINT_CODES, "the reports were written, however the run ended"),
        examples=("report agent-run --junit junit.xml", "report last > summary.md"),
    )
    add_run(parser)
    add_report_files(parser)


def _prune(verb: AddVerb) -> None:
    parser = _verb(
        verb,
        "prune",
        "remove old runs",
        "Remove the runs, and the commands of `exec`, whose last event is older than --keep.",
        done="old runs were removed, or there are none",
        examples=("prune --keep 30d --dry-run", "prune --keep 30d"),
    )
    parser.add_argument(
        "--keep", metavar="TIME", required=True, help="remove nothing younger, for example 30d"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    add_out(parser)


FIND_VERBS: tuple[AddsVerb, ...] = (_ls, _show, _logs, _compare, _report, _rm, _prune)
"""Each adds its verb, in the order of `--help`."""
