"""What tools reach in a plan without namespaces: files by Landlock, sockets and memory by a broker.

Each denial is paired with the neighbour that works, and the attempt is known to work outside.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from environments import ENVIRONMENTS
from identity import BIN, Person
from without_mounts import inside

AGENT = str(BIN / "sandbox-agent")
PYTHON = "/usr/bin/python3"


@pytest.fixture
def secret(person: Person) -> Path:
    (person.folder / "data" / "open").mkdir(parents=True)
    (person.folder / "data" / "shut").mkdir()
    for path in (person.folder / "data", *(person.folder / "data").iterdir()):
        person.own(path)
    person.write(person.folder / "data" / "open" / "file", "open")
    person.write(person.folder / "data" / "shut" / "file", "shut")
    return person.write(person.home / "secret", "s3cret")


FILES = """
def read(path):
    with open(path) as file:
        return file.read()
def make(path):
    with open(path, "x") as file:
        file.write("x")
home, data = sys.argv[1:]
attempt("home", lambda: read(home))
attempt("list home", lambda: os.listdir(os.path.dirname(home)))
attempt("truncate", lambda: os.truncate(home, 0))
attempt("unlink", lambda: os.unlink(home))
attempt("link", lambda: os.link(home, "linked"))
attempt("rename", lambda: os.rename(home, "renamed"))
attempt("tmp", lambda: make("/tmp/sandbox-agent-test"))
attempt("shadow", lambda: read("/etc/shadow"))
attempt("proc", lambda: os.open("/proc/self/oom_score_adj", os.O_WRONLY))
attempt("data", lambda: read(data + "/open/file"))
attempt("shut", lambda: read(data + "/shut/file"))
attempt("list shut", lambda: os.listdir(data + "/shut"))
attempt("write data", lambda: make(data + "/open/new"))
attempt("work", lambda: make("made"))
attempt("own", lambda: make(os.environ["TMPDIR"] + "/made"))
attempt("own home", lambda: make(os.path.expanduser("~/made")))
attempt("mapped", lambda: os.listdir(os.environ["CACHE"]))
attempt("null", lambda: make("/dev/null") if False else read("/dev/null") or None)
told["tmpdir"] = os.environ["TMPDIR"]
"""


def test_files_are_reached_as_the_policy_says(person: Person, secret: Path) -> None:
    data = person.folder / "data"
    policy = f"read: ['{data}']\nhide: ['{data}/shut']\nenv: {{set: {{CACHE: /tmp/home}}}}\n"
    told = inside(person, FILES, str(secret), str(data), policy=policy)
    own = Path(told.pop("tmpdir"))
    denied = ["home", "list home", "truncate", "unlink", "tmp", "shadow", "proc", "shut"]
    denied += ["list shut", "write data"]
    assert {told.pop(name) for name in denied} == {"EACCES"}
    assert {told.pop(name) for name in ("link", "rename")} <= {"EACCES", "EXDEV", "EPERM"}
    assert told.pop("data") == "open"
    assert "made" in told.pop("mapped")
    assert {*told.values()} == {"done"}
    assert (person.work / "made").exists()
    assert secret.read_text() == "s3cret"
    assert not own.exists(), "the place of the sandbox's own is removed with it"


def test_what_is_hidden_in_what_tools_write_is_refused_or_allowed(person: Person) -> None:
    person.write(person.work / "secret", "s3cret")
    file = person.write(person.work / "policy.yaml", "plan: no_namespaces\nhide: [secret]\n")
    command = [AGENT, "exec", "--policy", str(file), "--"]
    done = person.run([*command, "cat", "secret"])
    assert (done.returncode, done.stdout) == (125, "")
    assert "sandbox.hide cannot be enforced here: in what tools can write" in done.stderr
    assert str(person.work / "secret") in done.stderr
    done = person.run([*command[:-1], "--allow-degraded", "--", "cat", "secret"])
    assert (done.returncode, done.stdout) == (0, "s3cret"), done.stderr
    assert "sandbox.hide is not enforced in this run" in done.stderr


def test_what_is_protected_is_put_back_and_reported(person: Person) -> None:
    for folder in ("judge", "judge/more"):
        (person.work / folder).mkdir()
        person.own(person.work / folder)
    judge = person.write(person.work / "judge" / "test", "strict")
    kept = person.write(person.work / "judge" / "more" / "test", "kept")
    person.write(person.work / "policy.yaml", "plan: no_namespaces\nprotect: [judge]\n")
    script = "echo lax > judge/test; touch judge/new; mv judge/more .; mv judge j; ln -s /etc judge"
    done = person.run([AGENT, "exec", "--policy", "policy.yaml", "--", "sh", "-c", script])
    assert done.returncode == 0, done.stderr
    assert (judge.read_text(), kept.read_text()) == ("strict", "kept")
    assert sorted(os.listdir(person.work / "judge")) == ["more", "test"]
    assert judge.stat().st_uid == person.uid
    assert "undone: what would have an effect outside" in done.stderr
    assert "restored     judge/test:" in done.stderr


SOCKETS = """
def unix(kind, path, then):
    with socket.socket(socket.AF_UNIX, kind) as one:
        getattr(one, then)(path)
