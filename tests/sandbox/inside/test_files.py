"""The file tools: exact, bounded, and never hanging."""

from __future__ import annotations

import os
import re
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
from sandbox_agent_sandbox.capture import MODEL_BYTES
from sandbox_agent_sandbox.inside.tools import files, finding, searching, tree, writing
from sandbox_agent_sandbox.inside.tools.files import list_files, read_file
from sandbox_agent_sandbox.inside.tools.finding import find_files
from sandbox_agent_sandbox.inside.tools.searching import search_files
from sandbox_agent_sandbox.inside.worker.signature import describe
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError, ToolResult
from worker_child import WorkerChild

TOKEN = RunToken()


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder


def write_file(path: str, content: str) -> str | ToolResult:
    return writing.write_file(path, content, token=TOKEN)


def edit_file(path: str, old: str, new: str, replace_all: bool = False) -> str | ToolResult:
    return writing.edit_file(path, old, new, replace_all, token=TOKEN)


def find(pattern: str, path: str = ".") -> list[str]:
    return find_files(pattern, path, token=TOKEN).splitlines()


def search(pattern: str, path: str = ".", glob: str | None = None) -> list[str]:
    return search_files(pattern, path, glob, token=TOKEN).splitlines()


@pytest.mark.parametrize(
    "function",
    [
        read_file,
        writing.write_file,
        writing.edit_file,
        list_files,
        find_files,
        search_files,
    ],
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
    assert isinstance(text, str) and len(text) < MODEL_BYTES
    notice = text.splitlines()[-1]
    assert notice.startswith("[the file goes on: offset=")
    following = read_file("huge", offset=int(notice.split("=")[1][:-1]), limit=1)
    assert isinstance(following, str) and following.startswith("line\n[")
    with pytest.raises(ToolError, match="too many to edit here"):
        edit_file("huge", "line", "x", replace_all=True)


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
    assert search("abc") == [
        "[no line matches; 0 files were searched]",
        "[binary files, not searched: b]",
    ]
    assert search("abc", "b") == search("abc")


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


@pytest.mark.parametrize("path", ["$HOME/a.md", "${HOME}/a.md", "file:///etc/a", "http://h/a"])
def test_what_is_no_path_makes_no_folder_of_that_name(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("HOME", "/h")
    with pytest.raises(ToolError, match=r"write its value, /h$|is a URL; give the path"):
        write_file(path, "")
    assert os.listdir(workspace) == []
    first = path.partition("/")[0]
    (workspace / first).mkdir()  # then it is what is meant
    write_file(f"{first}/a", "")
    for name in ("$id.tsx", "routes/$HOME/a", "$nobody/a", "c:/a"):
        write_file(name, "")
        assert (workspace / name).is_file()
    assert write_file("a\n", "") == "created a\\n: 0 bytes"


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
    (workspace / "a").write_text("}\n}\n}\n")  # two places that overlap
    with pytest.raises(ToolError, match=r"old occurs more than once in 'a', first in lines 1, 2;"):
        edit_file("a", "}\n}\n", "z\n")


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
    monkeypatch.setattr(finding, "MAX_NAMES", 3)
    monkeypatch.setattr(searching, "MAX_MATCHES", 3)
    assert len(list_files().splitlines()) == 4
    assert list_files().endswith("[5 names, of which 3 are shown; find_files finds by name]")
    assert find("*") == ["f0", "f1", "f2", "[there are more than 3; narrow the pattern]"]
    assert search("x")[3:] == ["[there are more than 3 matches; narrow the search]"]
    monkeypatch.setattr(tree, "MAX_ENTRIES", 2)
    assert find("f?")[-1].startswith("[only the first 2 names were looked at")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", ["a.py", "src/b.py", "src/deep/er/c.py"]),
        ("src/**/er/*", ["src/deep/er/[x].txt", "src/deep/er/c.py"]),
        ("*.{py,txt}", ["a.py", "src/b.py", "src/deep/er/[x].txt", "src/deep/er/c.py"]),
    ],
)
def test_files_are_found_by_name_and_by_path(
    workspace: Path, pattern: str, found: list[str]
) -> None:
    for name in ("a.py", "src/b.py", "src/deep/er/c.py", "src/deep/er/[x].txt", ".git/d.py"):
        write_file(name, "")
    (workspace / "src/round").symlink_to("..")
    assert find(pattern) == [*found, "[links to folders, not followed: src/round]"]
    (workspace / "src/round").unlink()
    assert find(pattern, str(workspace)) == [str(workspace / name) for name in found]


