"""The other end of `bench/asked.py`: a program that answers one request after another.

Standard output belongs to the answers. What a library prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Answers = Mapping[str, Callable[..., Awaitable[Any]]]


async def serve(answers: Answers) -> None:
    """Answer until standard input ends. The event loop goes on while the program waits."""
    out = os.dup(1)
    os.dup2(2, 1)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as reader:
        while line := await loop.run_in_executor(reader, sys.stdin.readline):
            what, *arguments = json.loads(line)
            try:
                answer = {"answer": await answers[what](*arguments)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            _write(out, json.dumps(answer).encode() + b"\n")


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