def served(path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path); server.listen(); client.connect(path)
        assert client.getpeername() == path
def tcp(host, port):
    socket.create_connection((host, port), 5).close()
def served_tcp():
    with socket.create_server(("", 0)) as server:
        tcp("127.0.0.1", server.getsockname()[1])
        told["bound to"] = server.getsockname()[0]
def listen():
    with socket.socket() as server:
        server.listen(); server.listen(9); return server.getsockname()[0]
def fast():
    with socket.socket() as one:
        one.sendto(b"x", 0x20000000, ("127.0.0.1", port))
def datagram():
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", outside + ".datagrams")
outside, port, host = sys.argv[1], int(sys.argv[2]), sys.argv[3]
attempt("outside", lambda: unix(socket.SOCK_STREAM, outside, "connect"))
os.symlink(outside, "link")
attempt("through a link", lambda: unix(socket.SOCK_STREAM, "link", "connect"))
attempt("abstract", lambda: unix(socket.SOCK_STREAM, "\\0name", "bind"))
attempt("made outside", lambda: unix(socket.SOCK_STREAM, outside + ".new", "bind"))
attempt("datagrams", lambda: unix(socket.SOCK_DGRAM, outside + ".datagrams", "connect"))
attempt("datagram of a pair", datagram)
attempt("relative", lambda: served("socket"))
attempt("own", lambda: served(os.environ["TMPDIR"] + "/socket"))
attempt("pair", lambda: [one.close() for one in socket.socketpair()] and None)
attempt("host", lambda: tcp("127.0.0.1", port))
attempt("served", served_tcp)
attempt("listen", listen)
attempt("all addresses", lambda: socket.create_server((host, 0)).close())
attempt("fast open", fast)
def option(level, name, value):
    with socket.socket() as one:
        one.setsockopt(level, name, value)
