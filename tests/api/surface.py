"""The public surface of the product, read from the running product.

A surface has sections. A section is a flat mapping with an entry for each thing that a program can
depend on: "Conversation.interrupt(exit_code)" -> "keyword: int | None = None". Annotations are the
source's own text, so the entries are the same under every supported Python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import msgspec
from sandbox_agent.tools.built_in import BUILT_IN
from sandbox_agent_sandbox.inside.worker.signature import describe

from api.python import public_names, stable
from api.schema import Entries, fields

Surface = dict[str, Entries]


def read() -> Surface:
    """The surface of the product that this process imports."""
    surface = {
        "python": dict(public_names()),
        "task file": fields(task_schema()),
        "journal": fields(journal_schema()),
        "result.json": fields(result_schema()),
        "exit codes": exit_codes(),
        "commands": dict(commands()),
    }
    read_again: Surface = json.loads(json.dumps(surface))  # a tuple is a list, as in the file
    return read_again


def built_in_tools() -> bytes:
    """What a model is told of each built-in tool, as `sandbox_agent.tools.built_in` reads it."""
    specs = [
        describe(getattr(import_module(one.module), one.qualname), one)
        for functions in BUILT_IN.values()
        for one in functions
    ]
    return msgspec.json.format(msgspec.json.encode(specs), indent=1) + b"\n"


def task_schema() -> Any:
    """As the command prints it."""
    command = [sys.executable, "-m", "sandbox_agent", "schema"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def journal_schema() -> Any:
    from sandbox_agent.journal.events import AnyEvent

    return msgspec.json.schema(AnyEvent)


def result_schema() -> Any:
    from sandbox_agent.journal.result_file import Record

    return msgspec.json.schema(Record)


def exit_codes() -> Entries:
    """What each code is called, and which one each status has."""
    from sandbox_agent.exit_codes import ExitCode
    from sandbox_agent.journal.status import EXIT_CODES

    entries: Entries = {str(code.value): code.name for code in ExitCode}
    return entries | {f"status {status.value}": int(code) for status, code in EXIT_CODES.items()}


def commands() -> Iterator[tuple[str, str]]:
    """Verbs, options and arguments of the command line."""
    from sandbox_agent.cli.parser import list_verbs, program_parser

    yield from _options("", program_parser())
    for name, parser in list_verbs(None).parsers.items():
        yield name, "command"
        yield from _options(name, parser)


def _options(verb: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            value = "" if action.nargs == 0 else f" {action.metavar or action.dest}"
            choices = f" of {sorted(action.choices)}" if action.choices else ""
            default = "" if action.default is None else f" = {stable(action.default)}"
            needed = ", required" if action.required else ""
            for name in action.option_strings or [action.dest]:
                kind = "option" if action.option_strings else f"argument {action.nargs or 1}"
                yield f"{verb} {name}".strip(), f"{kind}{value}{choices}{default}{needed}"
