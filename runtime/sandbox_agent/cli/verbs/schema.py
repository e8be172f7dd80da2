"""`sandbox-agent schema`: the JSON Schema of task files, for editors and CI."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.config.task import Task


def task_schema() -> dict[str, Any]:
    """The schema. Its descriptions are the docstrings of the pydantic models."""
    schema = Task.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sandbox-agent task"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "A task file that this one extends. Fields of this file take precedence.",
    }
    return schema


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints the schema."""
    console.out(json.dumps(task_schema(), indent=2) + "\n")
    return 0