source_route = bytes((131, 7, 4, 192, 0, 2, 1, 0))
attempt("source route", lambda: option(socket.IPPROTO_IP, socket.IP_OPTIONS, source_route))
attempt("device", lambda: option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\\0"))
attempt("other option", lambda: option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
attempt("another 7f", lambda: socket.socket(socket.AF_INET6).connect(("7f00::1", port)))
def connected_and_forgotten():
    # Its address goes with the connection, and the kernel would choose one on all interfaces.
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as one:
        one.connect(server.getsockname())
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            one.listen(); raise AssertionError("it is connected")
        except OSError as error:
            assert error.errno in (errno.EINVAL, errno.EISCONN)
        if libc.connect(one.fileno(), bytes(16), 16) < 0:
            raise OSError(ctypes.get_errno(), "connect")
        one.listen(); return one.getsockname()[0]
attempt("forgotten", connected_and_forgotten)
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
attempt("mptcp", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close())
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close())
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM).close())
"""

ALWAYS = {
    "outside": "EACCES",
    "through a link": "EACCES",
    "abstract": "EACCES",
    "made outside": "EACCES",
    "datagrams": "EAFNOSUPPORT",
    "datagram of a pair": "ESOCKTNOSUPPORT",
    "relative": "done",
    "own": "done",
    "pair": "done",
    "udp": "EAFNOSUPPORT",
    "netlink": "EAFNOSUPPORT",
    "vsock": "EAFNOSUPPORT",
}
NONE = dict.fromkeys(
    (
        *("host", "served", "listen", "all addresses", "fast open", "mptcp"),
        *("source route", "device", "other option", "another 7f", "forgotten"),
    ),
    "EAFNOSUPPORT",
)
LOOPBACK = {
    "host": "ECONNREFUSED",
    "served": "done",
    "bound to": "127.0.0.1",
    "listen": "127.0.0.1",
    "all addresses": "EADDRNOTAVAIL",
    "fast open": errno.errorcode[errno.EOPNOTSUPP],
    "mptcp": "EAFNOSUPPORT",
    "source route": "EPERM",
    "device": "EPERM",
    "other option": "done",
    "another 7f": "ENETUNREACH",
    "forgotten": "127.0.0.1",
}


@pytest.fixture
def servers(person: Person) -> Iterator[list[str]]:
    """A path and a port of servers outside, and an address of this host that is not loopback."""
    path = str(person.folder / "outside")
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        socket.create_server(("127.0.0.1", 0)) as tcp,
    ):
        server.bind(path)
        server.listen()
        datagrams.bind(f"{path}.datagrams")
        for one in (path, f"{path}.datagrams"):
            os.chmod(one, 0o777)
        socket.create_connection(tcp.getsockname(), 5).close()
        yield [path, str(tcp.getsockname()[1]), "192.0.2.1"]


@pytest.mark.parametrize(("network", "expected"), [("none", NONE), ("loopback", LOOPBACK)])
def test_sockets_reach_what_the_call_serves_and_nothing_outside(
    person: Person, servers: list[str], network: str, expected: dict[str, str]
) -> None:
    told = inside(person, SOCKETS, *servers, policy=f"network: {network}\n")
    check_sockets(told, expected)


@pytest.mark.parametrize("name", ["docker-filter"])
def test_sockets_where_none_can_be_taken_out_of_a_process(
    person: Person, servers: list[str], name: str
) -> None:
    """Docker's profile refuses pidfd_getfd."""
    there = replace(person, place=ENVIRONMENTS[name])
    if why := ENVIRONMENTS[name].missing():
        pytest.skip(f"needs {name}: {why}")
    # The supervisor has let go of a socket that was connected.
    expected = {**LOOPBACK, "forgotten": "EISCONN"}
    check_sockets(inside(there, SOCKETS, *servers, policy="network: loopback\n"), expected)


def check_sockets(told: dict[str, str], expected: dict[str, str]) -> None:
    if "mptcp" in told and told["mptcp"] == "EPROTONOSUPPORT":  # of two refusals either counts
        told["mptcp"] = "EAFNOSUPPORT"
    assert told == {**ALWAYS, **expected}


RACES = """
import struct, threading
libc = ctypes.CDLL(None, use_errno=True)
server = socket.create_server(("127.0.0.1", 0), backlog=4000)
own, port = server.getsockname(), int(sys.argv[1])

def address(port):
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, bytes((127, 0, 0, 1)))

def exchanged():
    # The address changes in memory while the supervisor looks at it.
    memory, goes_on = ctypes.create_string_buffer(address(own[1]), 16), True
    def exchange():
        while goes_on:
            ctypes.memmove(memory, address(port), 16)
            ctypes.memmove(memory, address(own[1]), 16)
    thread = threading.Thread(target=exchange)
    thread.start()
    for _ in range(100):
        with socket.socket() as one:
            if libc.connect(one.fileno(), memory, 16) == 0:
                assert one.getpeername() == own
    goes_on = False
    thread.join()

def forgotten():
    # The address that a connection gave goes with it (AF_UNSPEC), just before the socket listens.
    for _ in range(100):
        with socket.socket() as one:
            one.connect(own)
            thread = threading.Thread(target=libc.connect, args=(one.fileno(), bytes(16), 16))
            thread.start()
            libc.listen(one.fileno(), 5)
            thread.join()
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                assert one.getsockname()[0] == "127.0.0.1"

attempt("exchanged", exchanged)
attempt("forgotten", forgotten)
"""


