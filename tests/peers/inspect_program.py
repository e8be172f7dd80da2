"""An Inspect task whose model calls `bash` once, with the command of the program's argument."""

from __future__ import annotations

import sys

import inspect_environment
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import bash

NAME = "mockllm/model"


async def _count(text: str) -> int:
    return len(text.split())


def main(command: str, folder: str) -> None:
    outputs = [
        ModelOutput.for_tool_call(NAME, "bash", {"command": command}),
        ModelOutput.from_content(NAME, "It is done."),
    ]
    task = Task(
        dataset=[Sample(input="Do it.", target="done")],
        solver=[use_tools(bash()), generate()],
        sandbox=inspect_environment.NAME,
    )
    model = get_model(NAME, custom_outputs=outputs)
    # Inspect counts tokens with a table that it would fetch from the network.
    model.api.count_text_tokens = _count  # type: ignore[method-assign]
    (log,) = eval(task, model=model, log_dir=folder, display="none")
    assert log.samples is not None
    error = log.error.message if log.error else ""
    print(log.status, error, [message.text for message in log.samples[0].messages])


main(*sys.argv[1:])
