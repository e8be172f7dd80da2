"""What models of providers cost, against the stub over real HTTP and through the real litellm.

Used by the suites `start` and `interrupt`; `turns` has the long conversation.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sandbox_agent.conversation import Conversation
from sandbox_agent.models.process.shared import Lease
from sandbox_agent.models.provider import ProviderModel

MODEL = "openai/gpt-4o"
ENVIRON = {"OPENAI_API_KEY": "sk-of-nobody", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
AT_ONCE = 0.05
GRACE = TERM = 0.3
BARE_IMPORT = "import litellm, os, time; print(time.monotonic(), flush=True); os._exit(0)"


# --- the first request --------------------------------------------------------------------------


def first_request(rounds: int, *, warm: bool = True) -> tuple[list[float], list[float]]:
    """Seconds from the start of a bare process until it has imported litellm, and from the start of
    `sandbox-agent run` until the provider has its first request. By turns, so that whatever else
    the machine does falls on both. warm: one round before the others is not counted."""
    import identity
    from provider import Answer, Stub

    bare, ours = [], []
    with contextlib.contextmanager(identity.someone)("root") as me, Stub(Answer("Done.")) as stub:
        task = me.write(me.folder / "task.yaml", json.dumps(_task(me.work, stub.openai_base)))
        environ = me.environment(ENVIRON)
        for number in range(rounds + warm):
            begin = time.monotonic()
            argv = [sys.executable, "-c", BARE_IMPORT]
            out = subprocess.run(argv, env=environ, check=True, capture_output=True).stdout
            bare.append(float(out) - begin)
            begin = time.monotonic()
            argv = [str(identity.BIN / "sandbox-agent"), "run", str(task)]
            subprocess.run(argv, env=environ, check=True, capture_output=True, cwd=me.work)
            ours.append(stub.requests[number].at - begin)
    return bare[warm:], ours[warm:]


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
                with conversation_with(folder, stub.openai_base) as conversation:
                    for number in range(rounds + 1):
                        at, over = _struck(conversation, stub, number, events)
                        returned.append(over - at)
                        closed.append(stub.wait_closed(number) - at)
            yield f"interrupt to return of run(), {what}", returned[1:], AT_ONCE
            yield f"interrupt to the connection's end, {what}", closed[1:], AT_ONCE
    finally:
        lease.close()
    wedged = []
    for _ in range(max(1, rounds // 3)):
        with Stub(Answer(hold_at=0)) as stub, conversation_with(folder, stub.openai_base) as chat:
            at, over = _struck(chat, stub, 0, 0, _wedge)
            wedged.append(over - at)
    what = f"its process stopped (grace {GRACE:g} s, term {TERM:g} s)"
    yield f"interrupt to return of run(), {what}", wedged, GRACE + TERM + 0.15


def _wedge() -> None:
    for pid in large_processes(os.getpid()):
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


def conversation_with(folder: Path, base: str, **more: Any) -> Conversation:
    options: dict[str, Any] = {
        "model": ProviderModel(MODEL, api_base=base),
        "tools": ["shell"],
        "workspace": folder,
        "output_dir": folder.parent / "runs",
        "interrupt": (GRACE, TERM),
        **more,
    }
    return Conversation(**options)


def large_processes(root: int) -> list[int]:
    """The processes below `root` with litellm in them."""
    import observer

    return [one.pid for one in observer.descendants(root) if memory_of(one.pid) > 100e6]


def memory_of(pid: int | str, name: str = "VmRSS") -> int:
    """Bytes; VmHWM: at most."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
