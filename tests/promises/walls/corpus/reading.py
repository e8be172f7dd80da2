"""Class: secrets. Whatever gets a canary of the host into the workspace has succeeded."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import subprocess
from pathlib import Path

from . import kernel_calls
from .attempt import ROOT, Attempt, Stage, attempt, lacking, unless
from .outside import loot

ATTEMPTS: list[Attempt] = []
POLICY = {"read": ["{library}"], "hide": ["hidden.txt", "sub/hidden.txt"]}
SERVICES = True


def reads_the_workspace(stage: Stage) -> None:
    assert (stage.work / "plain.txt").read_text() == "plain\n"


def reads_the_library(stage: Stage) -> None:
    assert (stage.library / "book.txt").read_text() == "book\n"


def has_a_home(stage: Stage) -> None:
    note = Path.home() / "note"
    note.write_text("mine")
    assert note.read_text() == "mine"


def sees_itself_in_proc(stage: Stage) -> None:
    assert b"driver.py" in Path("/proc/self/cmdline").read_bytes()
    assert os.environ["PATH"].encode() in Path("/proc/self/environ").read_bytes()


def reads_accounts(stage: Stage) -> None:
    assert f":{os.getuid()}:" in Path("/etc/passwd").read_text()


def uses_its_descriptors(stage: Stage) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    assert Path(f"/proc/self/fd/{read}").exists()
    assert os.read(read, 1) == b"x"


def links_its_own(stage: Stage) -> None:
    (stage.work / "linked.txt").unlink(missing_ok=True)
    os.link(stage.work / "plain.txt", stage.work / "linked.txt")
    assert (stage.work / "linked.txt").read_text() == "plain\n"


@attempt(ATTEMPTS, loot("key"), has_a_home, blind=True)
def private_key(stage: Stage) -> None:
    """Reads ~/.ssh/id_ed25519 of who starts the command."""
    stage.take((stage.home / ".ssh/id_ed25519").read_bytes())


@attempt(ATTEMPTS, loot("cloud"), has_a_home, blind=True)
def every_file_of_home(stage: Stage) -> None:
    """Reads every file below the home folder, as a stealer of credentials does."""
    for folder, _, files in os.walk(stage.home):
        for name in files:
            if os.path.isfile(Path(folder, name)):
                stage.take(Path(folder, name).read_bytes())


@attempt(ATTEMPTS, loot("other"), reads_the_library, blind=True)
def another_project(stage: Stage) -> None:
    """Reads a file of another project, by a path up from the workspace."""
    stage.take((stage.work / ".." / "other" / "notes.txt").read_bytes())


@attempt(ATTEMPTS, loot("temporary"), has_a_home, blind=True)
def temporary_file(stage: Stage) -> None:
    """Reads what a program of the host left in /tmp."""
    stage.take((stage.temporary / "cookie").read_bytes())


@attempt(ATTEMPTS, loot("shm"), has_a_home, blind=True)
def shared_memory_file(stage: Stage) -> None:
    """Reads a file of the host's /dev/shm."""
    stage.take(Path("/dev/shm", stage.shm_name).read_bytes())


@attempt(ATTEMPTS, loot("environment"), sees_itself_in_proc, blind=True)
def own_environment(stage: Stage) -> None:
    """Reads a key in the environment of the command that started the sandbox."""
    stage.take(os.environ["SERVICE_API_KEY"])


@attempt(ATTEMPTS, loot("environment"), sees_itself_in_proc, blind=True)
def environments_in_proc(stage: Stage) -> None:
    """Searches the environment of every process in /proc, its ancestors' too."""
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            found = Path(path).read_bytes()
        except OSError:
            continue
        for one in found.split(b"\0"):
            if one.startswith(b"SERVICE_API_KEY="):
                stage.take(one)


@attempt(ATTEMPTS, loot("argument"), sees_itself_in_proc, blind=True)
def arguments_in_proc(stage: Stage) -> None:
    """Reads a password in the arguments of another process."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            stage.take(Path(path).read_bytes())
        except OSError:
            continue


@attempt(ATTEMPTS, loot("hidden"), reads_the_workspace, blind=True)
def hidden_file(stage: Stage) -> None:
    """Reads a file of the workspace that the policy hides."""
    stage.take((stage.work / "hidden.txt").read_bytes())


@attempt(ATTEMPTS, loot("hidden"), links_its_own, blind=True)
def hidden_file_by_hard_link(stage: Stage) -> None:
    """Makes a hard link to the hidden file, and reads that."""
    os.link(stage.work / "hidden.txt", stage.work / "found.txt")
    stage.take((stage.work / "found.txt").read_bytes())


@attempt(ATTEMPTS, loot("deep"), reads_the_workspace, blind=True)
def hidden_file_after_its_folder_moved(stage: Stage) -> None:
    """Renames the folder of a hidden file, and reads it under the new path."""
    os.rename(stage.work / "sub", stage.work / "moved")
    try:
        stage.take((stage.work / "moved/hidden.txt").read_bytes())
    finally:
        os.rename(stage.work / "moved", stage.work / "sub")


@attempt(ATTEMPTS, loot("hidden"), sees_itself_in_proc, blind=True)
def hidden_file_by_root_of_a_process(stage: Stage) -> None:
    """Reads the hidden file below /proc/PID/root of every process that it sees."""
    for root in glob.glob("/proc/[0-9]*/root"):
        try:
            stage.take(Path(root + str(stage.work / "hidden.txt")).read_bytes())
        except OSError:
            continue


@attempt(ATTEMPTS, loot("hidden"), reads_the_workspace, blind=True)
def hidden_file_uncovered(stage: Stage) -> None:
    """Takes the cover of the hidden file off with umount(2), as root of a new user namespace."""
    with contextlib.suppress(OSError):
        kernel_calls.call("unshare", 0x10000000 | 0x00020000)
    for _ in range(3):
        try:
            kernel_calls.call("umount2", kernel_calls.text(str(stage.work / "hidden.txt")), 2)
        except OSError:
            break
    stage.take((stage.work / "hidden.txt").read_bytes())


@attempt(ATTEMPTS, loot("key"), links_its_own, blind=True)
def link_that_was_there(stage: Stage) -> None:
    """Follows a link of the workspace to a key outside."""
    stage.take((stage.work / "link-to-key").read_bytes())


@attempt(ATTEMPTS, loot("descriptor"), uses_its_descriptors, blind=True)
def inherited_descriptor(stage: Stage) -> None:
    """Reads the open files that the starter forgot to close."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                stage.take(os.pread(int(name), 4096, 0))
            except OSError:
                continue


