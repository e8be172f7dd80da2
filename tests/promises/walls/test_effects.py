"""What the walls deny. Each denial is paired with a permission, under which the attempt works."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sandbox_agent_sandbox
from sandbox_agent_sandbox.errors import PolicyError, SandboxBroken
from sandbox_agent_sandbox.inside.walls.landlock import landlock_abi
from sandbox_agent_sandbox.outcome import CallResult
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command, run, sandbox


def inside(workspace: Path, text: str, **policy: Any) -> CallResult:
    """Run one command in a sandbox of its own."""

    async def main() -> CallResult:
        async with sandbox(workspace, **policy) as cell:
            return await cell.call(command(workspace, text))

    return run(main)


def python(workspace: Path, text: str, **policy: Any) -> CallResult:
    """Run a Python program in a sandbox of its own."""
    (workspace / "program.py").write_text(text)
    return inside(workspace, "python3 program.py", **policy)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def test_a_file_beside_the_workspace_is_not_there_unless_it_is_named(
    tmp_path: Path, workspace: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    assert "s3cret" not in inside(workspace, f"cat {secret}").output
    assert inside(workspace, f"cat {secret}", read=[secret]).output == "s3cret"
    assert inside(workspace, f"echo x > {secret}", read=[secret]).exit_status != 0
    assert inside(workspace, f"echo new > {secret}", write=[secret]).exit_status == 0
    assert secret.read_text() == "new\n"
    assert secret.stat().st_uid == os.geteuid()


def test_the_home_folder_is_hidden_but_for_what_is_named(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when $PATH has the home folder itself, or a folder that holds it."""
    home = tmp_path / "people" / "me"
    secrets = [home / ".ssh" / "id", home / ".netrc", home / ".local" / "share" / "token"]
    notes, tool = home / "notes", home / ".local" / "bin" / "greet"
    for file in (*secrets, notes, tool):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s3cret of {file.name}\n")
    tool.write_text("#!/bin/sh\necho greetings\n")
    tool.chmod(0o755)
    for folder in (tmp_path, *(file.parent for file in (*secrets, tool))):
        folder.chmod(0o755)  # so that only the walls hide it, and no permission
    monkeypatch.setenv("HOME", str(home))
    folders = [home, home.parent, tool.parent]
    monkeypatch.setenv("PATH", ":".join([*map(str, folders), os.environ["PATH"]]))

    every = " ".join(map(str, [*secrets, notes]))
    shown = inside(workspace, f"cat {every}; ls -A ~ {home}; greet; echo HOME=$HOME", read=[notes])
    assert shown.output.count("s3cret") == 1
    assert "s3cret of notes\n" in shown.output
    assert "greetings\nHOME=/tmp/home\n" in shown.output
    for name in (".ssh", ".netrc", "share"):
        assert name not in [line.strip() for line in shown.output.splitlines()]
    everything = inside(workspace, f"cat {every}", read=[home])
    assert everything.output.count("s3cret") == 4, "what was hidden is there to be read"


def test_our_own_code_cannot_be_written_even_where_the_policy_names_it(
    tmp_path: Path, workspace: Path
) -> None:
    code = Path(sandbox_agent_sandbox.__file__).parent.parent
    planted, other = code / "planted.py", tmp_path / "other"
    other.mkdir()
    beside = other / "beside.py"
    try:
        result = inside(workspace, f"touch {beside}; touch {planted}", write=[other, code])
        assert beside.exists()
        assert result.exit_status != 0
        assert not planted.exists()
    finally:
        planted.unlink(missing_ok=True)


def test_hide_hides_and_protect_protects(workspace: Path) -> None:
    for folder in ("hidden", "guarded"):
        (workspace / folder).mkdir()
        (workspace / folder / "file").write_text("content")
    attempt = "cat hidden/file guarded/file; echo x > guarded/file; rm -rf guarded; ls guarded"
    free = inside(workspace, "cat hidden/file guarded/file && touch guarded/new && rm guarded/new")
    assert free.output == "contentcontent"
    result = inside(workspace, attempt, hide=["hidden"], protect=["guarded"])
    assert result.output.count("content") == 1
    assert (workspace / "guarded" / "file").read_text() == "content"


def test_a_protected_file_that_is_replaced_outside_ends_the_use_of_the_sandbox(
    workspace: Path,
) -> None:
    (workspace / "guarded").write_text("old")

    async def main() -> None:
        async with sandbox(workspace, protect=["guarded"]) as cell:
            assert (await cell.call(command(workspace, "true"))).exit_status == 0
            (workspace / "new").write_text("new")
            os.rename(workspace / "new", workspace / "guarded")
            with pytest.raises(SandboxBroken, match="replaced outside"):
                await cell.call(command(workspace, "echo x > guarded"))

    run(main)
    assert (workspace / "guarded").read_text() == "new"


@pytest.mark.parametrize(
    "path",
    ["/usr/x", "/etc/x", "/x", "/dev/x", "/proc/sys/kernel/core_pattern", "/var/x", "/run/x"],
)
def test_the_system_cannot_be_written(workspace: Path, path: str) -> None:
    assert inside(workspace, f"echo x > {path}").exit_status != 0
    assert inside(workspace, "echo x > /tmp/x && echo x > /dev/shm/x").exit_status == 0


