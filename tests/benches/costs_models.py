"""What models of providers cost, against the stub over real HTTP and through the real litellm.

Used by `scripts/bench`. The long conversation runs in a process of its own, and so does the stub:
`python costs_models.py turns|bare ...` is how it is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sandbox_agent.conversation import Conversation
from sandbox_agent.models.process.shared import Lease
from sandbox_agent.models.provider import ProviderModel

TESTS = Path(__file__).resolve().parent.parent
MODEL = "openai/gpt-4o"
ENVIRON = {"OPENAI_API_KEY": "sk-of-nobody", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
AT_ONCE = 0.05
GRACE = TERM = 0.3
HUNDRED = 100
BARE_IMPORT = "import litellm, os, time; print(time.monotonic(), flush=True); os._exit(0)"


# --- the first request --------------------------------------------------------------------------


def first_request(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from the start of a bare process until it has imported litellm, and from the start of
    `sandbox-agent run` until the provider has its first request. By turns, so that whatever else
    the machine does falls on both."""
    import identity
    from provider import Answer, Stub

    bare, ours = [], []
    with contextlib.contextmanager(identity.someone)("root") as me, Stub(Answer("Done.")) as stub:
        task = me.write(me.folder / "task.yaml", json.dumps(_task(me.work, stub.openai_base)))
        environ = me.environment(ENVIRON)
        for number in range(rounds + 1):
            begin = time.monotonic()
            argv = [sys.executable, "-c", BARE_IMPORT]
            out = subprocess.run(argv, env=environ, check=True, capture_output=True).stdout
            bare.append(float(out) - begin)
            begin = time.monotonic()
            argv = [str(identity.BIN / "sandbox-agent"), "run", str(task)]
            subprocess.run(argv, env=environ, check=True, capture_output=True, cwd=me.work)
            ours.append(stub.requests[number].at - begin)
    return bare[1:], ours[1:]  # the first has read the files


def _task(workspace: Path, base: str) -> dict[str, Any]:
    return {
        "version": 1,
        "prompt": "Say that it is done.",
        "model": {"name": MODEL, "api_base": base},
        "workspace": {"path": str(workspace)},
        "tools": ["shell"],
        "output": {"dir": str(workspace.parent / "runs")},
    }


# --- interrupts -----------------------------------------------------------------------------------


