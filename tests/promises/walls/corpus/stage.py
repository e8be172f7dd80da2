"""Builds what attempts aim at: folders, canaries, a workspace, services and target processes."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from identity import Person

from . import kernel_calls
from .attempt import Attempt
from .outside import Outside, Terminal

HERE = Path(__file__).resolve().parent
CANARIES = [
    "abstract",
    "argument",
    "cloud",
    "deep",
    "descriptor",
    "environment",
    "hidden",
    "kernel_log",
    "key",
    "keyring",
    "memory",
    "message",
    "open_file",
    "other",
    "record",
    "script",
    "service",
    "shm",
    "sysv",
    "temporary",
    "typed",
]


def repositories(folder: Path, names: list[str], run: Any) -> None:
    """Repositories with a commit; each has another one in it. Their hooks are an empty folder."""
    template = folder / "template"
    git = ["git", "-C", str(template), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    for words in (
        ["git", "init", "-q", "--template=", str(template)],
        [
            "sh",
            "-c",
            f"cd {template}; echo first > tracked.txt; mkdir -p .git/hooks .git/info",
        ],
        [*git, "add", "-A"],
        [*git, "commit", "-qm", "first"],
    ):
        done = run(words)
        assert not done.returncode, done.stderr
    (template / ".git/info/exclude").write_text("inner\n")
    for name in names:
        shutil.copytree(template, folder / name)
    if "hook_of_a_nested_repository" in names:
        shutil.copytree(template, folder / "hook_of_a_nested_repository/inner")
    if "file_of_a_worktree" in names:
        (folder / "file_of_a_worktree/linked").mkdir()
        pointer = folder / "file_of_a_worktree/linked/.git"
        pointer.write_text("gitdir: ../.git\n")
    for name in {"settings_of_a_submodule", "hook_of_a_submodule"} & {*names}:
        inner = folder / name / "module"
        shutil.copytree(template, inner)
        (folder / name / ".git/modules").mkdir()
        (inner / ".git").rename(folder / name / ".git/modules/module")
        (inner / ".git").write_text("gitdir: ../.git/modules/module\n")
    if "hooks_where_there_were_none" in names:
        (folder / "hooks_where_there_were_none/.git/hooks").rmdir()
    shutil.rmtree(template)


def fill(facts: dict[str, Any], canary: dict[str, str]) -> None:
    """Files in every place."""
    home, work, other, library = (
        Path(facts[name]) for name in ("home", "work", "other", "library")
    )
    for folder in (
        home / ".ssh",
        home / ".config/cloud",
        work / "loot",
        work / "locks",
        work / "judge",
        work / "deep/er/judge",
        work / "sub",
        work / ".vscode",
        work / "bin",
        work / "granted/lib",
        home / ".local/state/sandbox-agent/20260101T000000000-aaaaaa",
    ):
        folder.mkdir(parents=True, exist_ok=True)
    files = {
        home / ".ssh/id_ed25519": canary["key"],
        home / ".config/cloud/credentials": canary["cloud"],
        home / ".bashrc": "# mine\n",
        home / ".local/state/sandbox-agent/20260101T000000000-aaaaaa/journal.jsonl": canary[
            "record"
        ],
        other / "notes.txt": canary["other"],
        other / "script.txt": f"CANARY-SCRIPT {canary['script']}\n",
        other / "linked.txt": "other\n",
        library / "book.txt": "book\n",
        work / "plain.txt": "plain\n",
        work / "hidden.txt": canary["hidden"],
        work / "sub/hidden.txt": canary["deep"],
        work / "sub/plain.txt": "plain\n",
        work / "judge/test.txt": "judge\n",
        work / "judge/linked.txt": "judge\n",
        work / "judge/exchanged.txt": "judge\n",
        work / "deep/er/judge/test.txt": "judge\n",
        work / ".envrc": "export A=1\n",
        work / ".vscode/tasks.json": "{}",
        work / "bin/tool": "#!/bin/sh\n",
        work / "granted/lib/book.txt": "book\n",
        Path(facts["temporary"], "cookie"): canary["temporary"],
    }
    for name in [
        "mode",
        "times",
        "xattr",
        "owner",
        "unlink",
        "rename",
        "linked",
        "truncate",
        "reopened",
        "remounted",
        "locked",
    ]:
        files[library / f"{name}.txt"] = "library\n"
    for path, text in files.items():
        path.write_text(text)
    for one, twin in (
        ("judge/twin.txt", work / "twin.txt"),
        ("../library/shared.txt", work / "shared.txt"),
    ):
        (work / one).write_text("two names")
        os.link(work / one, twin)
    (work / "link-to-key").symlink_to(home / ".ssh/id_ed25519")
    (work / "link-out").symlink_to(other / "linked.txt")
    os.mkfifo(work / "ready")
    os.mkfifo(work / "release")
    ignore = shutil.ignore_patterns("__pycache__", "stage.py", "trial.py", "table.py")
    shutil.copytree(HERE, work / "corpus", ignore=ignore)


def own(person: Person, *folders: Path) -> None:
    for folder in folders:
        for where, names, files in os.walk(folder):
            for name in (".", *names, *files):
                path = Path(where, name)
                if not path.is_symlink():
                    person.own(path)


def remove(folder: Path) -> None:
    """Removes a folder, and what an attack without a sandbox mounted in it."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith(f"{folder}/"):
            kernel_calls.call("umount2", kernel_calls.text(line.split()[4]), 2)
    shutil.rmtree(folder)


