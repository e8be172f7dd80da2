"""Imports pytest once, and forks for the tests of each mutant: python server.py

A line of standard input is a list in JSON: the folders that the product comes from, a folder for
temporary files, a file for what is printed, and the arguments for pytest. The answer is a line with
the exit code of pytest, or -N if signal N ended it. Of the product, nothing is imported here.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
from collections.abc import Sequence

import pytest
from _pytest.config import default_plugins

ALSO = ("asyncio", "execnet", "msgspec", "pydantic", "yaml")
"""What the product, most tests and the plugins of pytest import."""

OURS = ("sandbox_agent", "sandbox_agent_sandbox", "sandbox_agent_ipc")


def prepare() -> None:
    for name in (*(f"_pytest.{one}" for one in default_plugins), *ALSO):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    assert not [name for name in sys.modules if name.partition(".")[0] in OURS]
    gc.collect()
    gc.freeze()


def child(roots: Sequence[str], temporary: str, output: str, arguments: list[str]) -> int:
    """As `python -m pytest` with these folders in PYTHONPATH."""
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    os.environ |= {"PYTHONPATH": ":".join(roots), "TMPDIR": temporary}
    sys.path[:0] = [os.getcwd(), *roots]
    sys.argv = ["pytest", *arguments]
    return int(pytest.main(arguments))


def main() -> None:
    del sys.path[0]  # the folder of this file
    prepare()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = child(*json.loads(line))
            finally:
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
