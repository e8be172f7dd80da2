"""Landlock in the sandbox: it holds where a mount is wrong, and lets ordinary work through."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import struck
from identity import BIN, CHECKOUT, Person
from sandbox_agent.models.process.environment import make_model_plan, model_policy
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.inside.walls.landlock import landlock_abi
from sandbox_agent_sandbox.outcome import CallResult
from sandbox_agent_sandbox.plan import Landlock, Plan, PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command, run

SCOPES = 6
"""The ABI that brought them."""
needs_landlock = pytest.mark.skipif(landlock_abi() < SCOPES, reason="needs Landlock with scopes")


def with_wrong_mounts(plan: Plan) -> Plan:
    """Every bind writable, as by a fault in the mount view."""
    binds = [msgspec.structs.replace(bind, writable=True) for bind in plan.binds]
    return msgspec.structs.replace(plan, binds=tuple(binds))


def without_landlock(plan: Plan) -> Plan:
    return msgspec.structs.replace(with_wrong_mounts(plan), landlock=Landlock())


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that is not below /tmp, where tools may write."""
    for place in (CHECKOUT, Path.home()):
        own = any(Path(folder) in (place, *place.parents) for folder in ("/tmp", "/var/tmp"))
        if os.access(place, os.W_OK) and not own:
            with tempfile.TemporaryDirectory(prefix=".backstop-", dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("needs a folder that is not below /tmp")


@needs_landlock
@pytest.mark.parametrize(
    ("fault", "written"), [(with_wrong_mounts, False), (without_landlock, True)]
)
def test_what_is_only_read_stays_so_where_its_mount_is_wrong(
    elsewhere: Path, fault: Callable[[Plan], Plan], written: bool
) -> None:
    work, data = elsewhere / "work", elsewhere / "data"
    work.mkdir()
    data.mkdir()
    (data / "file").write_text("old")
    os.chmod(data, 0o777)
    os.chmod(data / "file", 0o666)
    attempt = f"cat {data}/file; echo new > {data}/file; touch {data}/more; echo x > mine; ls /"

    async def main() -> CallResult:
        plan = fault(make_plan(Policy(read=[data]), host_facts(), workspace=work))
        cell = Cell(plan, grace=0.1, term=0.1)
        await cell.open()
        try:
            return await cell.call(command(work, attempt))
        finally:
            assert cell.close() == ()

    result = run(main)
    assert result.output.startswith("old"), result.output
    assert result.exit_status == 0
    assert (work / "mine").read_text() == "x\n"
    assert ((data / "file").read_text() != "old") is written, result.output
    assert (data / "more").exists() is written


LISTEN = """\
python3 -c '
import socket
server = socket.socket()
try:
    server.bind(("127.0.0.1", 0))
    print("bound")
except PermissionError:
    print("denied")
'
"""


@needs_landlock
def test_a_process_that_only_asks_opens_no_port(tmp_path: Path) -> None:
    """Such as the one that asks model providers."""

    async def main(plan: Plan) -> str:
        cell = Cell(plan, grace=0.1, term=0.1)
        await cell.open()
        try:
            return (await cell.call(command(tmp_path, LISTEN))).output
        finally:
            assert cell.close() == ()

    for listens, outcome in ((True, "bound\n"), (False, "denied\n")):
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path, listens=listens)
        assert run(lambda plan=plan: main(plan)) == outcome  # type: ignore[misc]
    model = make_model_plan(model_policy({}), host_facts(), PlanKind.FULL)
    assert model.landlock.tcp == plan.landlock.tcp


