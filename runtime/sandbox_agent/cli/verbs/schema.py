"""`sandbox-agent schema`: the JSON Schema of task files, for editors and CI."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.config.task import Task


def task_schema() -> dict[str, Any]:
    """The schema. Its descriptions are the models' own documentation."""
    schema = Task.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sandbox-agent task"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "A task file that this one is based on; fields of this one win.",
    }
    return schema


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints it."""
    console.out(json.dumps(task_schema(), indent=2) + "\n")
    return 0