@attempt(
    ATTEMPTS, loot("shadow"), reads_accounts, persons=ROOT, blind=True, needs=lacking("/etc/shadow")
)
def password_hashes(stage: Stage) -> None:
    """Reads /etc/shadow."""
    stage.take(Path("/etc/shadow").read_bytes())


@attempt(ATTEMPTS, loot("hidden"), reads_the_workspace, persons=ROOT, blind=True)
def hidden_file_by_handle(stage: Stage) -> None:
    """Opens the hidden file by a file handle, which no mount covers. open_by_handle_at(2)"""
    folder = os.open(stage.work, os.O_RDONLY)
    # The handle is known: it is an inode number and a generation, so it can be guessed.
    handle = ctypes.create_string_buffer(bytes.fromhex(stage.hidden_handle))
    opened = kernel_calls.call("open_by_handle_at", folder, handle, os.O_RDONLY)
    stage.take(os.read(opened, 4096))


@attempt(
    ATTEMPTS,
    loot("kernel_log"),
    sees_itself_in_proc,
    persons=ROOT,
    blind=True,
    needs=lacking("/dev/kmsg"),
)
def kernel_log(stage: Stage) -> None:
    """Reads the kernel's log. syslog(2)"""
    buffer = ctypes.create_string_buffer(1 << 20)
    size = kernel_calls.call("syslog", 3, buffer, len(buffer))
    stage.take(buffer.raw[:size])


@attempt(
    ATTEMPTS,
    loot("keyring"),
    has_a_home,
    blind=True,
    needs=unless([("/proc/sys/kernel/keys/maxkeys", "0")]),
)
def session_keyring(stage: Stage) -> None:
    """Reads a key in the session keyring of who starts the command. keyrings(7)"""
    key = kernel_calls.call(
        "keyctl", 10, -3, kernel_calls.text("user"), kernel_calls.text(stage.key_name), 0
    )
    buffer = ctypes.create_string_buffer(256)
    size = kernel_calls.call("keyctl", 11, key, buffer, 256)
    stage.take(buffer.raw[:size])


@attempt(ATTEMPTS, loot("record"), has_a_home, blind=True)
def record_of_an_earlier_run(stage: Stage) -> None:
    """Reads the journals of earlier runs in the state folder."""
    for path in (stage.home / ".local/state/sandbox-agent").rglob("*"):
        if path.is_file():
            stage.take(path.read_bytes())


@attempt(ATTEMPTS, loot("port"), uses_its_descriptors, blind=True)
def ports_of_the_host(stage: Stage) -> None:
    """Lists the host's listening sockets in /proc/net/tcp."""
    stage.take(Path("/proc/net/tcp").read_bytes())


@attempt(ATTEMPTS, loot("abstract"), uses_its_descriptors, blind=True)
def unix_sockets_of_the_host(stage: Stage) -> None:
    """Lists the names of the host's Unix sockets in /proc/net/unix."""
    stage.take(Path("/proc/net/unix").read_bytes())


@attempt(ATTEMPTS, loot("port"), uses_its_descriptors, blind=True)
def sockets_by_a_helper(stage: Stage) -> None:
    """Reads another process's view of the network, by /proc/PID/net of each one."""
    for path in glob.glob("/proc/[0-9]*/net/tcp"):
        try:
            stage.take(Path(path).read_bytes())
        except OSError:
            continue


@attempt(ATTEMPTS, loot("script"), reads_the_workspace, blind=True)
def by_a_child_that_is_another_program(stage: Stage) -> None:
    """Lets find(1) and grep(1) search all of the file system's homes and /tmp for a word."""
    found = subprocess.run(
        ["grep", "-rhs", "-m1", "CANARY-SCRIPT", str(stage.home), str(stage.other)],
        stdout=subprocess.PIPE,
        timeout=10,
    )
    stage.take(found.stdout)
