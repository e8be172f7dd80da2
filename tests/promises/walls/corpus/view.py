"""Class: the view. An attempt has succeeded when a file changed that it may not write."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import subprocess
from pathlib import Path

from . import kernel_calls
from .attempt import ROOT, Attempt, Stage, attempt
from .outside import Outside, appeared, changed, gone, loot

ATTEMPTS: list[Attempt] = []
POLICY = {"read": ["{library}"], "protect": ["judge", "deep/er/judge"], "hide": ["hidden.txt"]}


def writes_the_workspace(stage: Stage) -> None:
    (stage.work / "mine.txt").write_text("mine")
    assert (stage.work / "mine.txt").read_text() == "mine"


def writes_its_home(stage: Stage) -> None:
    (Path.home() / ".profile-of-mine").write_text("mine")


def changes_its_own_file(stage: Stage) -> None:
    path = stage.work / "own.txt"
    path.write_text("mine")
    path.chmod(0o750)
    os.utime(path, (1, 1))
    os.rename(path, stage.work / "renamed.txt")
    os.truncate(stage.work / "renamed.txt", 1)
    os.setxattr(stage.work / "renamed.txt", "user.mine", b"yes")
    os.unlink(stage.work / "renamed.txt")


def reads_the_judge(stage: Stage) -> None:
    assert (stage.work / "judge/test.txt").read_text() == "judge\n"


def reads_the_library(stage: Stage) -> None:
    assert (stage.library / "book.txt").read_text() == "book\n"


def renames_a_folder(stage: Stage) -> None:
    (stage.work / "one").mkdir()
    (stage.work / "one/file").write_text("x")
    os.rename(stage.work / "one", stage.work / "two")
    (stage.work / "two/file").unlink()
    (stage.work / "two").rmdir()


def locks_its_own_file(stage: Stage) -> None:
    with open(stage.work / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@attempt(ATTEMPTS, appeared("home/planted"), writes_its_home, blind=True)
def file_in_home(stage: Stage) -> None:
    """Makes a file in the home folder of who starts the command."""
    (stage.home / "planted").write_text("planted")


@attempt(ATTEMPTS, changed("home/.bashrc"), writes_its_home, blind=True)
def shell_start_file(stage: Stage) -> None:
    """Appends to ~/.bashrc."""
    with open(stage.home / ".bashrc", "a") as file:
        file.write("echo planted\n")


@attempt(ATTEMPTS, appeared("planted"), writes_the_workspace, blind=True)
def file_beside_the_workspace(stage: Stage) -> None:
    """Makes a file in the folder above the workspace."""
    (stage.work.parent / "planted").write_text("planted")


@attempt(ATTEMPTS, appeared("other/planted"), writes_the_workspace, blind=True)
def file_by_dots(stage: Stage) -> None:
    """Writes to ../other with openat(2) from a descriptor of the workspace."""
    folder = os.open(stage.work, os.O_RDONLY)
    os.close(os.open("../other/planted", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=folder))


@attempt(ATTEMPTS, changed("other/linked.txt"), writes_the_workspace, blind=True)
def file_by_a_link_that_was_there(stage: Stage) -> None:
    """Writes through a link of the workspace that leads outside."""
    (stage.work / "link-out").write_text("planted")


@attempt(ATTEMPTS, changed("library/book.txt"), reads_the_library, blind=True)
def readable_file(stage: Stage) -> None:
    """Writes a file that the policy only lets it read."""
    with open(stage.library / "book.txt", "a") as file:
        file.write("planted\n")


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.path("library/mode.txt").stat().st_mode & 0o777 == 0,
    changes_its_own_file,
    blind=True,
)
def mode_of_a_readable_file(stage: Stage) -> None:
    """Takes all rights off a readable file. chmod(2)"""
    (stage.library / "mode.txt").chmod(0)


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.path("library/times.txt").stat().st_mtime == 1,
    changes_its_own_file,
    blind=True,
)
def times_of_a_readable_file(stage: Stage) -> None:
    """Sets the times of a readable file, so that make(1) builds nothing. utimensat(2)"""
    os.utime(stage.library / "times.txt", (1, 1))


@attempt(
    ATTEMPTS,
    lambda outside, name: "user.planted" in os.listxattr(outside.path("library/xattr.txt")),
    changes_its_own_file,
    blind=True,
)
def attribute_of_a_readable_file(stage: Stage) -> None:
    """Sets an extended attribute of a readable file. setxattr(2)"""
    os.setxattr(stage.library / "xattr.txt", "user.planted", b"yes")


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.path("library/owner.txt").stat().st_uid == 12345,
    changes_its_own_file,
    persons=ROOT,
    blind=True,
)
def owner_of_a_readable_file(stage: Stage) -> None:
    """Gives a readable file away. chown(2)"""
    os.chown(stage.library / "owner.txt", 12345, 12345)


@attempt(ATTEMPTS, gone("library/unlink.txt"), changes_its_own_file, blind=True)
def name_of_a_readable_file(stage: Stage) -> None:
    """Removes a readable file. unlink(2)"""
    (stage.library / "unlink.txt").unlink()


@attempt(ATTEMPTS, gone("library/rename.txt"), renames_a_folder, blind=True)
def readable_file_moved_in(stage: Stage) -> None:
    """Moves a readable file into the workspace. rename(2)"""
    os.rename(stage.library / "rename.txt", stage.work / "taken.txt")


@attempt(ATTEMPTS, changed("library/linked.txt"), changes_its_own_file, blind=True)
def readable_file_linked_in(stage: Stage) -> None:
    """Makes a hard link to a readable file in the workspace, and writes to that. link(2)"""
    os.link(stage.library / "linked.txt", stage.work / "linked-in.txt")
    (stage.work / "linked-in.txt").write_text("planted")


@attempt(
    ATTEMPTS,
    lambda outside, name: not outside.path("library/truncate.txt").stat().st_size,
    changes_its_own_file,
    blind=True,
)
def size_of_a_readable_file(stage: Stage) -> None:
    """Cuts a readable file to nothing by its path. truncate(2)"""
    os.truncate(stage.library / "truncate.txt", 0)


@attempt(ATTEMPTS, changed("library/reopened.txt"), reads_the_library, blind=True)
def readable_file_reopened(stage: Stage) -> None:
    """Opens a readable file to read, and opens its descriptor again to write, by /proc/self/fd."""
    file = os.open(stage.library / "reopened.txt", os.O_RDONLY)
    Path(f"/proc/self/fd/{file}").write_text("planted")


@attempt(ATTEMPTS, changed("work/judge/test.txt"), reads_the_judge, blind=True)
def protected_file(stage: Stage) -> None:
    """Writes a file of the workspace that the policy protects."""
    (stage.work / "judge/test.txt").write_text("forged")


@attempt(ATTEMPTS, appeared("work/judge/conftest.py"), reads_the_judge, blind=True)
def file_in_a_protected_folder(stage: Stage) -> None:
    """Makes a file in a protected folder."""
    (stage.work / "judge/conftest.py").write_text("forged")


@attempt(ATTEMPTS, changed("work/judge/linked.txt"), changes_its_own_file, blind=True)
def protected_file_linked(stage: Stage) -> None:
    """Makes a hard link to a protected file, and writes to that."""
    os.link(stage.work / "judge/linked.txt", stage.work / "judge-linked.txt")
    (stage.work / "judge-linked.txt").write_text("forged")


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.path("work/deep/er/judge/test.txt").read_text() == "forged",
    renames_a_folder,
    blind=True,
)
def parent_of_a_protected_folder(stage: Stage) -> None:
    """Renames the folder above a protected one, and builds another in its place."""
    os.rename(stage.work / "deep", stage.work / "deep-before")
    (stage.work / "deep/er/judge").mkdir(parents=True)
    (stage.work / "deep/er/judge/test.txt").write_text("forged")


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.path("work/judge/exchanged.txt").read_text() == "forged",
    renames_a_folder,
    blind=True,
)
def protected_file_exchanged(stage: Stage) -> None:
    """Exchanges a protected file with another one. renameat2(2), RENAME_EXCHANGE"""
    (stage.work / "exchange.txt").write_text("forged")
    text = kernel_calls.text
    kernel_calls.call(
        "renameat2",
        -100,
        text(str(stage.work / "exchange.txt")),
        -100,
        text(str(stage.work / "judge/exchanged.txt")),
        2,
    )


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.is_immutable("work/immutable.txt"),
    writes_the_workspace,
    persons=ROOT,
    blind=True,
)
def immutable_file(stage: Stage) -> None:
    """Makes a file that its owner cannot remove. FS_IOC_SETFLAGS"""
    path = stage.work / "immutable.txt"
    path.write_text("stays")
    with open(path) as file:
        fcntl.ioctl(file, 0x40086602, ctypes.c_long(0x10))


@attempt(
    ATTEMPTS,
    changed("library/remounted.txt"),
    reads_the_library,
    persons=("root", "user"),
    blind=True,
)
def readable_folder_remounted(stage: Stage) -> None:
    """Mounts a readable folder again, writable, and writes. mount(2), MS_REMOUNT"""
    # In a namespace of its own where it may: nothing stays mounted without a sandbox.
    with contextlib.suppress(OSError):
        kernel_calls.call("unshare", 0x20000)
        kernel_calls.call(
            "mount", kernel_calls.text("none"), kernel_calls.text("/"), 0, 1 << 18 | 16384, 0
        )
    for flags in (32 | 4096, 4096):
        try:
            place = kernel_calls.text(str(stage.library))
            kernel_calls.call("mount", place, place, 0, flags, 0)
        except OSError:
            pass
    (stage.library / "remounted.txt").write_text("planted")


@attempt(ATTEMPTS, changed("other/chroot.txt"), writes_the_workspace, persons=ROOT, blind=True)
def out_of_a_chroot(stage: Stage) -> None:
    """Leaves by the classic way: a folder outside of a new root, then up. chroot(2)"""
    top = os.open("/", os.O_RDONLY)
    (stage.work / "jail").mkdir(exist_ok=True)
    os.chroot(stage.work / "jail")
    os.fchdir(top)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    (stage.other / "chroot.txt").write_text("planted")


@attempt(
    ATTEMPTS,
    loot("disk"),
    writes_the_workspace,
    persons=ROOT,
    blind=True,
    needs=lambda: None if Outside.disk() else "no disk can be read",
)
def disk_by_a_node(stage: Stage) -> None:
    """Makes a node of the host's disk, and reads the disk. mknod(2)"""
    node = stage.work / "disk-node"
    os.mknod(node, 0o60600, stage.disk)
    try:
        with open(node, "rb") as file:
            stage.take(file.read(4096))
    finally:
        node.unlink()


