"""What Landlock denies by itself, without any other wall: each attempt works without it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.inside.walls.landlock import OLDEST, landlock_abi

PROGRAM = """
import errno, json, os, signal, socket, subprocess, sys
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.walls.landlock import make_ruleset, restrict_access
from sandbox_agent_sandbox.plan import Access, Landlock
from sandbox_agent_sandbox.policy.rules.landlock import BIND_TCP, READ, WRITE, WRITE_ONE

view, outside, abstract, port, bound = json.loads(sys.argv[1])
work = f"{view}/work"
system = ["/usr", "/lib", "/lib64", sys.base_prefix]
system = [os.path.realpath(name) for name in system if os.path.exists(name)]
rules = [Access(view, READ), Access(work, WRITE), *(Access(name, READ) for name in {*system})]
rules += [Access(f"{view}/single", WRITE_ONE), Access(f"{view}/not there", WRITE)]
if bound:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    landlock = Landlock(tuple(rules), BIND_TCP)
    restrict_access(landlock, make_ruleset(landlock))

def write(path, flags=os.O_CREAT):
    os.close(os.open(path, os.O_WRONLY | flags, 0o644))

def connect(name):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(name)

def serve(name, folder="."):
    os.chdir(folder)  # the name of a socket is short: unix(7)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        connect(name)

def listen():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))

def signal_child():
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(1)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL

def across(folder):
    os.mkdir(f"{folder}/one")
    os.mkdir(f"{folder}/two")
    write(f"{folder}/one/file")
    os.rename(f"{folder}/one/file", f"{folder}/two/file")
    os.link(f"{folder}/two/file", f"{folder}/one/again")
    os.rename(f"{folder}/one", f"{folder}/two/one")

def special(folder):
    os.mkfifo(f"{folder}/fifo")
    os.symlink("fifo", f"{folder}/link")
    serve("socket", folder)
    for name in ("fifo", "link", "socket"):
        os.unlink(f"{folder}/{name}")

attempts = {
    "read outside": lambda: os.open(f"{outside}/file", os.O_RDONLY),
    "list outside": lambda: os.listdir(outside),
    "execute outside": lambda: subprocess.run([f"{outside}/program"], check=True),
    "write what is read": lambda: write(f"{view}/file", 0),
    "truncate what is read": lambda: os.truncate(f"{view}/file", 0),
    "create": lambda: write(f"{view}/new"),
    "make a folder": lambda: os.mkdir(f"{view}/newer"),
    "make a link": lambda: os.symlink("file", f"{view}/link"),
    "make a fifo": lambda: os.mkfifo(f"{view}/fifo"),
    "make a socket": lambda: serve("socket", view),
    "remove": lambda: os.unlink(f"{view}/file to remove"),
    "remove a folder": lambda: os.rmdir(f"{view}/folder"),
    "move out": lambda: os.rename(f"{work}/file to move", f"{view}/moved"),
    "link to gain rights": lambda: os.link(f"{view}/file", f"{work}/file to write"),
    "write outside by a link": lambda: write(f"{work}/link outside"),
    "signal a process outside": lambda: os.kill(os.getppid(), 0),
    "connect to an abstract socket outside": lambda: connect("\\0" + abstract),
    "listen": listen,
}
neighbours = {
    "read": lambda: os.open(f"{view}/file", os.O_RDONLY),
    "list": lambda: os.listdir(view),
    "execute": lambda: subprocess.run([f"{view}/program"], check=True),
    "write": lambda: write(f"{work}/new"),
    "truncate": lambda: os.truncate(f"{work}/new", 0),
    "write a file that is named": lambda: write(f"{view}/single", os.O_TRUNC),
    "move and link across folders": lambda: across(work),
    "special files": lambda: special(work),
    "signal a child": signal_child,
    "an abstract socket of one's own": lambda: serve("\\0" + abstract + str(os.getpid())),
    "connect by TCP": lambda: socket.create_connection(("127.0.0.1", port)).close(),
    "a pipe by its name": lambda: write(f"/proc/self/fd/{os.pipe()[1]}", 0),
}
found = {}
for name, act in {**attempts, **neighbours}.items():
    try:
        act()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
print(json.dumps([list(attempts), found]))
"""

FIRST = {
    "truncate what is read": 3,
    "listen": 4,
    "signal a process outside": 6,
    "connect to an abstract socket outside": 6,
}
"""By the ABI that brought it."""


def world(folder: Path) -> tuple[Path, Path]:
    """(a view, what is outside of it)"""
    view, outside = folder / "view", folder / "outside"
    for name in (view / "work", view / "folder", outside):
        name.mkdir(parents=True)
    names = ("file", "file to remove", "single", "work/file to move")
    for file in (outside / "file", *(view / name for name in names)):
        file.write_text("text")
    (view / "work" / "link outside").symlink_to(outside / "file")
    for place in (view, outside):
        shutil.copy("/bin/true", place / "program")
    return view, outside


@contextmanager
def servers() -> Iterator[tuple[str, int]]:
    """The name of an abstract socket and the port of a TCP socket."""
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind("")  # unix(7), autobind
        unix.listen()
        yield unix.getsockname()[1:].decode(), tcp.getsockname()[1]


@pytest.mark.skipif(landlock_abi() < OLDEST, reason="needs Landlock")
def test_each_attempt_is_denied_by_landlock_alone_and_its_neighbours_work(tmp_path: Path) -> None:
    found = {}
    with ExitStack() as stack:
        abstract, port = stack.enter_context(servers())
        for bound in (False, True):
            places = map(str, world(tmp_path / str(bound)))
            arguments = json.dumps([*places, abstract, port, bound])
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, arguments],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(import_roots())},
            )
            assert done.returncode == 0, done.stderr
            attempts, found[bound] = json.loads(done.stdout)
    assert set(found[False].values()) == {"done"}, found[False]
    for name, outcome in found[True].items():
        denied = name in attempts and landlock_abi() >= FIRST.get(name, OLDEST)
        allowed = ("EACCES", "EPERM", "EXDEV") if denied else ("done",)
        assert outcome in allowed, (name, outcome)
