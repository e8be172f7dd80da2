"""An agent of its own with a call that is up, for a test that kills it: WORKSPACE COMMAND."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import paths

sys.path += paths.IMPORT_PATHS

from sandboxes import command
from unshared import unshared


async def main(workspace: Path, text: str) -> None:
    async with unshared(workspace, grace=30) as cell:

        def on_output(stream: str, data: bytes) -> None:
            print(data.decode(), end="", flush=True)

        await cell.call(command(workspace, text, on_output=on_output))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