def hidden_handle(path: Path) -> str:
    """The file handle of a file. name_to_handle_at(2)"""
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.c_uint.from_buffer(handle).value = 128
    mount = ctypes.c_int()
    kernel_calls.call(
        "name_to_handle_at", -100, kernel_calls.text(str(path)), handle, ctypes.byref(mount), 0
    )
    return handle.raw[: 8 + ctypes.c_uint.from_buffer(handle).value].hex()


def cgroup(mark: str) -> Iterator[str]:
    """A cgroup that root could move processes to, where there are such."""
    folder = Path(f"/sys/fs/cgroup/freezer/walls-{mark}")
    if os.geteuid() or not folder.parent.is_dir():
        yield str(folder)
        return
    folder.mkdir()
    try:
        yield str(folder)
    finally:
        # Whoever was moved there goes back first.
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (folder.parent / "cgroup.procs").write_text(pid)
        folder.rmdir()


@contextlib.contextmanager
def stage(person: Person, module: ModuleType, attempts: list[Attempt]) -> Iterator[Outside]:
    """A stage for attempts of one class, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="stage-", dir=person.folder))
    temporary = Path(tempfile.mkdtemp(prefix="walls-", dir="/tmp"))
    mark = str(10**11 + secrets.randbelow(9 * 10**11))
    facts: dict[str, Any] = {
        "folder": str(folder),
        "temporary": str(temporary),
        "mark": mark,
        "mark_number": int(mark),
        "token": secrets.token_hex(3),
        "names": [one.name for one in module.ATTEMPTS],
        "abstract": f"walls-{mark}",
        "taken_name": f"taken-{mark}",
        "taken_port": 20000 + secrets.randbelow(10000),
        "left_key": 1 + secrets.randbelow(1 << 30),
        "key_name": f"walls-key-{mark}",
        "shm_name": f"walls-{mark}",
        "disk": Outside.disk() or 0,
    }
    canary = {name: f"canary-{secrets.token_hex(12)}" for name in CANARIES}
    for name in ("home", "work", "other", "library"):
        facts[name] = str(folder / name)
        (folder / name).mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(remove, folder)
        stack.callback(remove, temporary)
        person.own(folder, temporary)
        fill(facts, canary)
        Path("/dev/shm", facts["shm_name"]).write_text(canary["shm"])
        stack.callback(os.unlink, f"/dev/shm/{facts['shm_name']}")
        for left in (f"/tmp/left-{mark}", f"/dev/shm/left-{mark}"):
            stack.callback(Path(left).unlink, missing_ok=True)
        facts["hidden_handle"] = hidden_handle(folder / "work/hidden.txt")
        facts["cgroup"] = stack.enter_context(contextlib.contextmanager(cgroup)(mark))

        def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            return person.run(
                argv, cwd=folder / "work", env={"HOME": str(folder / "home")}, timeout=30
            )

        own(person, folder)
        person.own(temporary / "cookie", Path("/dev/shm", facts["shm_name"]))
        if hasattr(module, "repository"):
            (folder / "work/repos").mkdir()
            person.own(folder / "work/repos")
            repositories(folder / "work/repos", ["neighbour", *(one.name for one in attempts)], run)
            own(person, folder / "work/repos")
        names = [one.name for one in attempts] if getattr(module, "TARGETS", False) else []
        if names or getattr(module, "SERVICES", False):
            facts |= stack.enter_context(victim(person, facts, canary, names))
        outside = Outside(facts, expected(facts, canary), run)
        if Path("/dev/kmsg").exists() and os.geteuid() == 0:
            outside.log = os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK)
            stack.callback(os.close, outside.log)
            os.lseek(outside.log, 0, os.SEEK_END)
            os.write(outside.log, f"{canary['kernel_log']}\n".encode())
        if getattr(module, "AT_A_TERMINAL", False):
            outside.terminal = Terminal()
            stack.callback(outside.terminal.close)
            facts["tty"] = outside.terminal.name
            if person.uid:
                person.own(Path(outside.terminal.name))
            os.write(outside.terminal.master, f"{canary['typed']}\n".encode())
        for one in attempts:
            if command := getattr(one.proof, "command", None):
                outside.commands.append(command(outside, one.name))
            path = getattr(one.proof, "path", None)
            if path:
                outside.before[path] = (
                    outside.path(path).read_bytes() if outside.path(path).exists() else b""
                )
        yield outside


def expected(facts: dict[str, Any], canary: dict[str, str]) -> dict[str, bytes]:
    """What a proof looks for in the loot."""
    found = {name: text.encode() for name, text in canary.items()}
    found["abstract"] = facts["abstract"].encode()
    if "port" in facts:
        found["port"] = b":%04X " % facts["port"]
        found["port_number"] = f"port={facts['port']};".encode()
    found["ldt"] = f"ldt {facts['mark_number'] & 0xFFFF | 0x100}".encode()
    found["int80"] = f"int80 {facts['mark']}".encode()
    found["host_ran"] = b"\0never"
    with contextlib.suppress(OSError):
        hashes = Path("/etc/shadow").read_bytes()
        found["shadow"] = hashes[: hashes.index(b"\n")]
    addresses = [
        path.read_text().strip().replace(":", "")
        for path in Path("/sys/class/net").glob("*/address")
    ]
    real = [one for one in addresses if one.strip("0")]
    found["interfaces"] = f"mac={real[0] if real else 'none'};".encode()
    if facts["disk"]:
        found["disk"] = Outside.head_of(facts["disk"], Path(facts["folder"]))[
            1024 + 0x68 : 1024 + 0x78
        ]
    return found


@contextlib.contextmanager
def victim(
    person: Person, facts: dict[str, Any], canary: dict[str, str], names: list[str]
) -> Iterator[dict[str, Any]]:
    """The host's program runs meanwhile. Yields its facts."""
    config = Path(facts["folder"], "config.json")
    config.write_text(json.dumps({**facts, "names": names, "secrets": canary}))
    person.own(config)
    argv = [sys.executable, "-I", "-S", str(HERE / "victim.py"), str(config), canary["argument"]]
    environment = {"SERVICE_API_KEY": canary["environment"]}
    with person.start(argv, stdin=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout and process.stdin
            line = process.stdout.readline()
            if not line:
                raise AssertionError(f"the host's program failed: {process.communicate()[1]}")
            yield json.loads(line)
        finally:
            process.stdin.close()
            process.wait(10)
