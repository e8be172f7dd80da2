"""Getting ready to ask costs no more than a bare process's own import of litellm."""

from __future__ import annotations

import os
import subprocess
import sys

BARE = "import litellm"
OURS = "from sandbox_agent.models.process.inside import completion; completion.load()"
END = "\nimport os, time; print(time.process_time(), flush=True); os._exit(0)"


def cost(code: str) -> float:
    """Processor seconds: other processes on this machine do not change them much."""
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    argv = [sys.executable, "-c", code + END]
    return float(subprocess.run(argv, env=environ, check=True, capture_output=True).stdout)


def test_loading_costs_no_more_than_a_bare_import() -> None:
    rounds = [(cost(BARE), cost(OURS)) for _ in range(2)]
    bare, ours = (min(one) for one in zip(*rounds, strict=True))
    assert ours <= 1.1 * bare