def test_no_race_leads_a_socket_to_another_address(person: Person, servers: list[str]) -> None:
    told = inside(person, RACES, servers[1], policy="network: loopback\n")
    assert told == {"exchanged": "done", "forgotten": "done"}


def test_a_socket_that_the_policy_names_can_be_connected_to(
    person: Person, servers: list[str]
) -> None:
    code = 'attempt("named", lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1]))'
    assert inside(person, code, servers[0]) == {"named": "EACCES"}
    assert inside(person, code, servers[0], policy=f"read: ['{servers[0]}']\n") == {"named": "done"}


TERMINALS = """
import pty
def made():
    one, other = os.openpty()
    os.write(other, b"hello")
    assert os.read(one, 5) == b"hello" and os.isatty(other)
    os.ttyname(other)
def session():
    pid, one = pty.fork()
    if not pid:
        os.execvp("sh", ["sh", "-c", "test -t 0 && echo yes"])
    told["session"] = os.read(one, 3).decode()
    os.waitpid(pid, 0)
    return told["session"]
attempt("made", made)
attempt("session", session)
attempt("another's", lambda: os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY))
attempt("written to", lambda: os.open(sys.argv[1], os.O_WRONLY | os.O_NOCTTY))
"""


def test_tools_make_terminals_and_reach_no_other_one(person: Person) -> None:
    one, other = os.openpty()
    try:
        person.own(Path(os.ttyname(other)))
        told = inside(person, TERMINALS, os.ttyname(other))
    finally:
        os.close(one)
        os.close(other)
    denied = {told.pop("another's"), told.pop("written to")}
    assert (told, denied) == ({"made": "done", "session": "yes"}, {"EACCES"})


MEMORY = """
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
def call(function, *arguments):
    result = function(*arguments)
    if result in (-1, None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "")
    return result
def own():
    segment = call(libc.shmget, 4711, 8192, 0o1600)
    assert call(libc.shmget, 4711, 8192, 0o600) == segment
    address = call(libc.shmat, segment, None, 0)
    ctypes.memmove(address, b"hello", 5)
    again = call(libc.shmat, call(libc.shmget, 4711, 0, 0), None, 0)
    assert ctypes.string_at(again, 5) == b"hello"
    told["segment"] = segment
key, outsider = int(sys.argv[1]), int(sys.argv[2])
attempt("own", own)
attempt("by its key", lambda: call(libc.shmget, key, 0, 0))
attempt("attached", lambda: call(libc.shmat, outsider, None, 0))
attempt("removed", lambda: call(libc.shmctl, outsider, 0, None))
attempt("too much", lambda: call(libc.shmget, 0, ctypes.c_size_t(1 << 40), 0o1600))
attempt("semaphores", lambda: call(libc.semget, 0, 1, 0o1600))
attempt("messages", lambda: call(libc.msgget, 0, 0o1600))
"""

OUTSIDER = """
import ctypes, sys
libc = ctypes.CDLL(None)
segment = libc.shmget(int(sys.argv[1]), 4096, 0o1600)
print(segment, flush=True)
sys.stdin.read()
libc.shmctl(segment, 0, None)
"""


