"""The file tools: exact, bounded, and never hanging."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import Cancelled, RunToken
from sandbox_agent_sandbox.inside.tools import files, tree
from sandbox_agent_sandbox.inside.tools.files import (
    edit_file,
    find_files,
    list_files,
    read_file,
    search_files,
    write_file,
)
from sandbox_agent_sandbox.inside.worker.signature import describe
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError
from worker_child import WorkerChild

TOKEN = RunToken()


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder


def find(pattern: str, path: str = ".") -> list[str]:
    return find_files(pattern, path, token=TOKEN).splitlines()


def search(pattern: str, path: str = ".", glob: str | None = None) -> list[str]:
    return search_files(pattern, path, glob, token=TOKEN).splitlines()


@pytest.mark.parametrize(
    "function", [read_file, write_file, edit_file, list_files, find_files, search_files]
)
def test_every_file_tool_and_parameter_is_explained_to_the_model(function: Any) -> None:
    spec = describe(function, FunctionRef("m", function.__name__))
    assert spec.description
    for name, shown in spec.parameters["properties"].items():
        assert shown.get("description"), name
    assert "token" not in spec.parameters["properties"]


def test_a_file_is_read_as_it_is(workspace: Path) -> None:
    (workspace / "a").write_bytes("é\r\nb".encode())
    assert read_file("a") == "é\r\nb"
    assert read_file(str(workspace / "a")) == "é\r\nb"
    (workspace / "empty").touch()
    assert read_file("empty") == ""
    assert read_file("empty", offset=1) == ""


def test_some_lines_are_read_with_a_notice_where_to_go_on(workspace: Path) -> None:
    (workspace / "a").write_text("1\n2\n3\n4")
    assert read_file("a", offset=2, limit=2) == "2\n3\n[the file goes on: offset=4]"
    assert read_file("a", offset=4) == "4"
    assert read_file("a", limit=4) == "1\n2\n3\n4"
    with pytest.raises(ToolError, match="has no line 5; its last line is 4"):
        read_file("a", offset=5)


def test_a_huge_file_is_never_read_whole(workspace: Path) -> None:
    with open(workspace / "huge", "wb") as file:
        file.write(b"x" * 10_000 + b"\n" + (b"line\n" * 100_000))
        file.truncate(1 << 40)
    text = read_file("huge")
    assert len(text) < files.MAX_READ + 100
    notice = text.splitlines()[-1]
    assert notice.startswith("[the file goes on: offset=")
    following = read_file("huge", offset=int(notice.split("=")[1][:-1]), limit=1)
    assert following.startswith("line\n[")
    with pytest.raises(ToolError, match="too many to edit here"):
        edit_file("huge", "line", "x", replace_all=True)


def test_one_endless_line_is_cut_and_said_to_be(workspace: Path) -> None:
    (workspace / "a").write_text("é" * files.MAX_READ)
    assert read_file("a").endswith("[line 1 is longer than 262144 bytes; this is its start]")
    with pytest.raises(ToolError, match="its last line is 1"):
        read_file("a", offset=2)


@pytest.mark.parametrize("tool", ["read", "write", "edit", "search"])
def test_what_is_no_regular_file_is_refused_at_once(workspace: Path, tool: str) -> None:
    os.mkfifo("fifo")
    (workspace / "link").symlink_to("fifo")
    (workspace / "folder").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    kinds = {"fifo": "FIFO", "link": "FIFO", "socket": "socket", "/dev/zero": "device"}
    tools: dict[str, Callable[[str], object]] = {
        "read": read_file,
        "write": lambda path: write_file(path, "x"),
        "edit": lambda path: edit_file(path, "a", "b"),
        "search": lambda path: search(".", path),
    }
    run = tools[tool]
    for path, kind in kinds.items():
        with pytest.raises(ToolError, match=f"is a {kind}, not a regular file"):
            run(path)
    if tool != "search":
        with pytest.raises(ToolError, match=r"is a folder; list_files"):
            run("folder")
    listener.close()


def test_a_binary_file_is_named_as_such(workspace: Path) -> None:
    (workspace / "b").write_bytes(b"\x7fELF\0abc")
    with pytest.raises(ToolError, match="'b' is a binary file of 8 bytes"):
        read_file("b")
    with pytest.raises(ToolError, match="binary"):
        edit_file("b", "abc", "x")
    assert search("abc") == ["[no line matches]"]


@pytest.mark.parametrize("path", ["missing", "no/such/folder", "nul\0byte", "\ud800", "x" * 300])
def test_a_path_that_cannot_be_read_is_an_error_that_names_it(path: str) -> None:
    with pytest.raises(ToolError, match="cannot read '"):
        read_file(path)


def test_writing_makes_folders_and_says_what_it_did(workspace: Path) -> None:
    assert write_file("a/b/c.txt", "é\n") == "created a/b/c.txt: 3 bytes"
    assert write_file("a/b/c.txt", "") == "replaced a/b/c.txt: 0 bytes"
    assert (workspace / "a/b/c.txt").read_bytes() == b""
    with pytest.raises(ToolError, match=r"cannot write 'a/b/c.txt/d'"):
        write_file("a/b/c.txt/d", "")
    with pytest.raises(ToolError, match="does not end in a slash"):
        write_file("new/", "")
    with pytest.raises(ToolError, match="content is not valid Unicode"):
        write_file("a", "\udc00")


def test_replacing_keeps_the_mode_follows_links_and_leaves_nothing_beside(workspace: Path) -> None:
    script = workspace / "script"
    script.write_text("old")
    script.chmod(0o750)
    (workspace / "link").symlink_to("script")
    with open(script) as reader:
        write_file("link", "new")
        assert reader.read() == "old"
    assert (workspace / "link").is_symlink()
    assert script.read_text() == "new"
    assert stat.S_IMODE(script.stat().st_mode) == 0o750
    assert sorted(os.listdir()) == ["link", "script"]


@pytest.mark.parametrize(("name", "raised"), [("open", ""), ("read-only", "ToolError")])
def test_a_file_is_written_in_place_where_its_folder_is_closed(name: str, raised: str) -> None:
    # Not below tmp_path, which no other user can enter.
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        folder = Path(top, "closed")
        folder.mkdir()
        file = folder / name
        file.write_text("old")
        file.chmod(0o666 if name == "open" else 0o444)
        folder.chmod(0o555)

        def function(token: Any) -> object:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            return write_file(str(file), "new")

        with WorkerChild(function) as child:
            assert child.ended().raised == raised
        assert file.read_text() == ("old" if raised else "new")
        assert os.listdir(folder) == [name]
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"a\nb\nc", "b", "x", b"a\nx\nc"),
        (b"a\r\nb\r\nc", "a\nb", "x\ny\nz", b"x\r\ny\r\nz\r\nc"),
        (b"a\r\nb\r\n", "b", "x\ny", b"a\r\nx\r\ny\r\n"),
        (b"a\r\nb\r\n", "a\r\nb", "x\r\ny", b"x\r\ny\r\n"),
        (b"a\r\nb\nc\n", "b\nc", "x\ny", b"a\r\nx\ny\n"),
        (b"a\nb\r\nc\r\n", "b\nc", "x\ny", b"a\nx\r\ny\r\n"),
        (b"latin \xe9\nb", "b", "é", b"latin " + b"\xe9\n\xc3\xa9"),
        (b"\\1 $", "$", "\\1", b"\\1 \\1"),
    ],
)
def test_an_edit_changes_nothing_but_the_text_it_names(
    workspace: Path, before: bytes, old: str, new: str, after: bytes
) -> None:
    (workspace / "a").write_bytes(before)
    assert edit_file("a", old, new) == "edited a: 1 replacement"
    assert (workspace / "a").read_bytes() == after


def test_an_edit_that_is_not_unique_says_how_many_and_where(workspace: Path) -> None:
    (workspace / "a").write_text("x\ny\nx\nx x\n")
    with pytest.raises(ToolError, match=r"old occurs 4 times in 'a', first in lines 1, 3, 4, 4;"):
        edit_file("a", "x", "z")
    assert edit_file("a", "x", "z", replace_all=True) == "edited a: 4 replacements"
    assert (workspace / "a").read_text() == "z\ny\nz\nz z\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "x", "old is empty"),
        ("a", "a", "nothing would change"),
        ("no", "x", "does not occur in 'a'; read_file"),
        ("a b", "x", "with other whitespace"),
        ("\ud800", "x", "old is not valid Unicode"),
    ],
)
def test_an_edit_that_cannot_be_says_why(workspace: Path, old: str, new: str, message: str) -> None:
    (workspace / "a").write_text("a\n  b\n")
    with pytest.raises(ToolError, match=message):
        edit_file("a", old, new)
    assert (workspace / "a").read_text() == "a\n  b\n"


def test_a_folder_is_listed_with_its_folders_marked(workspace: Path) -> None:
    assert list_files() == "[empty folder]"
    (workspace / "b").mkdir()
    (workspace / "a").touch()
    (workspace / "c").symlink_to("b")
    Path(os.fsdecode(b"odd\n\xff")).touch()
    assert list_files(".").splitlines() == ["a", "b/", "c/", "odd\\n\\\\xff"]
    with pytest.raises(ToolError, match="cannot list 'a': Not a directory"):
        list_files("a")


def test_long_listings_are_cut_with_a_notice(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (workspace / f"f{number}").write_text("x\nx\n")
    monkeypatch.setattr(files, "MAX_NAMES", 3)
    monkeypatch.setattr(files, "MAX_MATCHES", 3)
    assert len(list_files().splitlines()) == 4
    assert list_files().endswith("[there are more than 3; find_files finds by name]")
    assert find("*") == ["f0", "f1", "f2", "[there are more than 3; narrow the pattern]"]
    assert search("x")[3:] == ["[there are more than 3 matches; narrow the search]"]
    monkeypatch.setattr(tree, "MAX_ENTRIES", 2)
    assert find("f?")[-1].startswith("[only the first 2 names were looked at")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", ["a.py", "src/b.py", "src/deep/er/c.py"]),
        ("src/*.py", ["src/b.py"]),
        ("./src/**/*.py", ["src/b.py", "src/deep/er/c.py"]),
        ("**/deep/**", ["src/deep/er/[x].txt", "src/deep/er/c.py"]),
        ("**/er/c.py", ["src/deep/er/c.py"]),
        ("src/**/er/*", ["src/deep/er/[x].txt", "src/deep/er/c.py"]),
        ("[!ab].p?", ["src/deep/er/c.py"]),
        ("[[]x].txt", ["src/deep/er/[x].txt"]),
        ("a.py[", ["[no file matches]"]),
        ("*.PY", ["[no file matches]"]),
    ],
)
def test_globs_find_by_name_and_by_path(workspace: Path, pattern: str, found: list[str]) -> None:
    for name in ("a.py", "src/b.py", "src/deep/er/c.py", "src/deep/er/[x].txt", ".git/d.py"):
        write_file(name, "")
    (workspace / "src/round").symlink_to("..")
    assert find(pattern) == found


@pytest.mark.parametrize("pattern", ["", "[z-a]"])
def test_a_glob_that_cannot_be_is_refused(pattern: str) -> None:
    with pytest.raises(ToolError):
        find(pattern)


def test_search_gives_path_line_and_text(workspace: Path) -> None:
    write_file("src/a.py", "import os\r\nx = 1\n")
    write_file("src/b.txt", "import this")
    write_file("long", "import " + "y" * 2000)
    (workspace / ".git").mkdir()
    write_file(".git/c", "import")
    os.mkfifo("fifo")
    assert search("^import") == [
        f"long:1: import {'y' * 493}...",
        "src/a.py:1: import os",
        "src/b.txt:1: import this",
        "[1 files could not be read]",
    ]
    assert search("os$", "src", "*.py") == ["src/a.py:1: import os"]
    assert search(r"x\s=", "src/a.py") == ["src/a.py:2: x = 1"]
    with pytest.raises(ToolError, match=r"not a regular expression.*backslash"):
        search("(")
    with pytest.raises(ToolError, match="cannot read 'missing': No such file"):
        search("x", "missing")


def test_search_reads_a_bounded_part_of_a_huge_file(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_SEARCHED", 10_000)
    write_file("a", "first\n" + "x" * 20_000 + "\nlast\n")
    assert search("first|last") == ["a:1: first", "[a: only its first 10000 bytes were searched]"]


def test_the_flag_ends_a_search_between_two_files() -> None:
    write_file("a", "x")
    token = RunToken()
    token.cancel(CancelReason.INTERRUPT)
    with pytest.raises(Cancelled):
        search_files("x", token=token)
    with pytest.raises(Cancelled):
        find_files("*", token=token)


def test_sigterm_ends_an_expression_that_takes_for_ever() -> None:
    # Only SIGTERM can: within one match, nothing looks at the flag.
    write_file("a", "a" * 60 + "b\n")

    def function(token: Any) -> object:
        os.write(1, b"ready")
        return search_files("(a+)+$", token=token)

    with WorkerChild(function) as child:
        child.until(b"ready")
        os.kill(child.pid, signal.SIGTERM)
        assert child.ended().raised == "Cancelled"
