"""Process pools that isolate nothing, and Ray, as the calls of a sandbox are measured.

    python pools.py NAME FOLDER

NAME: a key of POOLS. Each is run by the interpreter of its own environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from answering import serve

WORKERS = 2
"""As many as the sandbox has spare workers by default."""

Call = Callable[[str], Awaitable[str]]


def work(folder: str) -> str:
    """What the built-in tool does: it lists the files of a folder."""
    return "\n".join(sorted(os.listdir(folder)))


@contextlib.asynccontextmanager
async def executor(pool: Any) -> AsyncIterator[Call]:
    loop = asyncio.get_running_loop()

    async def call(folder: str) -> str:
        return await loop.run_in_executor(pool, work, folder)

    try:
        yield call
    finally:
        pool.shutdown()


def process_pool() -> Any:
    from concurrent.futures import ProcessPoolExecutor

    return executor(ProcessPoolExecutor(WORKERS))


def loky() -> Any:
    from loky import get_reusable_executor

    return executor(get_reusable_executor(max_workers=WORKERS))


@contextlib.asynccontextmanager
async def pebble() -> AsyncIterator[Call]:
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=WORKERS)

    async def call(folder: str) -> str:
        return await asyncio.wrap_future(pool.schedule(work, args=[folder]))

    try:
        yield call
    finally:
        pool.stop()
        pool.join()


@contextlib.asynccontextmanager
async def anyio_process() -> AsyncIterator[Call]:
    from anyio import to_process

    async def call(folder: str) -> str:
        return await to_process.run_sync(work, folder)

    yield call


@contextlib.asynccontextmanager
async def ray_actor() -> AsyncIterator[Call]:
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, configure_logging=True)

    @ray.remote
    class Actor:
        def work(self, folder: str) -> str:
            return work(folder)

    actor = Actor.remote()

    async def call(folder: str) -> str:
        return await actor.work.remote(folder)

    try:
        yield call
    finally:
        ray.shutdown()


POOLS: dict[str, Callable[[], Any]] = {
    "ProcessPoolExecutor": process_pool,
    "pebble": pebble,
    "loky": loky,
    "anyio": anyio_process,
    "Ray actor": ray_actor,
}


async def main(name: str, folder: str) -> None:
    async with POOLS[name]() as call:

        async def paced(count: int, pause: float) -> list[float]:
            taken = []
            for _ in range(count):
                await asyncio.sleep(pause)
                begin = time.monotonic()
                await call(folder)
                taken.append(time.monotonic() - begin)
            return taken

        await serve({"paced": paced})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