def test_shared_memory_is_the_calls_own_and_goes_with_it(person: Person) -> None:
    key = os.getpid()
    command = [PYTHON, "-c", OUTSIDER, str(key)]
    with person.start(command, stdin=subprocess.PIPE) as outsider:
        assert outsider.stdin is not None and outsider.stdout is not None
        segment = outsider.stdout.readline().strip()
        assert int(segment) >= 0
        told = inside(person, MEMORY, str(key), segment)
        outsider.stdin.close()
    mine = told.pop("segment")
    assert told == {
        "own": "done",
        "by its key": "ENOENT",
        "attached": "EINVAL",
        "removed": "EINVAL",
        "too much": "ENOSPC",
        "semaphores": "ENOSYS",
        "messages": "ENOSYS",
    }
    left = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    assert str(mine) not in [line.split()[1] for line in left]


GUARDS = """
import fcntl, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])
def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
def owner():
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETOWN, pid)
    fcntl.fcntl(ours, 10, signal.SIGKILL)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(theirs, b"x")
attempt("kill", lambda: os.kill(pid, signal.SIGTERM))
attempt("pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGTERM))
attempt("tgkill", lambda: call(234, pid, pid, 15))
attempt("owner", owner)
attempt("prlimit", lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)) and None)
attempt("affinity", lambda: os.sched_setaffinity(pid, {0}))
attempt("scheduler", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
attempt("priority of all", lambda: os.setpriority(os.PRIO_USER, 0, 19))
attempt("ioprio", lambda: call(251, 1, pid, 3 << 13))
attempt("ptrace", lambda: call(101, 0x4206, pid, 0, 0))
attempt("environ", lambda: open(f"/proc/{pid}/environ").read() and None)
attempt("the mark", lambda: resource.setrlimit(10, (5, 5)))
attempt("own priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, 19))
attempt("own affinity", lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)))
attempt("own limit", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
"""


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86-64")
def test_the_users_other_processes_are_out_of_reach(person: Person) -> None:
    with person.start(["sleep", "60"]) as victim, ended(victim):
        limits = Path(f"/proc/{victim.pid}/limits").read_text()
        priority = os.getpriority(os.PRIO_PROCESS, victim.pid)
        told = inside(person, GUARDS, str(victim.pid))
        own = {told.pop(f"own {name}") for name in ("priority", "affinity", "limit")}
        assert own == {"done"}
        assert told.pop("owner") in ("EPERM", "done")  # whether it was sent, the victim shows
        assert set(told.values()) <= {"EPERM", "EACCES"}, told
        assert victim.poll() is None
        assert Path(f"/proc/{victim.pid}/limits").read_text() == limits
        assert os.getpriority(os.PRIO_PROCESS, victim.pid) == priority


def test_two_calls_at_once_do_not_wait_for_each_other(person: Person) -> None:
    """A connection that is never taken waits in a thread of its own."""
    code = """
import threading
def full():
    server = socket.socket(socket.AF_UNIX); server.bind("full"); server.listen(0)
    for _ in range(3):
        threading.Thread(target=lambda: socket.socket(socket.AF_UNIX).connect("full"),
                         daemon=True).start()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("other")
attempt("other", full)
print(json.dumps(told), flush=True)
os._exit(0)
"""
    assert inside(person, code) == {"other": "done"}


def test_a_list_of_paths_keeps_what_the_policy_names_below_tmp(person: Person) -> None:
    names = ("FIRST", "SECOND", "JDK_JAVA_OPTIONS", "TMPDIR", "HOME")
    code = f"told |= {{name: os.environ[name] for name in {names}}}"
    work = str(person.work)
    paths = f"FIRST: '{work}/bin:/tmp/home/bin:/usr/bin', SECOND: '--in={work} a=b=/tmp/c=='"
    policy = f"env: {{set: {{{paths}}}}}\n"
    told = inside(person, code, policy=policy)
    assert told["FIRST"] == f"{work}/bin:{told['HOME']}/bin:/usr/bin"
    assert told["HOME"] == f"{told['TMPDIR']}/home"
    assert told["SECOND"] == f"--in={work} a=b=/tmp/c=="
    assert told["JDK_JAVA_OPTIONS"] == f"-Djava.io.tmpdir={told['TMPDIR']}"
