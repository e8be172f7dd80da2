"""Tools that wait, and say on which rung they are. Run in a worker, inside the walls."""

import os
import subprocess
import time
from pathlib import Path

from sandbox_agent import CancelToken


def tool(token: CancelToken) -> str:
    """A process that the mark finds, and a tool that only SIGKILL ends."""
    subprocess.Popen(["sleep", f"300.{Path('mark').read_text()}"], start_new_session=True)
    try:
        os.write(1, b"begun\n")
        token.wait()
        os.write(1, b"flag\n")
        time.sleep(300)
    finally:
        os.write(1, b"term\n")
        time.sleep(300)
    return ""


def quick() -> str:
    return "quick"
