"""`python -m chaos.umpire FOLDER`: plays the sessions that come on standard input, one a line, and
answers each with a line of verdicts."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import leaks
import msgspec

from chaos.plan import Session


def main() -> None:
    os.environ["SANDBOX_AGENT_CHAOS"] = "1"
    leaks.become_subreaper()
    # Once, before the first fork: agents find everything imported.
    import psutil  # noqa: F401
    import sandbox_agent_sandbox.host.cell  # noqa: F401
    from sandbox_agent_sandbox.policy.probe import host_facts

    from chaos.disk import CannotMount
    from chaos.rounds import Umpire

    host_facts()
    umpire = Umpire(Path(sys.argv[1]))
    out = os.dup(1)
    os.dup2(2, 1)  # nothing that anybody prints may come between the verdicts
    for line in sys.stdin.buffer:
        session = msgspec.json.decode(line, type=Session)
        try:
            answer: dict[str, Any] = {"verdicts": umpire.play(session)}
        except CannotMount:
            answer = {"left_out": f"{session.rounds[0].cause}: no disk can be mounted here"}
        except Exception:
            answer = {"bug": traceback.format_exc(), "verdicts": []}
        os.write(out, msgspec.json.encode(answer) + b"\n")


if __name__ == "__main__":
    main()