def test_nobody_is_root_and_nothing_is_permitted(workspace: Path) -> None:
    result = inside(workspace, "id -u; id -g; grep -E '^(Cap|NoNewPrivs)' /proc/self/status")
    uid, gid, *rest = result.output.splitlines()
    assert int(uid) != 0
    assert int(gid) != 0
    values = dict(line.split(":\t") for line in rest)
    assert values.pop("NoNewPrivs") == "1"
    assert set(values.values()) == {"0" * 16}


@pytest.mark.parametrize("uid", [1234, 65534], ids=["somebody", "nobody"])
def test_as_root_the_tools_are_the_workspaces_owner(workspace: Path, uid: int) -> None:
    """The kernel also shows 65534 in place of an id that has no mapping."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(workspace, uid, uid)
    result = inside(workspace, "id -u; id -g; id -G; touch made")
    assert result.output == f"{uid}\n{uid}\n{uid}\n"
    assert (workspace / "made").stat().st_uid == uid


def test_no_namespace_can_be_made_inside(workspace: Path) -> None:
    program = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x4000000, 0x8000000):
    print(libc.unshare(flag))
print(libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
print(libc.umount2(b"/proc", 2), libc.umount2(b"/tmp", 2))
"""
    lines = python(workspace, program).output.split()
    assert lines == ["-1"] * 9


@contextmanager
def listener() -> Iterator[int]:
    """A TCP service on the host's loopback that says hello."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_hosts_network_is_out_of_reach_unless_it_is_granted(workspace: Path) -> None:
    with listener() as port:
        program = f"""
import socket
try:
    print(socket.create_connection(("127.0.0.1", {port}), 5).recv(9).decode())
except OSError as error:
    print("refused")
"""
        assert python(workspace, program).output == "refused\n"
        assert python(workspace, program, network="host").output == "hello\n"


def test_abstract_sockets_of_the_host_are_out_of_reach(workspace: Path) -> None:
    name = f"\0sandbox-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        program = f"import socket; socket.socket(socket.AF_UNIX).connect({name!r}); print('in')"
        assert "refused" in python(workspace, program).output
        with_network = python(workspace, program, network="host").output
        # From here on the scope of Landlock keeps them out of reach there, too.
        scoped = landlock_abi() >= 6
        assert ("not permitted" in with_network) if scoped else (with_network == "in\n")


def test_loopback_works_inside(workspace: Path) -> None:
    program = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
print("connected")
"""
    assert python(workspace, program).output == "connected\n"


