"""The spawner of `exec`, which is started before all else: as clean as any, and never left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import observer
import pytest
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")

# What the command begins with, and then a program of its own.
BEGUN = """
import os, sys
from sandbox_agent_sandbox.host.spawner import program
program.start_early()
imported = sorted(name for name in sys.modules if name.partition(".")[0] in {
    "msgspec", "threading", "socket", "subprocess", "pathlib", "argparse", "asyncio", "pydantic"})
print(*imported, flush=True)
"""


def children(pid: int) -> list[observer.Process]:
    return [one for one in observer.descendants(pid) if one.parent == pid]


def test_the_spawner_of_exec_inherits_nothing_of_the_command(person: Person) -> None:
    mark = observer.new_mark()
    open_file = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(open_file, True)
    high = os.dup2(open_file, 200)
    environment = {**person.environment(), "SECRET_OF_THE_HOST": mark}
    argv = [AGENT, "exec", "--out", str(person.folder / "runs"), "--", "sh", "-c"]
    with subprocess.Popen(
        [*argv, f"echo up; exec sleep 300.{mark}"],
        cwd=person.work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=(open_file, high),
    ) as agent:
        try:
            assert agent.stdout is not None and agent.stdout.readline() == b"up\n"
            [spawner] = [one for one in children(agent.pid) if one.name == "sandbox-spawner"]
            held = {}
            for fd in os.listdir(f"/proc/{spawner.pid}/fd"):
                held[int(fd)] = os.readlink(f"/proc/{spawner.pid}/fd/{fd}")
            ours = [one for one in held.values() if one == "/dev/null"]
            assert ours == ["/dev/null"] and held[0] == "/dev/null"  # its standard input
            with open(f"/proc/{spawner.pid}/environ", "rb") as file:
                assert file.read() == b""
            assert os.readlink(f"/proc/{spawner.pid}/cwd") == "/"
            assert os.getsid(spawner.pid) == spawner.pid
        finally:
            agent.send_signal(signal.SIGINT)
            assert agent.wait(30) == 130
    os.close(open_file)
    os.close(high)


def test_it_is_started_before_anything_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{BEGUN}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize("argv", [["--no-such-option"], ["--help"], []], ids=repr)
def test_none_is_left_where_no_command_is_run(argv: list[str]) -> None:
    assert any(is_seen_and_gone(argv) for _ in range(50))


def is_seen_and_gone(argv: list[str]) -> bool:
    """Whether the spawner was seen: it lives for a few milliseconds."""
    command = [AGENT, "exec", *argv]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        observer.eventually(lambda: children(agent.pid) or agent.poll() is not None, 60)
        with observer.watching(observer.descendants(agent.pid)) as handles:
            agent.wait(60)
            assert observer.wait_gone(handles, 0.001)[1] == []
            return bool(handles)


CLOSED = """
import os
os.closerange(0, 3)
from sandbox_agent_sandbox.host.spawner import program
program.start_early()
early = program.take_early()
os._exit(0 if early is None else 1)
"""
NO_DESCRIPTORS = """
import os, resource
from sandbox_agent_sandbox.host.spawner import program
before = os.listdir("/proc/self/fd")
resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + 2, len(before) + 2))
program.start_early()
assert program.take_early() is None
assert os.listdir("/proc/self/fd") == before
"""


@pytest.mark.parametrize("text", [CLOSED, NO_DESCRIPTORS], ids=["closed", "no descriptors"])
def test_where_it_cannot_be_started_nothing_is_left_open(text: str) -> None:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


END = """
import os
from sandbox_agent_sandbox.host.spawner import program
before = os.listdir("/proc/self/fd")
program.start_early()
assert open(f"/proc/self/task/{os.getpid()}/children").read().split()
program.end_early()
program.end_early()
assert not open(f"/proc/self/task/{os.getpid()}/children").read().split()
assert os.listdir("/proc/self/fd") == before
"""


def test_one_that_nobody_took_is_ended() -> None:
    done = subprocess.run([sys.executable, "-c", END], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
