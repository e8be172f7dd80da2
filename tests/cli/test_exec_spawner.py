"""The spawners of `exec`, forked before all else, and of `run`: as clean as any, and never left
over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import observer
import pytest
from identity import BIN, Person
from sandbox_agent_sandbox.import_roots import import_roots

AGENT = str(BIN / "sandbox-agent")


def children(pid: int) -> list[observer.Process]:
    return [one for one in observer.descendants(pid) if one.parent == pid]


def assert_it_inherits_nothing(spawner: int) -> None:
    held = {}
    for fd in os.listdir(f"/proc/{spawner}/fd"):
        held[int(fd)] = os.readlink(f"/proc/{spawner}/fd/{fd}")
    # Its standard input; the test has more of it open.
    assert [fd for fd, name in held.items() if name == "/dev/null"] == [0]
    with open(f"/proc/{spawner}/environ", "rb") as file:
        assert file.read().strip(b"\0") == b""
    assert os.readlink(f"/proc/{spawner}/cwd") == "/"
    assert os.getsid(spawner) == spawner


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
            assert_it_inherits_nothing(spawner.pid)
        finally:
            agent.send_signal(signal.SIGINT)
            assert agent.wait(30) == 130
    os.close(open_file)
    os.close(high)


def test_no_process_of_exec_has_a_key_of_the_environment_in_its_memory(person: Person) -> None:
    """The spawner is a fork of the command, so it had all that the command was started with."""
    secret, argument = f"key-{observer.new_mark()}", f"word-{observer.new_mark()}"
    environment = {**person.environment(), "SOME_API_KEY": secret, secret: "x", "ONE": "1"}
    runs = str(person.folder / "runs")
    argv = [AGENT, "exec", "--out", runs, "--", "sh", "-c", "echo up; exec sleep 300", argument]
    with subprocess.Popen(
        argv, cwd=person.work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as agent:
        try:
            assert agent.stdout is not None and agent.stdout.readline() == b"up\n"
            below = observer.descendants(agent.pid)
            keepers = [one for one in below if one.name.startswith("sandbox-")]
            assert len(keepers) >= 3, below
            read = [one for one in keepers if (memory := memory_of(one.pid)) is not None]
            assert read == keepers if os.geteuid() == 0 else read
            for one in read:
                memory = memory_of(one.pid)
                assert memory is not None and b"sandbox" in memory
                assert secret.encode() not in memory, one
                assert one.command.strip("\0 ") == "sandbox-spawner"
            own = memory_of(agent.pid)
            assert own is not None and secret.encode() in own  # it can be found
        finally:
            agent.send_signal(signal.SIGINT)
            assert agent.wait(30) == 130


def memory_of(pid: int) -> bytes | None:
    """What a process can write to of its memory; None if it may not be read. proc_pid_maps(5)"""
    found = []
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
            for line in maps:
                place, rights = line.split()[:2]
                if rights.startswith("rw"):
                    begin, end = (int(one, 16) for one in place.split("-"))
                    mem.seek(begin)
                    found.append(mem.read(end - begin))
    except PermissionError:
        return None
    return b"".join(found)


BEGUN = """
import sys
sys.meta_path.insert(0, type("Hook", (), {"find_spec": staticmethod(lambda *_: None)}))
from sandbox_agent_sandbox.host.spawner import forked
forked._import_as_isolated()
print([one.__name__ for one in sys.meta_path], [p for p in sys.path if "-packages" in p])
"""
THREAD = """
import os, threading
from sandbox_agent_sandbox.host.spawner import early
wait = threading.Event()
thread = threading.Thread(target=wait.wait)
thread.start()
early.start_early(forked=True)
wait.set()
thread.join()
while len(os.listdir("/proc/self/task")) > 1:  # it ends a moment later for the kernel
    pass
assert early.take_early() is None
early.start_early(forked=True)
assert early.take_early() is not None
"""
IMPORTED = """
import os, sys
before = set(sys.modules)
from sandbox_agent_sandbox.host.spawner import early
fork = os.fork
def look():
    names = {name.partition(".")[0] for name in set(sys.modules) - before}
    os.write(1, " ".join(sorted(names & {"threading", "random", "secrets", "pathlib", "dataclasses",
        "inspect", "typing_extensions", "argparse", "asyncio", "subprocess"})).encode())
    return fork()