@attempt(ATTEMPTS, appeared("other/fifo"), writes_the_workspace, blind=True)
def pipe_outside(stage: Stage) -> None:
    """Makes a named pipe in a folder outside. mkfifo(3)"""
    os.mkfifo(stage.other / "fifo")


@attempt(ATTEMPTS, appeared("other/tmpfile"), writes_the_workspace, blind=True)
def nameless_file_outside(stage: Stage) -> None:
    """Makes a file without a name in a folder outside, and gives it one. O_TMPFILE, linkat(2)"""
    file = os.open(stage.other, os.O_TMPFILE | os.O_WRONLY, 0o600)
    os.link(f"/proc/self/fd/{file}", stage.other / "tmpfile", src_dir_fd=file)


@attempt(ATTEMPTS, changed("other/by-a-child.txt"), writes_the_workspace, blind=True)
def by_another_program(stage: Stage) -> None:
    """Lets cp(1) write outside."""
    subprocess.run(
        ["cp", stage.work / "plain.txt", stage.other / "by-a-child.txt"],
        check=True,
        stderr=subprocess.DEVNULL,
    )


@attempt(
    ATTEMPTS,
    lambda outside, name: outside.is_locked("library/locked.txt"),
    locks_its_own_file,
    held=True,
    blind=True,
)
def lock_of_a_readable_file(stage: Stage) -> None:
    """Locks a readable file, so that the host's program that locks it waits. flock(2)"""
    file = os.open(stage.library / "locked.txt", os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@attempt(ATTEMPTS, changed("work/judge/twin.txt"), changes_its_own_file)
def protected_file_by_its_other_name(stage: Stage) -> None:
    """Writes a protected file by another hard link, which was in the workspace before."""
    (stage.work / "twin.txt").write_text("forged")


@attempt(ATTEMPTS, changed("library/shared.txt"), changes_its_own_file)
def readable_file_by_its_other_name(stage: Stage) -> None:
    """Writes a readable file by another hard link, which was in the workspace before."""
    (stage.work / "shared.txt").write_text("planted")
