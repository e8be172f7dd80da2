"""Writing a file loses nothing: no other program's change, and nothing that hangs on the inode."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.tools import in_place, second_file, whole_file, writing
from sandbox_agent_sandbox.inside.tools.whole_file import Written, edit_whole, write_whole
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError
from sandbox_agent_sandbox.temporary_files import new_name, remove_leftovers
from worker_child import WorkerChild

TOKEN = RunToken()
AGAIN = "another program changed it meanwhile; this is made on its content"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.glob(".tmp*"))


def read(fd: int) -> bytes:
    return os.pread(fd, 1 << 20, 0)


def append(text: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data + text


def edit(path: Path, change: Callable[[bytes], bytes]) -> Written:
    return edit_whole(str(path), read, change, TOKEN)


def edit_against(path: Path, strike: Callable[[], object]) -> Written:
    """Append `+mine`. The first time, another program strikes after the file was read."""
    struck = []

    def change(data: bytes) -> bytes:
        if not struck:
            struck.append(True)
            strike()
        return data + b"+mine"

    return edit(path, change)


# --- other programs -----------------------------------------------------------------------------


def test_runs_that_edit_one_file_at_the_same_time_lose_nothing(folder: Path) -> None:
    file = folder / "f"
    file.write_text("".join(f"line{n} = OLD {'x' * 60}\n" for n in range(3000)))

    def editor(first: int) -> Callable[[Any], object]:
        def edits(token: Any) -> object:
            said = [
                writing.edit_file("f", f"line{n} = OLD", f"line{n} = NEW", token=token)
                for n in range(first, 3000, 100)
            ]
            return len(said)

        return edits

    children = [WorkerChild(editor(number)) for number in range(6)]
    try:
        assert [child.ended().value for child in children] == [30] * 6
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert file.read_text().count("NEW") == 180


def test_names_of_one_file_are_one_file_to_those_who_edit_it(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "f").write_bytes(b"")
    os.link(folder / "f", folder / "sub/g")

    def appender(name: str) -> Callable[[Any], object]:
        def work(token: Any) -> object:
            for _ in range(50):
                edit_whole(name, read, append(b"x"), token)
            return True

        return work

    children = [WorkerChild(appender(name)) for name in ("f", "sub/g", "f")]
    try:
        assert all(child.ended().value for child in children)
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert (folder / "f").read_bytes() == b"x" * 150
    assert (folder / "f").samefile(folder / "sub/g")


def test_one_of_many_creates_a_file_and_the_others_replace_it(folder: Path) -> None:
    def writer(token: Any) -> object:
        return writing.write_file("new", "x" * 1000, token=token)

    children = [WorkerChild(writer) for _ in range(6)]
    try:
        said = sorted(child.ended().value for child in children)
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert said == ["created new: 1000 bytes"] + ["replaced new: 1000 bytes"] * 5


def rename_over(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"theirs")
    other.rename(file)


def same_size_and_time(file: Path) -> None:
    info = file.stat()
    file.write_bytes(b"OLD")
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))


def by_link(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"theirs")
    file.unlink()
    file.symlink_to("other")


@pytest.mark.parametrize(
    ("strike", "after"),
    [
        (lambda file: file.write_bytes(b"theirs"), b"theirs+mine"),
        (same_size_and_time, b"OLD+mine"),
        (lambda file: file.open("ab").write(b"+more"), b"old+more+mine"),
        (rename_over, b"theirs+mine"),
        (by_link, b"theirs+mine"),
    ],
    ids=["written", "same size and time", "appended", "renamed over", "a link now"],
)
def test_an_edit_is_made_on_what_another_program_wrote_meanwhile(
    folder: Path, strike: Callable[[Path], object], after: bytes
) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    written = edit_against(file, lambda: strike(file))
    assert file.read_bytes() == after
    assert written.notes == (AGAIN,)


@pytest.mark.parametrize(
    ("strike", "why"),
    [
        (lambda file: file.unlink(), "No such file"),
        (lambda file: (file.unlink(), file.mkdir()), "is a folder"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "is a FIFO"),
        (lambda file: (file.unlink(), file.symlink_to(file)), "Too many levels"),
    ],
    ids=["removed", "a folder now", "a FIFO now", "a loop now"],
)
def test_an_edit_of_what_is_no_file_any_more_is_an_error(
    folder: Path, strike: Callable[[Path], object], why: str
) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    with pytest.raises(ToolError, match=why):
        edit_against(file, lambda: strike(file))


def test_a_mode_and_a_name_that_come_meanwhile_are_kept(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    edit_against(file, lambda: file.chmod(0o600))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    edit_against(file, lambda: os.link(file, folder / "second"))
    assert file.samefile(folder / "second") and file.read_bytes() == b"old+mine+mine"


def at_the_rename(monkeypatch: pytest.MonkeyPatch, strike: Callable[[], object]) -> None:
    """Another program strikes in the microsecond before the first exchange."""
    real, struck = syscalls.renameat2, []

    def renameat2(*arguments: Any) -> None:
        if not struck:
            struck.append(True)
            strike()
        real(*arguments)

    monkeypatch.setattr(syscalls, "renameat2", renameat2)


def test_a_file_that_is_renamed_over_just_before_the_exchange_is_put_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    at_the_rename(monkeypatch, lambda: rename_over(file))
    assert edit(file, append(b"+mine")).notes == (AGAIN,)
    assert file.read_bytes() == b"theirs+mine"


def test_a_file_that_is_removed_just_before_the_exchange_stays_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    at_the_rename(monkeypatch, file.unlink)
    with pytest.raises(ToolError, match="No such file"):
        edit(file, append(b"+mine"))
    assert not file.exists()


def test_a_newer_file_that_comes_while_the_first_is_put_back_wins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    real, count = syscalls.renameat2, [0]

    def renameat2(*arguments: Any) -> None:
        count[0] += 1
        if count[0] <= 2:
            other = folder / "other"
            other.write_bytes(b"theirs %d" % count[0])
            other.rename(file)
        real(*arguments)

    monkeypatch.setattr(syscalls, "renameat2", renameat2)
    edit(file, append(b"+mine"))
    assert file.read_bytes() == b"theirs 2+mine"


WRITER = "import sys; f = open('f', 'r+b'); print('open', flush=True); input(); f.write(b'THEM')"


def start(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_a_program_that_has_the_file_open_for_writing_keeps_the_same_file(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"0123456789")
    with start(WRITER) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"open\n"
        written = edit(file, append(b"+mine"))
        assert file.read_bytes() == b"0123456789+mine"
        writer.communicate(b"\n")
    assert file.read_bytes() == b"THEM456789+mine"
    assert written.notes == ("written in place, because a program has it open for writing",)


def test_a_program_that_opens_it_just_before_the_exchange_writes_to_the_file_that_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "f"
    file.write_bytes(b"0123456789")
    writers: list[subprocess.Popen[bytes]] = []

    def strike() -> None:
        writers.append(start(WRITER))
        # Its open(2) waits for our lease: it has looked the old file up already.
        observer.eventually(lambda: "BREAKING" in Path("/proc/locks").read_text(), 20)

    at_the_rename(monkeypatch, strike)
    written = edit(file, append(b"+mine"))
    [writer] = writers
    writer.communicate(b"\n", timeout=20)
    assert file.read_bytes() == b"THEM456789+mine"
    assert written.notes[0].startswith("written in place")


@pytest.mark.parametrize("links", [1, 2])
def test_lines_that_a_program_appends_meanwhile_are_all_kept(folder: Path, links: int) -> None:
    file = folder / "f"
    file.write_text("".join(f"line{n} = OLD\n" for n in range(100)))
    if links == 2:
        os.link(file, folder / "second")
    program = (
        "import os\nfor n in range(2000):\n"
        "  fd = os.open('f', os.O_WRONLY | os.O_APPEND); os.write(fd, b'+\\n'); os.close(fd)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as appender:
        for n in range(100):
            writing.edit_file("f", f"line{n} = OLD\n", f"line{n} = NEW{n}\n", token=TOKEN)
        assert appender.wait(60) == 0
    lines = file.read_text().splitlines()
    assert (sum("NEW" in line for line in lines), lines.count("+")) == (100, 2000)


def test_a_lock_that_is_held_for_long_is_an_error_that_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_file, "LOCK_PATIENCE", 0.05)
    file = folder / "f"
    file.write_bytes(b"old")
    with open(file) as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(ToolError, match=r"a lock on it \(flock\) .* nothing was written"):
            edit(file, append(b"+mine"))
    assert file.read_bytes() == b"old"


def test_the_flag_ends_the_wait_for_a_lock(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    with open(file) as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)

        def function(token: Any) -> object:
            os.write(1, b"ready")
            return writing.write_file("f", "new", token=token)

        with WorkerChild(function) as child:
            child.until(b"ready")
            child.cancel()
            assert child.ended().raised == "Cancelled"
    assert file.read_bytes() == b"old"


# --- what hangs on the inode --------------------------------------------------------------------


def acl(fd_or_path: Path) -> bytes:
    """An ACL that gives one more user access: entries of (tag, permissions, id), acl(5)."""
    entries = [(1, 6, -1), (2, 6, 4711), (4, 4, -1), (0x10, 6, -1), (0x20, 4, -1)]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(fd_or_path, "system.posix_acl_access", data)
    return os.getxattr(fd_or_path, "system.posix_acl_access")


@pytest.mark.parametrize("size", [0, 3, 100_000])
@pytest.mark.parametrize("kind", ["links", "attribute", "acl", "owner"])
def test_a_file_whose_inode_matters_is_written_in_place(folder: Path, kind: str, size: int) -> None:
    file = folder / "f"
    file.write_bytes(b"old" * 1000)
    before = file.stat()
    if kind == "links":
        os.link(file, folder / "second")
    if kind == "attribute":
        os.setxattr(file, "user.test", b"value")
    if kind == "acl":
        access = acl(file)
    if kind == "owner":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        os.chown(file, 4321, 4322)
    written = write_whole(str(file), b"n" * size, TOKEN)
    after = file.stat()
    assert file.read_bytes() == b"n" * size
    assert (after.st_ino, after.st_blocks * 512 < size + 8192) == (before.st_ino, True)
    [note] = written.notes
    words = {"links": "2 names", "attribute": "user.test", "acl": "ACL", "owner": "another user"}
    assert note.startswith("written in place, because ") and words[kind] in note
    if kind == "links":
        assert (folder / "second").read_bytes() == b"n" * size
    if kind == "attribute":
        assert os.getxattr(file, "user.test") == b"value"
    if kind == "acl":
        assert os.getxattr(file, "system.posix_acl_access") == access
    if kind == "owner":
        assert (after.st_uid, after.st_gid) == (4321, 4322)


def test_a_plain_file_is_replaced_and_readers_keep_the_old_content(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    file.chmod(0o4751)
    with open(file, "rb") as reader:
        assert write_whole(str(file), b"new", TOKEN) == Written(str(file), False)
        assert reader.read() == b"old"
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o4751)


def test_a_group_that_the_file_had_is_kept(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    file = folder / "f"
    file.write_bytes(b"old")
    os.chown(file, -1, 4322)
    file.chmod(0o664)
    assert write_whole(str(file), b"new", TOKEN).notes == ()
    info = file.stat()
    assert (info.st_gid, stat.S_IMODE(info.st_mode)) == (4322, 0o664)


def test_flags_of_the_file_system_are_kept(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    nodump, size = 0x40, struct.calcsize("l")
    with open(file) as opened:
        try:
            fcntl.ioctl(opened, 0x40006602 | size << 16, struct.pack("l", nodump))
        except OSError:
            return  # this file system has no flags, so none can be lost
    [note] = write_whole(str(file), b"new", TOKEN).notes
    assert note == "written in place, because a new file would have other flags (chattr)"
    with open(file) as opened:
        [flags] = struct.unpack("l", fcntl.ioctl(opened, 0x80006601 | size << 16, bytes(size)))
    assert (file.read_bytes(), flags & nodump) == (b"new", nodump)


def test_capabilities_which_the_kernel_takes_from_a_written_file_are_said_to_be_lost(
    folder: Path,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    file = folder / "f"
    file.write_bytes(b"old")
    os.setxattr(file, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    first, second = write_whole(str(file), b"new", TOKEN).notes
    assert first.startswith("written in place")
    assert second == "it lost security.capability"
    assert "security.capability" not in os.listxattr(file)


def test_a_set_user_id_bit_of_a_file_written_in_place_is_kept(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"old")
    os.link(file, folder / "second")
    file.chmod(0o4750)
    assert len(write_whole(str(file), b"new", TOKEN).notes) == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o4750


def limited(size: int, function: Callable[[Any], object]) -> Callable[[Any], object]:
    """The function in a process that can write no file beyond a size: as on a full disk, with a
    file system that fails in the middle."""

    def work(token: Any) -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return function(token)

    return work


@pytest.mark.parametrize("reserving", [True, False])
@pytest.mark.parametrize("linked", [True, False])
def test_a_write_that_fails_in_the_middle_leaves_the_old_content(
    folder: Path, linked: bool, reserving: bool
) -> None:
    file = folder / "f"
    old = os.urandom(5000)
    file.write_bytes(old)
    if linked:
        os.link(file, folder / "second")

    def function(token: Any) -> object:
        if not reserving:  # as on a file system that cannot reserve

            def refuse(*_: object) -> None:
                raise OSError(errno.EOPNOTSUPP, "no")

            syscalls.reserve_space = refuse
        return write_whole(str(file), b"n" * 50_000, token)

    with WorkerChild(limited(20_000, function)) as child:
        ended = child.ended()
    assert (ended.raised, "File too large" in ended.message) == ("ToolError", True)
    assert file.read_bytes() == old
    assert sorted(path.name for path in folder.iterdir()) == ["f", "second"][: 1 + linked]


def test_a_full_disk_leaves_the_old_content(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    disk = folder / "disk"
    disk.mkdir()
    syscalls.mount("tmpfs", str(disk), "tmpfs", 0, "size=128k")
    try:
        for name, links in (("one", 1), ("two", 2)):
            file = disk / name
            file.write_bytes(b"o" * 20_000)
            if links == 2:
                os.link(file, disk / "second")
            with pytest.raises(ToolError, match="No space left on device"):
                write_whole(str(file), b"n" * 200_000, TOKEN)
            assert file.read_bytes() == b"o" * 20_000
        with pytest.raises(ToolError, match="No space left on device"):
            write_whole(str(disk / "new"), b"n" * 200_000, TOKEN)
        assert sorted(os.listdir(disk)) == ["one", "second", "two"]
    finally:
        syscalls.umount(str(disk), 0)


def test_a_file_that_cannot_be_read_is_replaced_all_the_same(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o777)

        def function(token: Any) -> object:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            for name in ("one", "two"):
                Path(top, name).write_text("old")
                Path(top, name).chmod(0o222)
            os.link(f"{top}/two", f"{top}/three")
            said = [
                writing.write_file(f"{top}/{name}", "new", token=token) for name in ("one", "two")
            ]
            for name in ("one", "three"):
                Path(top, name).chmod(0o644)
                said.append(Path(top, name).read_text())
            return said

        with WorkerChild(function) as child:
            ended = child.ended()
    assert ended.value is not None, ended.message
    assert not any("in place" in said for said in ended.value[:1])
    assert ended.value[2:] == ["new", "new"]


# --- interruptions ------------------------------------------------------------------------------


@pytest.mark.parametrize("links", [1, 2])
def test_sigterm_at_any_moment_leaves_one_content_and_nothing_beside(
    folder: Path, links: int
) -> None:
    file = folder / "f"
    file.write_bytes(b"0" * 300_000)
    if links == 2:
        os.link(file, folder / "second")

    def function(token: Any) -> object:
        os.write(1, b"go")
        for number in range(1, 100_000):
            write_whole(str(file), b"%d" % (number % 10) * 300_000, token)
        return None

    for round in range(12):
        with WorkerChild(function) as child:
            child.until(b"go")
            time.sleep(0.0011 * round)  # not to synchronise: to strike at different places
            child.terminate()
            assert child.ended().raised == "Cancelled"
        data = file.read_bytes()
        assert len(data) == 300_000 and len(set(data)) == 1
        assert len(list(folder.iterdir())) == links


def test_what_sigkill_leaves_is_removed_and_what_is_in_use_stays(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"old")

    def function(token: Any) -> object:
        def stop(*_: object) -> None:
            os.write(1, b"named")
            signal.pause()

        syscalls.renameat2 = stop
        return write_whole(str(file), b"new", token)

    fd = os.open(folder, os.O_RDONLY)
    try:
        with WorkerChild(function) as child:
            child.until(b"named")
            assert len(list(folder.glob(".tmp-sandbox-agent-*"))) == 1
            assert remove_leftovers(fd) == 0  # its lock says that it is in use
            os.kill(child.pid, signal.SIGKILL)
            observer.eventually(lambda: remove_leftovers(fd) == 1, 20)
        for name in (new_name(), new_name()):
            os.mkfifo(name)
        os.symlink("f", new_name())
        (folder / ".tmp-sandbox-agent-mine").touch()
        assert remove_leftovers(fd) == 0
    finally:
        os.close(fd)
        for path in folder.glob(".tmp*"):
            path.unlink()
    assert file.read_bytes() == b"old"


# --- file systems that can less -----------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["unnamed files", "exchange", "leases", "locks", "all", "proc"])
def test_a_file_system_that_can_less_gets_the_same_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    def refuse(number: int) -> Callable[..., Any]:
        def function(*_: object, **__: object) -> Any:
            raise OSError(number, os.strerror(number))

        return function

    if lacking in ("unnamed files", "all"):
        real = os.open

        def opened(path: Any, flags: int, *more: Any, **options: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "no")
            return real(path, flags, *more, **options)

        monkeypatch.setattr(os, "open", opened)
    if lacking in ("exchange", "all"):
        monkeypatch.setattr(syscalls, "renameat2", refuse(errno.EINVAL))
    if lacking in ("leases", "all"):
        monkeypatch.setattr(second_file, "take_lease", lambda fd, kind: None)
        monkeypatch.setattr(in_place, "take_lease", lambda fd, kind: None)
    if lacking in ("locks", "all"):
        monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
    if lacking == "proc":
        monkeypatch.setattr(os.path, "lexists", lambda path: False)
    if lacking == "all":
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    file = folder / "f"
    assert write_whole(str(file), b"first", TOKEN).is_new
    assert not write_whole(str(file), b"second", TOKEN).is_new
    assert edit(file, append(b"+mine")).notes == ()
    assert file.read_bytes() == b"second+mine"
    assert edit_against(file, lambda: file.write_bytes(b"theirs")).notes == (AGAIN,)
    assert file.read_bytes() == b"theirs+mine"
    assert [path.name for path in folder.iterdir()] == ["f"]


def test_threads_of_a_tool_write_too(folder: Path) -> None:
    """`pthread_sigmask` is the calling thread's own."""
    threads = [
        threading.Thread(target=lambda n=n: write_whole(f"f{n}", b"x", TOKEN)) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(path.name for path in folder.iterdir()) == ["f0", "f1", "f2", "f3"]