def interrupts(folder: Path, rounds: int) -> Iterator[tuple[str, list[float], float]]:
    """What was struck, the seconds from the interrupt, and their bound."""
    from provider import Answer, Stub

    waits = {
        "a request that is never answered": (Answer(hold_at=0), 0),
        "an answer that comes slowly": (Answer("word " * 100, pieces=100, pause=0.25), 2),
        "a stream": (Answer("word " * 5000, pieces=5000, pause=0.002), 20),
    }
    lease = Lease()
    try:
        for what, (answer, events) in waits.items():
            with Stub(lambda request, answer=answer: answer) as stub:
                returned, closed = [], []
                with _conversation(folder, stub.openai_base) as conversation:
                    for number in range(rounds + 1):
                        at, over = _struck(conversation, stub, number, events)
                        returned.append(over - at)
                        closed.append(stub.wait_closed(number) - at)
            yield f"interrupt to return of run(), {what}", returned[1:], AT_ONCE
            yield "  to the connection's end", closed[1:], AT_ONCE
    finally:
        lease.close()
    wedged = []
    for _ in range(max(1, rounds // 3)):
        with Stub(Answer(hold_at=0)) as stub, _conversation(folder, stub.openai_base) as chat:
            at, over = _struck(chat, stub, 0, 0, _wedge)
            wedged.append(over - at)
    what = f"the same, its process stopped (grace {GRACE:g} s, term {TERM:g} s)"
    yield what, wedged, GRACE + TERM + 0.15


def _wedge() -> None:
    for pid in _large(os.getpid()):
        os.kill(pid, signal.SIGSTOP)


def _nothing() -> None:
    pass


def _struck(
    conversation: Conversation,
    stub: Any,
    number: int,
    events: int,
    before: Callable[[], None] = _nothing,
) -> tuple[float, float]:
    """When it was interrupted, in that request to the stub and after so many pieces of the answer,
    and when `run()` had returned."""
    at = []

    def strike() -> None:
        stub.wait_requests(number + 1, 60)
        stub.wait_events(number, events, 60)
        before()
        at.append(time.monotonic())
        conversation.interrupt()

    conversation.send_message("go")
    thread = threading.Thread(target=strike)
    thread.start()
    result = conversation.run()
    over = time.monotonic()
    thread.join()
    assert result.exit_code == 130, result
    return at[0], over


def _conversation(folder: Path, base: str, **more: Any) -> Conversation:
    options: dict[str, Any] = {
        "model": ProviderModel(MODEL, api_base=base),
        "tools": ["shell"],
        "workspace": folder,
        "output_dir": folder.parent / "runs",
        "interrupt": (GRACE, TERM),
        **more,
    }
    return Conversation(**options)


def _large(root: int) -> list[int]:
    """The processes below `root` with litellm in them."""
    import observer

    return [one.pid for one in observer.descendants(root) if _memory(one.pid) > 100e6]


def _memory(pid: int | str, name: str = "VmRSS") -> int:
    """Bytes; VmHWM: at most."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


# --- a long conversation --------------------------------------------------------------------------


class Timed(ProviderModel):
    """Knows when it was asked, and when it had its answers."""

    def __init__(self, base: str) -> None:
        super().__init__(MODEL, api_base=base)
        self.asked: list[float] = []
        self.busy: list[float] = []
        self.answered: list[float] = []
        self.last: Any = None

    async def _send(self, ask: Any, *more: Any) -> Any:
        self.asked.append(time.monotonic())
        self.busy.append(time.process_time())
        self.last = ask
        answer = await super()._send(ask, *more)
        self.answered.append(time.monotonic())
        return answer


def turns(base: str, count: int, folder: Path) -> None:
    """One conversation of so many turns; writes what it measured to `turns.json`."""
    model = Timed(base)
    work = folder / "work"
    work.mkdir()
    budgets = {"turns": count, "repeats": None}
    with _conversation(work, base, model=model, budgets=budgets) as conversation:
        conversation.send_message("Do the same again and again.")
        status = conversation.run().status
        assert status == "budget", status
        sizes = {"agent": _memory("self", "VmHWM")}
        sizes["model process"] = max(_memory(pid, "VmHWM") for pid in _large(os.getpid()))
    found = {
        "asked": model.asked,
        "answered": model.answered,
        "busy": model.busy,
        "memory": sizes,
        "messages": json.loads(model.last.messages),
        "tools": json.loads(model.last.tools),
    }
    (folder / "turns.json").write_text(json.dumps(found))


def bare(base: str, count: int, folder: Path) -> None:
    """litellm alone, asked with the same messages."""
    import litellm

    said = json.loads((folder / "turns.json").read_text())
    messages, tools = said["messages"], said["tools"]

    async def main() -> None:
        for turn in range(count):
            stream = await litellm.acompletion(
                model=MODEL,
                messages=messages[: 2 + 2 * turn],
                tools=tools,
                api_base=base,
                stream=True,
                stream_options={"include_usage": True},
                num_retries=0,
                max_retries=0,
            )
            async for _ in stream:
                pass

    asyncio.run(main())
    os._exit(0)


def long_conversation(folder: Path, count: int) -> dict[str, Any]:
    """Seconds of each turn but the last, by where they went, and the memory of the two processes.

    all: from the provider's having written an answer to its having the next request. host: from the
    host's having the answer to its asking again, a tool call in between; its processor time is also
    that of handing on the stream. model process: the rest, with litellm and HTTP. litellm: what a
    bare one takes for the same requests; ours is less where the model process spares it something.
    """
    script = {
        "answers": [{"calls": [{"name": "shell", "arguments": {"command": "true"}}], "pieces": 2}],
        "then": "repeat",
    }
    (folder / "script.json").write_text(json.dumps(script))
    seen = {}
    for what in ("turns", "bare"):
        with _stub(folder / "script.json") as base:
            argv = [sys.executable, __file__, what, base + "/v1", str(count), str(folder)]
            subprocess.run(argv, env={**os.environ, **ENVIRON}, check=True, stdout=sys.stderr)
            with urllib.request.urlopen(f"{base}/_stub/requests") as answer:
                seen[what] = json.loads(answer.read())
        assert seen[what]["violations"] == [], seen[what]["violations"][:3]
    ours = json.loads((folder / "turns.json").read_text())
    requests = seen["turns"]["requests"]
    assert len(requests) == count
    asked, answered = ours["asked"], ours["answered"]
    whole = _between(requests)
    host = [after - before for before, after in zip(answered, asked[1:], strict=False)]
    return {
        "all": whole,
        "host": host,
        "host, processor time": [b - a for a, b in pairwise(ours["busy"])],
        "model process": [a - b for a, b in zip(whole, host, strict=True)],
        "litellm": _between(seen["bare"]["requests"]),
        "memory": ours["memory"],
    }


def _between(requests: Sequence[Mapping[str, float]]) -> list[float]:
    return [b["at"] - a["answered"] for a, b in pairwise(requests)]


@contextlib.contextmanager
def _stub(script: Path) -> Iterator[str]:
    argv = [sys.executable, "-m", "provider", "--forget", "--script", str(script)]
    with subprocess.Popen(argv, cwd=TESTS, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


# --- all of it ------------------------------------------------------------------------------------


def measure(add: Callable[..., float], rounds: int, count: int) -> list[dict[str, Any]]:
    """Measure and print everything. add: prints and keeps a row (see `scripts/bench`). count: turns
    of the long conversation. Returns rows that do not fit that."""
    os.environ.update(ENVIRON)
    own, theirs = first_request(rounds)[::-1]
    plain = add("python -c 'import litellm'", theirs, "ms", 1e3)
    add("start to first request at the provider", own, "ms", 1e3, 1.1 * plain, plain)
    folder = Path(tempfile.mkdtemp(prefix="costs-"))
    try:
        (folder / "struck").mkdir()
        for what, figures, bound in interrupts(folder / "struck", rounds * 3):
            add(what, figures, "ms", 1e3, bound)
        rows = _turn_rows(folder, count, add)
    finally:
        shutil.rmtree(folder)
    return rows


def _turn_rows(folder: Path, count: int, add: Callable[..., float]) -> list[dict[str, Any]]:
    found = long_conversation(folder, count)
    memory = found.pop("memory")
    for name, size in memory.items():
        add(f"memory: {name}, after {count} turns", [size], "MB", 1e-6)
    number = min(HUNDRED, len(found["all"]) // 4)
    print(f"\n{count} turns of one call: medians of the first {number} and the last {number}")
    rows = []
    for what, figures in found.items():
        figures = figures[5:]  # connections, caches, imports
        first = statistics.median(figures[:number])
        last = statistics.median(figures[-number:])
        bound = 1.2 if what.startswith("host") else None
        over = "  OVER" if bound is not None and last > bound * first else ""
        print(
            f"  {what:44} {first * 1e3:7.2f} ms {last * 1e3:7.2f} ms {last / first:6.2f} x{over}",
            flush=True,
        )
        row = {"what": f"a turn, {what}", "unit": "ms", "first": first * 1e3, "last": last * 1e3}
        rows.append(row | {"ratio": last / first, "within": not over})
    return rows


if __name__ == "__main__":
    sys.path += [str(TESTS), str(TESTS / "support")]
    {"turns": turns, "bare": bare}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
