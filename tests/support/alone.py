"""A command in a pid namespace of its own. What is tried without namespaces as root may end every
process that it can reach, should a wall be missing; and a storm of processes takes pids."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence


def enter(argv: Sequence[str]) -> None:
    """Run this command again there, unless it is there already. unshare(1)"""
    if os.environ.pop("SANDBOX_AGENT_ALONE", None):
        return
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    alone += [] if os.geteuid() == 0 else ["--map-current-user"]
    if shutil.which(alone[0]) is None:
        sys.exit(f"{argv[0]}: there is no unshare(1); hint: install util-linux")
    os.environ["SANDBOX_AGENT_ALONE"] = "yes"
    os.execvp(alone[0], [*alone, sys.executable, *argv])
