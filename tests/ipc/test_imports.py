"""What importing this package costs, and the one root of its errors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import sandbox_agent_ipc
from sandbox_agent_ipc import errors

LIGHT = [
    "after_fork", "board", "board_view", "channel", "codec", "errors", "framing", "memfd",
    "messages", "model_messages", "cancel_reason", "shortage", "token",
]  # fmt: skip
HEAVY = [
    "asyncio", "concurrent", "ctypes", "hypothesis", "litellm", "logging",
    "multiprocessing", "psutil", "pydantic", "subprocess", "yaml",
]  # fmt: skip


def loaded(modules: list[str]) -> set[str]:
    names = ", ".join(f"sandbox_agent_ipc.{name}" for name in modules)
    code = f"import sys, {names}; print(*sys.modules, sep='\\n')"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(result.stdout.split())


def test_children_do_not_pay_for_what_only_the_host_needs() -> None:
    modules = loaded(LIGHT)
    assert "msgspec" in modules
    assert not modules & set(HEAVY)
    assert "sandbox_agent_ipc.aio" not in modules


def test_even_the_host_ends_leave_the_loop_to_the_host() -> None:
    assert not loaded(["aio"]) & {"asyncio", "psutil", "pydantic"}


def test_every_module_is_looked_at() -> None:
    folder = sandbox_agent_ipc.__path__[0]
    found = {name[:-3] for name in os.listdir(folder) if name.endswith(".py")}
    assert found - {"__init__", "aio", "cancel_shield", "futures"} == set(LIGHT)


@pytest.mark.parametrize(
    "name", ["IpcError", "ProtocolError", "HandshakeError", "ChannelClosed", "BoardFull"]
)
def test_sandbox_agent_error_is_the_root(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.IpcError) and issubclass(kind, errors.SandboxAgentError)


def test_the_root_is_an_ordinary_exception() -> None:
    assert errors.SandboxAgentError.__bases__ == (Exception,)