def test_what_is_not_found_is_said_with_what_was_not_looked_at(workspace: Path) -> None:
    for name in ("README.md", "src/a.py", ".git/b.py"):
        write_file(name, "")
    assert find("*.rs") == ["[no file matches; .git was left out]"]
    assert find("*.rs *.go")[0].startswith("[no file matches; alternatives are written {a,b}")
    assert find("readme.*")[1:] == ["[1 match in other upper and lower case: README.md]"]
    assert find("src")[1:] == ["[folders match: src/; `NAME/**` finds the files in a folder]"]
    assert search("x", glob="*.rs")[0].startswith("[no file matches the glob '*.rs'")
    assert search("x", glob="[id].rs")[0].endswith(
        "a bracket that is part of a name; .git was left out]"
    )
    assert search("x") == ["[no line matches; 2 files were searched; .git was left out]"]
    assert "matched within one line" in search("a\\nb")[0]
    with pytest.raises(ToolError, match="does not match the glob"):
        search("x", "README.md", "*.py")


def test_a_name_that_the_pattern_may_mean_otherwise_is_said(workspace: Path) -> None:
    for name in ("app/[id]/page.tsx", "cafe\u0301.txt"):
        write_file(name, "")
    assert find("app/[id]/page.tsx") == [
        "[no file matches]",
        "[1 match where a bracket is part of the name; put a backslash before it: "
        "app/[id]/page.tsx]",
    ]
    assert find("app/\\[id\\]/*") == ["app/[id]/page.tsx"]
    assert find("caf\u00e9.txt")[1].startswith("[1 match with accents in another Unicode form; ")
    assert find("app/[[]id]/*") == ["app/[id]/page.tsx"]
    assert find("[{]id[}].ts") == ["[no file matches]"]


def test_a_line_is_found_whatever_begins_the_file_and_ends_the_line(workspace: Path) -> None:
    (workspace / "a").write_bytes(b"\xef\xbb\xbfimport os\r\nC:\\run\r\n")
    assert search("^import os$") == ["a:1: import os"]
    assert search(r"os\r$") == ["a:1: import os"]
    assert search(r"\\run$") == ["a:2: C:\\run"]
    assert search(r"\r\r") == ["[no line matches; 1 file was searched]"]


def test_a_search_in_bytes_that_are_not_utf8_is_said(workspace: Path) -> None:
    (workspace / "a").write_bytes("caf\u00e9".encode("latin-1"))
    (workspace / "b").write_text("\ufffd \u00e9")
    assert search("caf\u00e9") == [
        "[no line matches; 2 files were searched]",
        "[bytes that are not UTF-8 were searched as \ufffd: a]",
    ]


def test_what_cannot_be_searched_is_named_with_the_reason(workspace: Path) -> None:
    (workspace / "a").write_text("x")
    (workspace / "b").write_bytes(b"x\0")
    (workspace / "gone").symlink_to("nowhere")
    (workspace / "loop").symlink_to("loop")
    (workspace / "real").mkdir()
    (workspace / "real/c").write_text("x")
    (workspace / "linked").symlink_to("real")
    (workspace / "long").write_text("y" * 1_100_000 + "x\nx")
    assert search("x$") == [
        "a:1: x",
        f"long:1: ...{'y' * 100}x",
        "long:2: x",
        "real/c:1: x",
        "[long: lines of more than 1048576 bytes were searched in pieces]",
        "[binary files, not searched: b]",
        "[could not be read (No such file or directory): gone]",
        "[could not be read (Too many levels of symbolic links): loop]",
        "[links to folders, not followed: linked]",
    ]


def test_a_link_in_a_circle_and_one_that_leads_nowhere_are_listed_like_any_name(
    workspace: Path,
) -> None:
    (workspace / "loop").symlink_to("loop")
    (workspace / "gone").symlink_to("nowhere")
    (workspace / "a").touch()
    assert list_files().splitlines() == ["a", "gone", "loop"]
    assert find("*") == ["a", "gone", "loop"]
    with pytest.raises(ToolError, match="cannot read 'loop': Too many levels"):
        read_file("loop")
    with pytest.raises(ToolError, match="cannot write 'loop': Too many levels"):
        write_file("loop", "")


def test_a_folder_that_cannot_be_entered_is_named(workspace: Path) -> None:
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        for name in ("open", "shut"):
            Path(top, name).mkdir()
            Path(top, name, "f").write_text("x")
        Path(top, "way").symlink_to("shut/f")
        Path(top, "shut").chmod(0)

        def function(token: Any) -> object:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            return list_files(top) + "|" + search_files("x", top, token=token)

        with WorkerChild(function) as child:
            said = child.ended().value
        Path(top, "shut").chmod(0o755)
    listed, found = said.split("|")
    assert listed.splitlines() == ["open/", "shut/", "way"]
    assert found.replace(top, "TOP").splitlines() == [
        "TOP/open/f:1: x",
        "[could not be read (Permission denied): TOP/way]",
        "[folders that cannot be read (Permission denied): shut]",
    ]