def test_descriptors_of_the_host_do_not_get_in(tmp_path: Path, workspace: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        attempt = f"ls -l /proc/self/fd /proc/$PPID/fd; cat /proc/self/fd/{file.fileno()}"
        result = inside(workspace, attempt)
        outside = subprocess.run(
            attempt, shell=True, close_fds=False, capture_output=True, text=True, check=True
        )
    assert "secret" in outside.stdout and "s3cret" in outside.stdout
    assert "0 -> /dev/null" in result.output
    assert "secret" not in result.output
    assert "s3cret" not in result.output


def test_the_environment_is_an_allow_list(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "k3y")
    monkeypatch.setenv("PLAIN", "plain")
    shown = inside(workspace, "env", env={"pass": ["PLAIN"], "set": {"EXTRA": "extra"}}).output
    assert "k3y" not in shown
    assert "PLAIN=plain\n" in shown
    assert "EXTRA=extra\n" in shown
    everywhere = inside(workspace, "cat /proc/*/environ").output
    assert "SANDBOX_AGENT=1\0" in everywhere
    assert "k3y" not in everywhere


def test_entries_of_path_that_cannot_be_used_are_left_out(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not UTF-8; a loop of links; too long a name; in a folder that is shut (to root, a file)."""
    (tmp_path / "tools").mkdir()
    other = tmp_path / os.fsdecode(b"b\xfcro")
    other.mkdir()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    shut = tmp_path / "shut"
    (shut / "bin").mkdir(parents=True)
    shut.chmod(0)
    entries = [other, loop, tmp_path / ("x" * 300), shut / "bin", tmp_path / "tools"]
    monkeypatch.setenv("PATH", ":".join(["/usr/bin", "/bin", *map(str, entries)]))
    try:
        shown = inside(workspace, "echo $PATH").output
    finally:
        shut.chmod(0o700)
    assert str(tmp_path / "tools") in shown.strip().split(":")
    assert "loop" not in shown and "b\ufffd" not in shown


def test_what_is_not_utf8_is_refused_by_name(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / os.fsdecode(b"b\xfcro")
    other.mkdir()
    monkeypatch.setenv("ODD", os.fsdecode(b"s3cret\xfc"))

    def plan(folder: Path, **policy: Any) -> None:
        make_plan(Policy(**policy), host_facts(), workspace=folder)

    plan(workspace)
    with pytest.raises(PolicyError, match=r"b.xfcro' is not UTF-8"):
        plan(other)
    with pytest.raises(PolicyError, match=r"b.xfcro' is not UTF-8"):
        plan(workspace, read=[other])
    with pytest.raises(PolicyError, match=r"env.pass: the value of ODD is not UTF-8") as caught:
        plan(workspace, env={"pass": ["ODD"]})
    assert "s3cret" not in str(caught.value)


def test_processes_of_the_host_and_of_other_calls_are_not_visible(workspace: Path) -> None:
    look = "sleep 300.1 & ls /proc; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"

    async def main() -> CallResult:
        async with sandbox(workspace) as cell:
            started = asyncio.Event()
            request = command(workspace, "exec sleep 300.2", on_started=started.set, timeout=30)
            other = asyncio.create_task(cell.call(request))
            await started.wait()
            result = await cell.call(command(workspace, look))
            other.cancel()
            with pytest.raises(asyncio.CancelledError):
                await other
            return result

    with subprocess.Popen(["sleep", "300.3"]) as hosts:
        result = run(main)
        hosts.kill()
    assert "sleep 300.1" in result.output
    assert "300.2" not in result.output
    assert "300.3" not in result.output
    pids = [int(word) for word in result.output.split() if word.isdigit()]
    assert max(pids) < 50, "a pid namespace of its own begins at 1"


def test_the_calls_init_cannot_be_touched(workspace: Path) -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(0x4206, 1, 0, 0))  # PTRACE_SEIZE
child = os.fork()
if child == 0:
    os.read(0, 1)
    os.pause() if hasattr(os, "pause") else __import__("signal").pause()
print(libc.ptrace(0x4206, child, 0, 0))  # its own child it may trace
os.kill(child, 9)
for name in ("mem", "environ", "maps", "fd"):
    try:
        path = "/proc/1/" + name
        print(len(os.listdir(path)) if name == "fd" else open(path, "rb").read(1))
    except OSError as error:
        print("refused")
"""
    assert python(workspace, program).output.split() == ["-1", "0", *["refused"] * 4]


MANY_FILES = 'python3 -c \'x = [open("/dev/null") for _ in range(99)]; print("worked")\''
LONG_LOOP = "python3 -c 'import time\nwhile time.process_time() < 2: pass\nprint(\"worked\")'"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"process_memory": "64MiB"}, "python3 -c 'x = bytearray(200 << 20); print(\"worked\")'"),
        ({"file_size": "1MiB"}, "head -c 3000000 /dev/zero > big && echo worked"),
        ({"open_files": 40}, MANY_FILES),
        ({"tmp": "2MiB"}, "head -c 8000000 /dev/zero > /tmp/big && echo worked"),
        ({"shm": "2MiB"}, "head -c 8000000 /dev/zero > /dev/shm/big && echo worked"),
        ({"cpu_time": 1}, LONG_LOOP),
    ],
)  # fmt: skip
def test_limits_bind_and_without_them_it_works(
    workspace: Path, limits: dict[str, object], text: str
) -> None:
    # The last line: a traceback of Python 3.13 shows the source, which has the word too.
    assert inside(workspace, text).output.splitlines()[-1:] == ["worked"]
    assert inside(workspace, text, limits=limits).output.splitlines()[-1:] != ["worked"]


def test_a_fork_bomb_is_bounded(workspace: Path) -> None:
    program = """
import os, time
made = 0
try:
    for _ in range(60):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
except BlockingIOError:
    pass
print(made)
"""
    assert int(python(workspace, program).output) == 60
    assert int(python(workspace, program, limits={"processes": 30}).output) < 30


def test_refusals_of_plans_name_the_field(tmp_path: Path, workspace: Path) -> None:
    def plan(**policy: Any) -> None:
        make_plan(Policy(**policy), host_facts(), workspace=workspace)

    with pytest.raises(PolicyError, match=r"read: .*missing"):
        plan(read=[tmp_path / "missing"])
    with pytest.raises(PolicyError, match=r"hide: .*would hide the workspace"):
        plan(hide=[tmp_path])
    with pytest.raises(PolicyError, match=r"protect: .*not visible inside"):
        outside = tmp_path / "outside"
        outside.mkdir()
        plan(protect=[outside])
    with pytest.raises(PolicyError, match="not a folder"):
        make_plan(Policy(), host_facts(), workspace=Path("/etc/passwd"))
    with pytest.raises(PolicyError, match="in reach of the tools"):
        make_plan(Policy(), host_facts(), workspace=workspace, hidden=[workspace])


@pytest.mark.parametrize("path", ["/proc/1", "/sys/fs/cgroup", "/dev", "/"])
def test_what_acts_on_the_host_cannot_be_shared(workspace: Path, path: str) -> None:
    for field in ("read", "write"):
        with pytest.raises(PolicyError, match=f"{field}: .* cannot be shared"):
            make_plan(Policy(**{field: [path]}), host_facts(), workspace=workspace)
    with pytest.raises(PolicyError, match="workspace"):
        make_plan(Policy(), host_facts(), workspace=Path(path))
