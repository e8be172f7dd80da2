"""mini-swe-agent's own agent on our environment: it runs the program's argument, and submits."""

from __future__ import annotations

import sys

from mini_environment import SandboxAgentEnvironment
from minisweagent.agents.default import DefaultAgent
from minisweagent.models.test_models import DeterministicModel, make_output


def main(command: str, folder: str) -> None:
    submit = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; cat out.txt"
    turns = [
        make_output(f"```bash\n{line}\n```", [{"command": line}]) for line in (command, submit)
    ]
    with SandboxAgentEnvironment(cwd=folder, timeout=600) as environment:
        agent = DefaultAgent(
            DeterministicModel(outputs=turns),
            environment,
            system_template="You are an agent.",
            instance_template="{{task}}",
        )
        print(agent.run("Do it."))


main(*sys.argv[1:])
