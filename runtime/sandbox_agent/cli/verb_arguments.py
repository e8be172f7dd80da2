"""The arguments of each verb. Imports only argparse and the exit codes: `--help` must be quick."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from sandbox_agent.cli.argument_parser import Either, File, Parser, Two
from sandbox_agent.cli.templates import TEMPLATES
from sandbox_agent.exit_codes import EXEC_CODES, PRINT_CODES, RUN_CODES, ExitCode, listing

AddVerb = Callable[..., Parser]
"""Adds a verb: its name and summary, and if wanted its description, its epilog, and examples=, each
the words after `sandbox-agent`. See `parser.list_verbs`."""

AddsVerb = Callable[[AddVerb], None]
"""Adds one verb with its arguments."""


KINDS = {
    "junit": "write a JUnit XML file: a case for the run and one for each command of verify",
    "summary": "write a Markdown summary",
    "codequality": "write a Code Quality report of GitLab",
    "dotenv": "write variables for later jobs of GitLab: status, exit code, cost",
}
"""The kinds of report files: names of options, and of fields of `output`."""


def add_report_files(parser: argparse.ArgumentParser) -> None:
    """One option for each kind of report file."""
    for kind, what in KINDS.items():
        parser.add_argument(f"--{kind}", metavar="FILE", help=what)


def _task_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        nargs="?",
        metavar="TASK",
        help="a task file, a folder with a task.yaml, or a prompt: a text with spaces in quotes "
        "(default: task.yaml of the current folder)",
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
    _allow_home(parser)
    _allow_degraded(parser)
    parser.add_argument("--name", metavar="NAME", help="what to call the run (`show NAME`)")
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
    add_out(parser)
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="the folder of this run itself, new or empty, for example to keep it as an artifact",
    )


def _allow_home(parser: argparse.ArgumentParser, also: str = "; the task file says so too") -> None:
    parser.add_argument(
        "--allow-home",
        action="store_true",
        help=f"the workspace may be your home folder, or a folder above it{also}",
    )


def _allow_degraded(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-degraded",
        action="store_const",
        const=["all"],
        help="go on without what this host cannot enforce; it is said and recorded",
    )


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


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds --out."""
    parser.add_argument("--out", metavar="DIR", help="the folder of run folders")


def _die_with_parent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--die-with-parent",
        action=Either,
        default=None,
        help="interrupt the run when the parent process dies (default: if CI is set)",
    )


def _reporting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        action=File,
        dest="message_file",
        metavar="FILE",
        help="write the final message to FILE too",
    )
    parser.add_argument(
        "--json", action="store_true", help="print events to standard output, one a line"
    )
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours in the progress (default: at a terminal, unless NO_COLOR is set)",
    )
    much = parser.add_mutually_exclusive_group()
    much.add_argument(
        "--quiet", action="store_true", help="no progress: only the message, warnings and errors"
    )
    much.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="more progress: what the model thinks, and what calls print that succeed",
    )
    add_report_files(parser)
    _die_with_parent(parser)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds RUN and --out."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="its name, its id, the beginning or the end of its id, its folder, or `last`",
    )
    add_out(parser)


def _run(verb: AddVerb) -> None:
    parser = verb(
        "run",
        "run a task or a prompt",
        "Run a task: a file, a folder with a task.yaml, or a prompt. A prompt uses the task.yaml "
        "of the current folder, if there is one, and replaces its prompt.",
        listing(RUN_CODES),
        examples=(
            "run task.yaml",
            'run "Make the tests pass." --model openai/gpt-4o',
            "run --set budgets.tokens=200k --timeout 20m -o message.txt",
            "run --model replay:last --check",
        ),
    )
    _task_arguments(parser)
    _reporting(parser)


def _resume(verb: AddVerb) -> None:
    parser = verb(
        "resume",
        "continue a run",
        "Continue a run that was interrupted or paused, that failed or spent a budget, or whose "
        "agent was killed. The model is told which calls were in flight; they are not run again. "
        "Settings stay as they were, unless an option changes them. Budgets start again at zero.",
        listing(RUN_CODES),
        examples=(
            "resume last",
            'resume last --prompt "And update the changelog."',
            "resume 20261128T0024 --set budgets.turns=80",
        ),
    )
    add_run(parser)
    parser.add_argument(
        "--prompt", metavar="TEXT", help="a new message to the agent; - reads standard input"
    )
    parser.add_argument("--model", metavar="M", help="another model, written as for run")
    _set(parser)
    _grace(parser)
    parser.add_argument("--timeout", metavar="S", help="wall time from now on (budgets.time)")
    _allow_home(parser, "; the run had it too")
    _allow_degraded(parser)
    _reporting(parser)


