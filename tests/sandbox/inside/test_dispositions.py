"""What a program does with signals, and what a parent left it, changes nothing in its sandboxes."""

from __future__ import annotations

import os
import signal

import observer
import pytest
from identity import BIN, Person

PROGRAM = """
import os, signal
from sandbox_agent import Conversation
from sandbox_agent.models.scripted import ScriptedModel, Step
from sandbox_agent.models import ModelCall, ModelTurn

if __name__ == "__main__":
    {before}
    command = "sleep 0.1; exit 3"
    steps = [Step(ModelTurn("", (ModelCall("shell", {{"command": command}}),)))]
    steps.append(Step(ModelTurn("Done.", final=True)))
    for _ in range(2):
        with Conversation(
            model=ScriptedModel(list(steps), "steps"), tools=["shell"], output_dir="runs"
        ) as conversation:
            conversation.send_message("go")
            result = conversation.run()
            print(result.status.value, [call.exit_status for call in result.record.calls])
"""

REAPS_ALL = """
    def reap(*_):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    signal.signal(signal.SIGCHLD, reap)
"""

PROGRAMS = {
    "ignores SIGCHLD": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "reaps every child itself": REAPS_ALL.strip(),
    "ignores all signals": (
        "[signal.signal(n, signal.SIG_IGN) for n in signal.valid_signals() - {9, 19}]"
    ),
    "blocks all signals": "signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_has_its_sandboxes_whatever_it_does_with_signals(
    person: Person, program: str
) -> None:
    text = PROGRAM.format(before=PROGRAMS[program])
    done = person.run([str(BIN / "python"), "-c", text])
    assert (done.returncode, done.stdout) == (0, "done [3]\n" * 2), done.stderr
    assert "Traceback" not in done.stderr


def test_signals_to_a_spawner_that_is_starting_change_nothing(person: Person) -> None:
    """As from a terminal or a CI system, which signals whole process groups."""
    argv = [str(BIN / "sandbox-agent"), "exec", "--out", "runs", "--", "sh", "-c", "exit 5"]
    struck = 0
    with person.start(argv) as agent:
        while agent.poll() is None:
            for process in observer.descendants(agent.pid):
                if process.parent != agent.pid:
                    continue
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    try:
                        os.kill(process.pid, number)
                        struck += 1
                    except ProcessLookupError:
                        break
        _, err = agent.communicate()
    assert (agent.returncode, err) == (5, "")
    assert struck > 3
