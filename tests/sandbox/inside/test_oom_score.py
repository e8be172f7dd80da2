"""What the kernel ends first where memory runs out: a tool, then the sandbox, then the agent."""

from __future__ import annotations

from pathlib import Path

import observer
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_a_tool_dies_before_the_sandbox_and_that_before_the_agent(person: Person) -> None:
    text = "cat /proc/self/oom_score_adj; exec sleep 600"
    with person.start([AGENT, "exec", "--", "sh", "-c", text]) as agent:
        try:
            assert agent.stdout is not None
            assert agent.stdout.readline() == "1000\n"
            below = [one.pid for one in observer.descendants(agent.pid)]
            found = {Path(f"/proc/{pid}/comm").read_text().strip(): score(pid) for pid in below}
            assert found["sandbox-spawner"] == found["sandbox-init"] == 500
            assert found["sandbox-call"] == 1000
            assert score(agent.pid) < 500
        finally:
            agent.terminate()
