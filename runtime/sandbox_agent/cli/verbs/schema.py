"""`sandbox-agent schema`: the schemas of task files and of what a run writes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def task_schema() -> dict[str, Any]:
    """The schema of task files. Its descriptions are the docstrings of the pydantic models."""
    from sandbox_agent.config.task import Task

    schema = Task.model_json_schema(by_alias=True)
    schema["$schema"] = _DIALECT
    schema["title"] = "sandbox-agent task"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "A task file that this one extends. Fields of this file take precedence.",
    }
    return schema


def result_schema() -> dict[str, Any]:
    """The schema of result.json."""
    from sandbox_agent.journal.result_file import Record

    return _of(Record, "sandbox-agent result")


def journal_schema() -> dict[str, Any]:
    """The schema of each line of journal.jsonl."""
    from sandbox_agent.journal.events import AnyEvent

    return _of(AnyEvent, "sandbox-agent journal: a line")


def _of(kind: Any, title: str) -> dict[str, Any]:
    import msgspec

    return {"$schema": _DIALECT, "title": title, **msgspec.json.schema(kind)}


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints the schema."""
    if arguments.junit:
        from sandbox_agent.reports.ci.junit import junit_schema

        console.out(junit_schema())
        return 0
    schema = task_schema()
    if arguments.result:
        schema = result_schema()
    elif arguments.journal:
        schema = journal_schema()
    console.out(json.dumps(schema, indent=2) + "\n")
    return 0