PROGRAM = """
import ctypes, json, os, pty, socket, subprocess, sys, tempfile, termios, threading

abstract = json.loads(sys.argv[1])

def anonymous():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o644)
    # With a folder Python calls linkat(2), with AT_SYMLINK_FOLLOW.
    os.link(f"self/fd/{fd}", "named", src_dir_fd=os.open("/proc", os.O_PATH), follow_symlinks=True)
    os.unlink("named")

def memory():
    fd = os.memfd_create("x")
    os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))

def terminal():
    main, other = pty.openpty()
    termios.tcsetattr(other, termios.TCSANOW, termios.tcgetattr(other))
    os.close(os.open(os.ttyname(other), os.O_RDWR))

def across(folder):
    a, b = tempfile.mkdtemp(dir=folder), tempfile.mkdtemp(dir=folder)
    open(f"{a}/file", "w").close()
    os.rename(f"{a}/file", f"{b}/file")
    os.link(f"{b}/file", f"{a}/linked")
    os.rename(a, f"{b}/folder")

def connect(name):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)

def serve(name):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        connect(name)

def tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()

def attach():
    child = subprocess.Popen(["sleep", "60"])
    libc = ctypes.CDLL(None, use_errno=True)
    taken = libc.ptrace(16, child.pid, None, None)
    child.kill()
    if taken < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    child.wait()

attempts = {
    "signal pid 1": lambda: os.kill(1, 0),
    "an abstract socket of the host": lambda: connect("\\0" + abstract),
}
neighbours = {
    "own score": lambda: open("/proc/self/oom_score_adj", "w").write("1000"),
    "own name": lambda: open(f"/proc/self/task/{threading.get_native_id()}/comm", "w").write("x"),
    "standard output by its name": lambda: open("/dev/stdout", "w").close(),
    "null": lambda: open("/dev/null", "w").close(),
    "an anonymous file": anonymous,
    "memory": memory,
    "a terminal": terminal,
    "across the workspace": lambda: across("."),
    "across /tmp": lambda: across("/tmp"),
    "across the home folder": lambda: across(os.path.expanduser("~")),
    "across /var/tmp": lambda: across("/var/tmp"),
    "across /dev/shm": lambda: across("/dev/shm"),
    "an abstract socket of one's own": lambda: serve("\\0mine"),
    "a socket": lambda: serve("/tmp/socket"),
    "TCP": tcp,
    "trace a child": attach,
}
found = {}
for name, act in {**attempts, **neighbours}.items():
    try:
        act()
        found[name] = "done"
    except OSError as error:
        found[name] = error.strerror
print(json.dumps(found))
"""


@needs_landlock
@pytest.mark.parametrize("fresh", [False, True], ids=["a call", "verify"])
def test_signals_and_abstract_sockets_stay_inside_a_call_and_ordinary_work_goes_on(
    person: Person, fresh: bool
) -> None:
    """With the host's network, where the host's abstract sockets are. The neighbours' files lie in
    folders that `verify` has of its own."""
    person.write(person.work / "program.py", PROGRAM)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("")  # unix(7), autobind
        server.listen()
        name = json.dumps(server.getsockname()[1:].decode())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(server.getsockname())
        program = f"{BIN / 'python'} program.py '{name}'"
        found = json.loads(
            _in_a_call(person, program) if not fresh else _in_verify(person, program)
        )
    denied = {"signal pid 1", "an abstract socket of the host"}
    assert {name for name, outcome in found.items() if outcome != "done"} == denied, found
    assert {found[name] for name in denied} == {"Operation not permitted"}


def _in_a_call(person: Person, program: str) -> str:
    policy = person.write(person.folder / "policy.yaml", "network: host\n")
    agent = str(BIN / "sandbox-agent")
    done = person.run([agent, "exec", "--policy", str(policy), "--", "sh", "-c", program])
    assert done.returncode == 0, done.stderr
    return done.stdout


def _in_verify(person: Person, program: str) -> str:
    task = struck.write_task(
        person, [{"final": "done"}], sandbox={"network": "host"}, verify=[f"{program} > found"]
    )
    agent = str(BIN / "sandbox-agent")
    done = person.run([agent, "run", str(task), "--out", str(person.folder / "runs")])
    assert done.returncode == 0, done.stderr
    return (person.work / "found").read_text()
