"""Without namespaces: tools reach the processes of their own call, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import killing_everybody
import observer
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import command, run
from unshared import KERNELS, PYTHON, inside, keepers, pretend, unshared, with_tools_up

REACHING = """
import ctypes, errno, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
X86 = os.uname().machine == "x86_64"
NR = dict(tgkill=234, tkill=200, rt_sigqueueinfo=129, rt_tgsigqueueinfo=297, ptrace=101,
          process_vm_readv=310) if X86 else dict(
          tgkill=131, tkill=130, rt_sigqueueinfo=138, rt_tgsigqueueinfo=240, ptrace=117,
          process_vm_readv=270)
CONT = int(signal.SIGCONT)  # it harms nobody who is not stopped

def call(name, *arguments):
    if libc.syscall(ctypes.c_long(NR.get(name, name)), *arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def info(code=-1):
    return (ctypes.c_int * 32)(CONT, 0, code)

def by_pidfd(pid):
    signal.pidfd_send_signal(os.pidfd_open(pid), CONT)

WAYS = {
    "kill": lambda pid: os.kill(pid, CONT),
    "kill, no signal": lambda pid: os.kill(pid, 0),
    "kill a group": lambda pid: os.kill(-os.getpgid(pid), CONT),
    "tgkill": lambda pid: call("tgkill", pid, pid, CONT),
    "tkill": lambda pid: call("tkill", pid, CONT),
    "rt_sigqueueinfo": lambda pid: call("rt_sigqueueinfo", pid, CONT, info()),
    "rt_tgsigqueueinfo": lambda pid: call("rt_tgsigqueueinfo", pid, pid, CONT, info()),
    "pidfd": by_pidfd,
    "ptrace": lambda pid: call("ptrace", 0x4206, pid, 0, 0),
    "memory": lambda pid: open(f"/proc/{pid}/mem", "rb").close(),
    "descriptors": lambda pid: os.readlink(f"/proc/{pid}/fd/0"),
    "a descriptor": lambda pid: call(438, os.pidfd_open(pid), 0, 0),
}

def reach(pid):
    reached = []
    for name, way in WAYS.items():
        try:
            way(pid)
            reached.append(name)
        except OSError as error:
            pass
    return reached

own = os.fork()
if own == 0:
    os.setpgid(0, 0)
    signal.pause()
try:
    os.setpgid(own, own)
except OSError:
    pass
print(json.dumps({pid: reach(int(pid)) for pid in [*sys.argv[1:], str(own)]}))
os.kill(own, 9)
"""


@pytest.mark.parametrize("kernel", KERNELS)
def test_tools_reach_their_own_processes_and_no_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    tmp_path.chmod(0o777)
    pretend(monkeypatch, **KERNELS[kernel])
    (tmp_path / "reaching.py").write_text(REACHING)
    bystander = subprocess.Popen(["sleep", "300"])

    async def main() -> dict[str, list[str]]:
        async with unshared(tmp_path) as cell:
            _, quiet = await with_tools_up(cell, tmp_path, "echo up; sleep 300")
            pids = [os.getpid(), bystander.pid]
            pids += [
                pid for name in ("spawner", "call", "starter") for pid in keepers(f"sandbox-{name}")
            ]
            pids += [one.pid for one in inside()]
            text = f"{PYTHON} -S reaching.py {' '.join(map(str, pids))}"
            result = await cell.call(command(tmp_path, text))
            assert not quiet.done()
            assert result.outcome is Outcome.OK, result
            return json.loads(result.stdout)

    try:
        *others, own = run(main).values()
    finally:
        bystander.kill()
        bystander.wait()
    assert others == [[]] * len(others) and len(others) >= 6
    left_out = {"no scopes": {"pidfd", "a descriptor"}}.get(kernel, set())
    queued = {"rt_sigqueueinfo"} if kernel == "scopes" else set()
    assert set(own) >= {"kill", "kill, no signal", "kill a group", "tgkill", "tkill", *queued}
    assert kernel == "scopes" or not set(own) & {"rt_sigqueueinfo", "rt_tgsigqueueinfo"}
    assert set(own) & {"pidfd", "a descriptor"} == {"pidfd", "a descriptor"} - left_out


@pytest.mark.parametrize("kernel", KERNELS)
def test_kill_of_everybody_ends_the_call_alone(tmp_path: Path, kernel: str) -> None:
    """In a pid namespace, since a wall that fails would end every process of this user."""
    tmp_path.chmod(0o777)
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    alone += [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
    argv = [*alone, sys.executable, killing_everybody.__file__, str(tmp_path), kernel]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=60)
    assert json.loads(done.stdout) == ["crashed", "alive", "alive"]


def test_without_scopes_and_gate_no_call_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o777)
    pretend(monkeypatch, abi=4, gate=False)

    async def main() -> CallResult:
        async with unshared(tmp_path) as cell:
            return await cell.call(command(tmp_path, "true"))

    result = run(main)
    assert not result.made
    assert "signals" in result.content


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_frozen_call_stands_still_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    tmp_path.chmod(0o777)
    pretend(monkeypatch, **KERNELS[kernel])

    async def main() -> tuple[CallResult, CallResult]:
        async with unshared(tmp_path) as cell:
            text = "(setsid sh -c 'while :; do echo x; sleep 0.01; done' &); echo up; sleep 300"
            call_id, call = await with_tools_up(cell, tmp_path, text)
            assert await asyncio.to_thread(cell.freeze, 5)
            await asyncio.to_thread(observer.eventually, stand_still, 10)
            begun = asyncio.create_task(cell.call(command(tmp_path, "echo begun")))
            await asyncio.to_thread(
                observer.eventually, lambda: len(keepers("sandbox-call")) == 2, 10
            )
            await asyncio.to_thread(observer.eventually, stand_still, 10)
            cell.thaw()
            result = await begun
            assert "T" not in states()
            cell.cancel(call_id, CancelReason.INTERRUPT)
            return result, await call

    begun, first = run(main)
    assert begun.stdout == b"begun\n"
    assert first.outcome is Outcome.CANCELLED


def stand_still() -> bool:
    """A shell that was stopped within vfork(2) waits in state D for its child, which is stopped."""
    return states() in ({"T"}, {"T", "D"})


def states() -> set[str]:
    """Of the processes of calls. One that ended meanwhile has none."""
    found = set()
    for one in inside():
        with contextlib.suppress(OSError):
            found.add(Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[0])
    return found
