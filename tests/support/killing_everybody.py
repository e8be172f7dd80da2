"""A tool kills everybody that it can: WORKSPACE KERNEL, in a pid namespace of its own.

Prints what became of its call, of another call, and of a process outside.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import paths

sys.path += paths.IMPORT_PATHS

import pytest
from sandboxes import command
from unshared import KERNELS, pretend, unshared, with_tools_up


async def main(workspace: Path, kernel: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, **KERNELS[kernel])
        bystander = subprocess.Popen(["sleep", "300"])
        async with unshared(workspace) as cell:
            _, quiet = await with_tools_up(cell, workspace, "echo up; sleep 300")
            result = await cell.call(command(workspace, "kill -9 -1; sleep 300"))
            ended = quiet.done(), bystander.poll() is not None
            print(json.dumps([result.outcome, *("ended" if one else "alive" for one in ended)]))
        bystander.kill()
        bystander.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
