"""Runs a command in an environment: see the package's docstring."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from environments import ENVIRONMENTS, entering


def main() -> None:
    if len(sys.argv) < 4 or sys.argv[1] not in entering.ENTER or sys.argv[2] != "--":
        sys.exit(f"usage: environments NAME -- COMMAND...; NAME: {', '.join(entering.ENTER)}")
    kind = ENVIRONMENTS[sys.argv[1]].plan(root=os.geteuid() == 0)
    os.environ["SANDBOX_AGENT_TEST_PLAN"] = kind
    try:
        entering.ENTER[sys.argv[1]]()
    except OSError as error:
        sys.exit(f"environments: {sys.argv[1]} cannot be made here: {error.strerror or error}")
    os.execvp(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
