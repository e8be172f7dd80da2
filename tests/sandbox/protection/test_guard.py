"""After a run everything is named that was left in it and may start programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection.guard import Guard
from sandbox_agent_sandbox.protection.scan import look


def make(top: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)


def guard(top: Path) -> Guard:
    return Guard(look([str(top)]), workspace=str(top))


def found(watching: Guard) -> list[tuple[str, str]]:
    return sorted((one.kind.value, one.path) for one in watching.at_end())


@pytest.fixture
def top(tmp_path: Path) -> Path:
    make(tmp_path, ".git/HEAD", ".git/hooks/pre-commit", ".github/workflows/ci.yml", ".npmrc")
    return tmp_path


def test_where_nothing_was_left_there_is_nothing_to_say(top: Path) -> None:
    watching = guard(top)
    make(top, "src/app.py", "node_modules/p/.npmrc", ".git/objects/ab/cd")
    (top / ".npmrc").touch()
    make(top, ".npmrc")  # written anew, with the same content
    assert found(watching) == []


def test_what_is_new_is_named(top: Path) -> None:
    watching = guard(top)
    make(top, "new/.git/HEAD", "b/HEAD", "b/objects/x", "b/refs/x", "link/.git", "deep/.envrc")
    make(top, ".vscode/tasks.json", ".github/workflows/more.yml", ".git/modules/m/HEAD")
    assert found(watching) == [
        ("new", ".github/workflows/more.yml"),
        ("new", ".vscode"),
        ("new", "b"),
        ("new", "deep/.envrc"),
        ("new", "link/.git"),
        ("new", "new/.git"),
    ]


def test_what_was_changed_is_named(top: Path) -> None:
    make(top, "other/.git/HEAD")
    watching = guard(top)
    make(top, ".npmrc", ".github/workflows/ci.yml", ".git/hooks/pre-commit", text="evil")
    make(top, ".git/hooks/post-checkout")
    make(top, ".git/hooks/post-checkout.sample")
    (top / "other/.git").rename(top / "other/away")
    make(top, "other/.git/HEAD")
    assert found(watching) == [
        ("changed", ".git/hooks/pre-commit"),
        ("changed", ".github/workflows/ci.yml"),
        ("changed", ".npmrc"),
        ("changed", "other/.git"),
        ("new", ".git/hooks/post-checkout"),
    ]


def test_a_hook_that_is_changed_by_another_name_is_named(top: Path) -> None:
    (top / "other").hardlink_to(top / ".git/hooks/pre-commit")
    watching = guard(top)
    make(top, "other", text="evil")
    assert found(watching) == [("changed", ".git/hooks/pre-commit")]


def test_what_was_undone_after_a_call_is_named_once_more_at_the_end(top: Path) -> None:
    make(top, ".git/config", text="[core]\n\tbare = false\n")
    watching = guard(top)
    make(top, ".git/config", text="[alias]\n\tst = !evil\n")
    (undone,) = watching.after_call("call_1")
    assert undone.call == "call_1"
    assert found(watching) == [("restored", ".git/config")]


def test_a_folder_that_a_tool_has_shut_is_named(top: Path) -> None:
    watching = guard(top)
    make(top, "shut/.envrc")
    (top / "shut").chmod(0)
    seen = found(watching)
    (top / "shut").chmod(0o700)
    assert seen == ([("new", "shut/.envrc")] if os.geteuid() == 0 else [("unseen", "shut")])


def test_that_not_all_was_looked_at_is_said(top: Path) -> None:
    (last,) = [one for one in guard(top).at_end(lambda: True) if one.kind.value == "unseen"]
    assert "not all was looked at" in last.what


def test_the_texts_of_a_finding_are_short_and_valid(top: Path) -> None:
    watching = guard(top)
    odd = os.fsdecode(os.fsencode(top) + b"/\xff" + b"a" * 200)
    os.makedirs(odd + "/" + "b" * 200)
    Path(odd, "b" * 200, ".envrc").touch()
    (one,) = watching.at_end()
    assert one.path.startswith("\\xff")
    assert len(one.path) < 310
    one.path.encode("utf-8")


def test_hooks_outside_are_not_read(top: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No tool can write there. And it may be a folder of devices, where open(2) does something."""
    outside = tmp_path_factory.mktemp("outside")
    make(outside, "pre-push")
    make(top, "one/.git/config", text=f"[core]\n\thooksPath = {outside}\n")
    make(top, "two/.git/HEAD")
    (top / "two/.git/hooks").symlink_to(outside)
    watching = guard(top)
    make(outside, "pre-push", "more", text="by the user")
    assert found(watching) == []
    (top / "two/.git/hooks").unlink()
    make(top, "two/.git/hooks/pre-push")
    assert found(watching) == [("new", "two/.git/hooks/pre-push")]


def test_what_holds_too_many_folders_to_read_is_named_itself(top: Path) -> None:
    make(top, ".vscode/tasks.json")
    watching = guard(top)
    for number in range(1001):
        (top / f".vscode/{number}").mkdir()
    make(top, ".vscode/0/hidden", ".vscode/tasks.json", text="changed")
    assert ("changed", ".vscode/tasks.json") in found(watching)
    assert ("new", ".vscode") in found(watching)


def test_what_a_link_leads_to_counts_as_the_link(top: Path) -> None:
    make(top, "conf/envrc", "conf/editor/tasks.json", "scripts/check", "conf/editor/same.json")
    (top / ".envrc").symlink_to("conf/envrc")
    (top / ".vscode").symlink_to("conf/editor")
    (top / ".git/hooks/pre-push").symlink_to("../../scripts/check")
    (top / ".idea").symlink_to(".")
    watching = guard(top)
    make(top, "conf/editor/same.json", "free")  # with the same content, and no file of an editor
    assert found(watching) == []
    make(top, "conf/envrc", "conf/editor/tasks.json", "scripts/check", text="evil")
    assert found(watching) == [
        ("changed", ".envrc"),
        ("changed", ".git/hooks/pre-push"),
        ("changed", ".vscode/tasks.json"),
    ]


def test_of_a_new_worktree_its_own_file_is_named_alone(top: Path) -> None:
    watching = guard(top)
    make(top, ".git/worktrees/tree/HEAD", ".git/worktrees/tree/commondir", "tree/.git")
    assert found(watching) == [("new", "tree/.git")]


def test_settings_with_a_nul_byte_are_no_trouble(top: Path) -> None:
    (top / ".git/config").write_bytes(
        b"[core]\n\thooksPath = a\0b\n[include]\n\tpath = c\0d\n[core]\n\tworktree = e\0f\n"
    )
    assert found(guard(top)) == []
