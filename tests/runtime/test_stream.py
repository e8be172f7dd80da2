"""`async for item in conversation.stream()`: what comes, and what leaving it early does."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent import (
    Conversation,
    Ended,
    ModelDelta,
    OutputPiece,
    RunResult,
    SegmentEnded,
    SegmentStarted,
    Started,
    StateError,
    Status,
)
from sandbox_agent.models import DeltaKind, ModelTurn, OnDelta
from sandbox_agent.models.scripted import ScriptedModel
from sandboxes import run, until
from talking import FINAL, Watch, shell, sleeper, talk


class Streams(ScriptedModel):
    """A scripted model whose answers come in pieces."""

    async def complete(self, history: Any, tools: Any, token: Any, on_delta: OnDelta) -> ModelTurn:
        on_delta(ModelDelta(DeltaKind.TEXT, "a piece"))
        return await super().complete(history, tools, token, on_delta)


def conversation(folder: Path, watch: Watch, *steps: Any, **more: Any) -> Conversation:
    made = talk(folder, watch, model=Streams([*steps, FINAL]), **more)
    made.send_message("go")
    return made


def test_everything_comes_in_order_and_the_result_last(tmp_path: Path) -> None:
    watch = Watch()

    async def main() -> None:
        async with conversation(tmp_path, watch, shell("echo one; sleep 0.1; echo two")) as talked:
            items = [item async for item in talked.stream()]
            assert isinstance(items[0], SegmentStarted) and isinstance(items[-2], SegmentEnded)
            assert isinstance(items[-1], RunResult) and items[-1].status is Status.DONE
            places = {type(item): place for place, item in enumerate(items)}
            assert places[Started] < places[OutputPiece] < places[Ended]
            printed = b"".join(item.data for item in items if isinstance(item, OutputPiece))
            assert (printed, watch.output["call_1_1"]) == (b"one\ntwo\n", b"one\ntwo\n")
            assert ModelDelta(DeltaKind.TEXT, "a piece") in items
            told = [item for item in items if item in watch.events]
            assert told == watch.events[-len(told) :], "callbacks are called too"
            talked.send_message("and on")
            assert isinstance([item async for item in talked.stream()][-1], RunResult)

    run(main)


@pytest.mark.parametrize("how", ["break", "cancel"])
def test_leaving_it_early_stops_the_run_first(tmp_path: Path, how: str) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        async with conversation(tmp_path, Watch(), shell(sleeper(mark))) as talked:

            async def read() -> None:
                async with contextlib.aclosing(talked.stream()) as items:
                    async for item in items:
                        if isinstance(item, OutputPiece):
                            if how == "break":
                                break
                            task.cancel()

            task = asyncio.ensure_future(read())
            if how == "break":
                await task
            else:
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert observer.marked(mark) == []
            assert talked.status is Status.INTERRUPTED

    run(main)


def test_a_break_without_more_stops_it_soon(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        async with conversation(tmp_path, Watch(), shell(sleeper(mark))) as talked:
            async for item in talked.stream():
                if isinstance(item, OutputPiece):
                    break
            await until(lambda: talked.status is Status.INTERRUPTED)
            assert observer.marked(mark) == []

    run(main)


def test_an_exception_in_the_loop_is_raised_when_the_run_has_stopped(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        async with conversation(tmp_path, Watch(), shell(sleeper(mark))) as talked:
            with pytest.raises(ZeroDivisionError):
                async with contextlib.aclosing(talked.stream()) as items:
                    async for item in items:
                        if isinstance(item, OutputPiece):
                            raise ZeroDivisionError
            assert observer.marked(mark) == []

    run(main)


def test_a_call_waits_for_a_slow_reader_and_an_interrupt_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        size = 4_000_000
        step = shell(f"head -c {size} /dev/zero; echo > done")
        async with conversation(tmp_path, Watch(), step) as talked:
            items = talked.stream()
            got = 0
            async for item in items:
                got += len(item.data) if isinstance(item, OutputPiece) else 0
                if 0 < got < 200_000:
                    await asyncio.sleep(0.2)
                    assert not (tmp_path / "work" / "done").exists(), "it waits for its reader"
            assert got == size and (tmp_path / "work" / "done").exists()
        async with conversation(tmp_path, Watch(), shell("yes")) as talked:
            items = talked.stream()
            async for item in items:
                if isinstance(item, OutputPiece):
                    break
            talked.interrupt()
            rest = [item async for item in items]
            assert isinstance(rest[-1], RunResult) and rest[-1].status is Status.INTERRUPTED

    run(main)


def test_only_one_run_goes_at_a_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path, Watch(), shell("sleep 300")) as talked:
            first = talked.stream()
            await anext(first)
            with pytest.raises(StateError, match="is going"):
                await anext(talked.stream())
            talked.interrupt()
            rest = [item async for item in first]
            assert isinstance(rest[-1], RunResult)

    run(main)