def read_all(path: str) -> str:
    """The file, read on at every offset that a result names; each fits into what a model gets."""
    text, at = "", {}
    for _ in range(10_000):
        page = read_file(path, **at)
        assert isinstance(page, str) and len(page.encode()) <= MODEL_BYTES
        lines = re.search(r"\[the file goes on: offset=(\d+)\]\Z", page)
        inside = re.search(r"\n\[line .* To go on: offset=(\d+), column=(\d+)\]\Z", page)
        if lines:
            text += page[: lines.start()]
            assert text.endswith("\n")
            at = {"offset": int(lines[1])}
        elif inside:
            text += page[: inside.start()]
            at = {"offset": int(inside[1]), "column": int(inside[2])}
        else:
            return text + page
    raise AssertionError("it does not end")


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"x{n} = compute()  # some more text\n" for n in range(2550)),
        "é" * 300_000,
        "short\n" + "€" * 50_000 + "\nlast line",
        ("a" * 40_000 + "\n") * 3,
        "a" * (MODEL_BYTES - 512) + "\n",
        "a" * (MODEL_BYTES - 513) + "\nb",
        "\n" * 70_000,
    ],
    ids=["89 KB", "one line", "a long line in the middle", "long lines", "edge", "edge 2", "empty"],
)
def test_a_long_file_is_read_in_whole_lines_and_nothing_is_lost(workspace: Path, text: str) -> None:
    (workspace / "a").write_bytes(text.encode())
    assert read_all("a") == text


def test_what_is_not_utf8_is_shown_and_said(workspace: Path) -> None:
    (workspace / "a").write_bytes(b"\xe9t\xe9\n" * 20_000)
    page = read_file("a")
    assert isinstance(page, str) and len(page.encode()) <= MODEL_BYTES
    *lines, goes_on, note = page.splitlines()
    assert set(lines) == {"\ufffdt\ufffd"}
    assert goes_on == f"[the file goes on: offset={len(lines) + 1}]"
    assert note == "[bytes that are not UTF-8 are shown as \ufffd]"


def test_a_column_that_the_line_has_not_is_an_error(workspace: Path) -> None:
    (workspace / "a").write_text("abc\nde\n")
    assert read_file("a", offset=2, column=2) == "e\n"
    with pytest.raises(ToolError, match="line 1 of 'a' has only 4 bytes"):
        read_file("a", column=7)


def test_a_listing_is_cut_at_a_line_to_what_the_model_gets(workspace: Path) -> None:
    for number in range(300):
        (workspace / f"{number:03}{'n' * 200}").touch()
    for text in (list_files(), find_files("*", token=TOKEN)):
        *names, notice = text.splitlines()
        assert len(text.encode()) <= MODEL_BYTES
        assert {len(name) for name in names} == {203}
        assert notice == f"[{300 - len(names)} more lines do not fit; narrow what you ask for]"


def test_the_home_folder_is_meant_by_a_tilde(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert write_file("~/notes.md", "x y") == f"created {home}/notes.md: 3 bytes"
    assert read_file("~/notes.md") == "x y"
    assert edit_file("~/notes.md", "x", "z") == f"edited {home}/notes.md: 1 replacement"
    assert list_files("~") == "notes.md"
    assert find("*", "~") == find("~/*", "~") == [f"{home}/notes.md"]
    assert search("y", "~") == search("y", "~/notes.md") == [f"{home}/notes.md:1: z y"]
    assert os.listdir(workspace) == []
    write_file("~nobody-of-this-name", "x")
    assert os.listdir(workspace) == ["~nobody-of-this-name"]


def test_an_image_that_is_too_large_is_an_error_with_the_limit(workspace: Path) -> None:
    with open(workspace / "a.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n\0")
        file.truncate(1 << 21)
    with pytest.raises(ToolError, match=r"image/png has 2097152 bytes; .* at most 1048576"):
        read_file("a.png")


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
        "[not regular files, not searched: fifo]",
    ]
    assert search("os$", "src", "*.py") == ["src/a.py:1: import os"]
    assert search(r"x\s=", "src/a.py") == ["src/a.py:2: x = 1"]
    write_file("wide", "a" * 300 + "b" + "c" * 900)
    assert search("b", "wide") == [f"wide:1: {'a' * 300}b{'c' * 199}..."]
    assert search("bc*$", "wide") == [f"wide:1: ...{'a' * 100}b{'c' * 399}..."]
    assert search("cc$", "wide") == [f"wide:1: ...{'c' * 102}"]
    with pytest.raises(ToolError, match=r"not a regular expression.*backslash"):
        search("(")
    with pytest.raises(ToolError, match="cannot read 'missing': No such file"):
        search("x", "missing")


def test_search_reads_a_bounded_part_of_a_huge_file(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_SEARCHED", 10_000)
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
