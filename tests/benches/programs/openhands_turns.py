"""A conversation of OpenHands' SDK with its persistence, as `journal.py` has one of ours.

    python openhands_turns.py FOLDER COUNT

Prints the seconds of each turn with one call. The tool lists the files of a folder, in the same
process: nothing is isolated.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from openhands.sdk import Agent, Conversation, Tool, register_tool
from openhands.sdk.llm import Message, MessageToolCall, TextContent
from openhands.sdk.testing import TestLLM
from openhands.sdk.tool import Action, Observation, ToolDefinition, ToolExecutor


class ListAction(Action):
    path: str


class ListObservation(Observation):
    pass


class ListExecutor(ToolExecutor[ListAction, ListObservation]):
    def __call__(self, action: ListAction, conversation: Any = None) -> ListObservation:
        return ListObservation.from_text("\n".join(sorted(os.listdir(action.path))))


class ListTool(ToolDefinition[ListAction, ListObservation]):
    @classmethod
    def create(cls, *_: Any, **__: Any) -> Sequence[ListTool]:
        made = cls(
            description="Lists the files of a folder.",
            action_type=ListAction,
            observation_type=ListObservation,
            executor=ListExecutor(),
        )
        return [made]


def call(number: int, folder: Path) -> Message:
    arguments = json.dumps({"path": str(folder)})
    made = MessageToolCall(
        id=f"call_{number}", name="list", arguments=arguments, origin="completion"
    )
    return Message(role="assistant", content=[TextContent(text="")], tool_calls=[made])


def main(folder: Path, count: int) -> list[float]:
    register_tool("ListTool", ListTool)
    at: list[float] = []

    def on_event(event: Any) -> None:
        if type(event).__name__ == "ActionEvent":
            at.append(time.monotonic())

    answers = [call(number, folder / "work") for number in range(count + 2)]
    last = Message(role="assistant", content=[TextContent(text="Done.")])
    conversation = Conversation(
        agent=Agent(llm=TestLLM.from_messages([*answers, last]), tools=[Tool(name="ListTool")]),
        workspace=str(folder / "work"),
        persistence_dir=str(folder / "runs"),
        callbacks=[on_event],
        max_iteration_per_run=count + 10,
        stuck_detection=False,
        visualizer=None,
    )
    conversation.send_message("go")
    conversation.run()
    conversation.close()
    assert len(at) == count + 2, f"{len(at)} turns of {count + 2}"
    return [after - before for before, after in pairwise(at)][1:]


if __name__ == "__main__":
    figures = main(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(figures), flush=True)
    os._exit(0)