os.fork = look
early.start_early(forked=True)
early.end_early()
"""


def test_modules_of_a_forked_spawner_come_from_where_those_of_a_new_python_do() -> None:
    done = subprocess.run([sys.executable, "-c", BEGUN], capture_output=True, text=True, timeout=60)
    [roots] = [line for line in done.stdout.splitlines() if line]
    finders = "['BuiltinImporter', 'FrozenImporter', 'PathFinder']"
    assert roots.startswith(finders), done
    only = [one for one in import_roots() if "-packages" in one]
    assert roots == f"{finders} {only}"


def test_no_spawner_is_forked_beside_another_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREAD], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_forked_before_what_costs_each_fork_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{IMPORTED}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("", "")


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
from sandbox_agent_sandbox.host.spawner import early
early.start_early(forked=True)
os._exit(0 if early.take_early() is None else 1)
"""
NO_DESCRIPTORS = """
import os, resource
from sandbox_agent_sandbox.host.spawner import early
before = os.listdir("/proc/self/fd")
resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + 2, len(before) + 2))
early.start_early(forked=True)
assert early.take_early() is None
assert os.listdir("/proc/self/fd") == before
"""

OTHER_PYTHON = """
import os, types
from sandbox_agent_sandbox.host.spawner import early
before = os.listdir("/proc/self/fd")
early.sys = types.SimpleNamespace(implementation=types.SimpleNamespace(name="pypy"))
early.start_early(forked=True)
assert early.take_early() is None
assert os.listdir("/proc/self/fd") == before
"""
"""There the objects of Python lie otherwise in memory, so nothing in them could be overwritten."""

FROZEN = """
import os, sys
from sandbox_agent_sandbox.host.spawner import early
before = os.listdir("/proc/self/fd")
sys.frozen = True
early.start_early(forked=False)
assert early.take_early() is None
assert os.listdir("/proc/self/fd") == before
"""
"""There is no Python to start: the sandbox says so."""

WAYS = {
    "closed": CLOSED,
    "no descriptors": NO_DESCRIPTORS,
    "another Python": OTHER_PYTHON,
    "frozen": FROZEN,
    "closed, a program": CLOSED.replace("True", "False"),
    "no descriptors, a program": NO_DESCRIPTORS.replace("True", "False"),
}


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS)
def test_where_it_cannot_be_started_nothing_is_left_open(text: str) -> None:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


END = """
import os
from sandbox_agent_sandbox.host.spawner import early
before = os.listdir("/proc/self/fd")
early.start_early(forked=True)
assert open(f"/proc/self/task/{os.getpid()}/children").read().split()
early.end_early()
early.end_early()
assert not open(f"/proc/self/task/{os.getpid()}/children").read().split()
assert os.listdir("/proc/self/fd") == before
"""


@pytest.mark.parametrize("text", [END, END.replace("True", "False")], ids=["a fork", "a program"])
def test_one_that_nobody_took_is_ended(text: str) -> None:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_spawner_of_run_is_a_new_python_that_inherits_nothing(person: Person) -> None:
    mark = observer.new_mark()
    open_file = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(open_file, True)
    high = os.dup2(open_file, 200)
    steps = person.write(person.work / "steps.yaml", STEPS.format(mark=mark))
    argv = [AGENT, "run", "--prompt", "wait", "--model", f"scripted:{steps}", "--out"]
    with subprocess.Popen(
        [*argv, str(person.folder / "runs")],
        cwd=person.work,
        env={**person.environment(), "SECRET_OF_THE_HOST": mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(open_file, high),
    ) as agent:
        try:
            [spawner] = observer.eventually(lambda: children(agent.pid), 60)
            observer.eventually(lambda: [one for one in observer.marked(mark) if is_sleep(one)], 60)
            # There is no other: it was started before the task was read, and the sandbox took it.
            [same] = children(agent.pid)
            assert (same.pid, same.start) == (spawner.pid, spawner.start)
            assert same.name == "sandbox-spawner"
            assert "\0-I\0-S\0" in same.command or " -I -S " in same.command
            assert_it_inherits_nothing(spawner.pid)
        finally:
            agent.send_signal(signal.SIGINT)
            assert agent.wait(30) == 130
    os.close(open_file)
    os.close(high)


def is_sleep(process: observer.Process) -> bool:
    return process.command.startswith("sleep")


STEPS = """
- calls:
    - shell: {{command: "exec sleep 300.{mark}"}}
- final: "Never."
"""


def test_none_is_left_where_a_task_cannot_be_run(person: Person) -> None:
    command = [AGENT, "run", "no-such-task.yaml"]
    with subprocess.Popen(
        command, cwd=person.work, env=person.environment(), stderr=subprocess.DEVNULL
    ) as agent:
        observer.eventually(lambda: children(agent.pid), 60)
        with observer.watching(observer.descendants(agent.pid)) as handles:
            assert agent.wait(60) == 2
            assert observer.wait_gone(handles, 0.001)[1] == []
            assert handles