def _cancel(verb: AddVerb) -> None:
    parser = verb(
        "cancel",
        "stop a run from another terminal",
        "Interrupt a run as Ctrl-C does, in whichever program it runs. Use it a second time to "
        f"skip the grace period. The run exits with {ExitCode.INTERRUPTED}.",
        "exit codes:\n"
        f"  {ExitCode.DONE}     the request was delivered; with --wait, the run has ended\n"
        f"  {ExitCode.FAILED}     the run is not active, or with --wait, has not ended in time\n"
        f"  {ExitCode.SURVIVORS}     with --wait, a process could not be stopped\n"
        f"  {ExitCode.USAGE}     {ExitCode.USAGE.sentence}",
        examples=("cancel last", "cancel last --wait 10s"),
    )
    add_run(parser)
    parser.add_argument("--wait", metavar="S", help="wait until the run has ended, at most S")


def _exec(verb: AddVerb) -> None:
    parser = verb(
        "exec",
        "run one command in the sandbox",
        "Run one command in the sandbox, and exit with its exit code: 128+n if signal n ended it.",
        listing(EXEC_CODES),
        examples=(
            "exec -- make test",
            "exec --policy policy.yaml --timeout 5m -- ./build.sh",
            "exec --ro-bind ~/data ~/data --setenv LEVEL 2 --chdir src -- ./build.sh",
        ),
    )
    parser.add_argument(
        "--workspace", metavar="D", help="the folder to work in (default: the current one)"
    )
    _allow_home(parser, "")
    _allow_degraded(parser)
    parser.add_argument("--policy", metavar="F", help="a YAML file with the fields of `sandbox`")
    _bwrap_flags(parser)
    parser.add_argument(
        "--timeout", metavar="S", help="wall time of the command (default: no limit)"
    )
    _grace(parser)
    add_out(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="do not say that the sandbox is not a full one"
    )
    _die_with_parent(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD", help="the command")


def _bwrap_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that have the names of bwrap(1). They win over --policy."""
    same = f"(exit code {ExitCode.USAGE} if DEST is another path)"
    parser.add_argument(
        "--ro-bind",
        action=Two,
        metavar=("SRC", "DEST"),
        help=f"let the command read SRC, and not write it {same}",
    )
    parser.add_argument(
        "--bind",
        action=Two,
        metavar=("SRC", "DEST"),
        help=f"let the command read and write SRC {same}",
    )
    parser.add_argument("--share-net", action="store_true", help="give it the host's network")
    parser.add_argument(
        "--setenv", action=Two, metavar=("VAR", "VALUE"), help="set a variable of its environment"
    )
    parser.add_argument("--chdir", metavar="DIR", help="its folder (default: the workspace)")


def _validate(verb: AddVerb) -> None:
    _task_arguments(
        verb(
            "validate",
            "check a task file",
            "Check a task file and the files that it names. Nothing is started.",
            listing(sorted([*PRINT_CODES, ExitCode.MODEL]), "the task can be run"),
            examples=("validate task.yaml", "validate task.yaml --var month=May"),
        )
    )


def _schema(verb: AddVerb) -> None:
    parser = verb(
        "schema",
        "print a schema",
        "Print the JSON Schema of task files, or the schema of what a run writes.",
        listing(PRINT_CODES, "the schema was printed"),
        examples=("schema > task.schema.json", "schema --journal"),
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--result", action="store_true", help="of result.json")
    kinds.add_argument("--journal", action="store_true", help="of a line of journal.jsonl")
    kinds.add_argument("--junit", action="store_true", help="of JUnit files: an XML Schema")


def _init(verb: AddVerb) -> None:
    shown = "\n".join(["templates:", *(f"  {name:<12} {what}" for name, what in TEMPLATES.items())])
    parser = verb(
        "init",
        "write a project to start from",
        "Write a small project with a task that runs at once: it needs no key, and nothing but "
        "Python's standard library.",
        f"{shown}\n\n{listing(PRINT_CODES, 'the project was written')}",
        examples=("init demo", "init review --template review-diff"),
    )
    parser.add_argument(
        "name", nargs="?", default="demo", metavar="NAME", help="its folder (default: demo)"
    )
    default = next(iter(TEMPLATES))
    parser.add_argument(
        "--template",
        metavar="T",
        choices=TEMPLATES,
        default=default,
        help=f"which project (default: {default})",
    )


def _doctor(verb: AddVerb) -> None:
    parser = verb(
        "doctor",
        "show what this host can enforce",
        "Try every field of a policy and every layer of the walls in a sandbox, and start one in "
        "the current folder as a run does. With --why, say why a path is not there inside, or is "
        "denied.",
        epilog="exit codes:\n"
        f"  {ExitCode.DONE}     the sandbox works here\n"
        f"  {ExitCode.USAGE}     {ExitCode.USAGE.sentence}\n"
        f"  {ExitCode.SANDBOX}     it does not work here",
        examples=("doctor", "doctor --json", "doctor --why ~/.ssh --policy policy.yaml"),
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--why", metavar="PATH", help="explain one path")
    parser.add_argument("--policy", metavar="F", help="a YAML file with the fields of `sandbox`")
    parser.add_argument(
        "--workspace", metavar="D", help="the folder of the run (default: the current one)"
    )


RUN_VERBS: tuple[AddsVerb, ...] = (_run, _resume, _cancel, _exec)
SETUP_VERBS: tuple[AddsVerb, ...] = (_init, _validate, _schema, _doctor)
"""The verbs of a group of `--help` (`parser.GROUPS`), in its order."""
