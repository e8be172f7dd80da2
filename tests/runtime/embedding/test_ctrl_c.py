"""Ctrl-C in the first moments of a blocking `run()`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import pytest
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.status import Status
from sandbox_agent.models import ModelCall, ModelTurn
from sandbox_agent.models.scripted import ScriptedModel, Step


@pytest.mark.parametrize("where", ["_begin", "_make_folder", "arun", "drive", "_turns", "open"])
def test_ctrl_c_in_any_function_stops_the_run(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes as that function is entered; the command would run for five minutes."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    steps = [
        Step(ModelTurn("", (ModelCall("shell", {"command": "exec sleep 300"}),))),
        Step(ModelTurn("done", final=True)),
    ]
    struck: list[str] = []

    def strike(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == where and "sandbox_agent" in code.co_filename:
            sys.setprofile(None)
            struck.append(where)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Conversation(
            model=ScriptedModel(steps, "steps"), workspace=tmp_path / "work", interrupt=(0.1, 0.1)
        ) as conversation:
            conversation.send_message("go")
            sys.setprofile(strike)
            try:
                with pytest.raises(KeyboardInterrupt):
                    conversation.run()
            finally:
                sys.setprofile(None)
            assert struck == [where]
            assert conversation.status is Status.INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before)
