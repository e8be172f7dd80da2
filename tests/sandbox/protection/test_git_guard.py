"""What a call changes in the settings of a repository is undone, whatever it has put there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection.finding import Finding, FindingKind
from sandbox_agent_sandbox.protection.git_guard import GitGuard
from sandbox_agent_sandbox.protection.scan import look

PLAIN = "[core]\n\tbare = false\n"
EVIL = "[alias]\n\tst = !evil\n"


@pytest.fixture
def git(tmp_path: Path) -> Path:
    """The git folder of a repository."""
    git = tmp_path / "w" / ".git"
    git.mkdir(parents=True)
    (git / "config").write_text(PLAIN)
    return git


def guard(git: Path, *, restores: bool = True) -> GitGuard:
    top = str(git.parent)
    return GitGuard(look([top]), restores=restores, name=lambda path: os.path.relpath(path, top))


def kinds(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.kind.value, one.path) for one in found]


def test_a_new_setting_is_taken_out_and_named(git: Path) -> None:
    watching = guard(git)
    (git / "config").write_text(PLAIN + EVIL + "[user]\n\tname = you\n")
    (git / "config").chmod(0o640)
    (found,) = watching.check("call_1")
    assert found == Finding(FindingKind.RESTORED, ".git/config", "alias.st = !evil", "call_1")
    assert (git / "config").read_text() == PLAIN + "[alias]\n[user]\n\tname = you\n"
    assert (git / "config").stat().st_mode & 0o777 == 0o640
    assert os.listdir(git) == ["config"]
    assert not list(watching.check("call_2")), "nothing has changed since"


def test_a_setting_without_a_program_stays(git: Path) -> None:
    watching = guard(git)
    (git / "config").write_text(PLAIN + "[user]\n\tname = you\n")
    assert not list(watching.check("call_1"))
    assert "you" in (git / "config").read_text()


def link(git: Path) -> None:
    (git / "elsewhere").write_text(EVIL)
    (git / "config").unlink()
    (git / "config").symlink_to("elsewhere")


def fifo(git: Path) -> None:
    (git / "config").unlink()
    os.mkfifo(git / "config")


def with_nul(git: Path) -> None:
    (git / "config").write_bytes(b'[alias "\0"]\nst = evil\n')


def too_large(git: Path) -> None:
    (git / "config").write_text(EVIL + "#" * (1 << 21))


def shut(git: Path) -> None:
    (git / "config").write_text(PLAIN + EVIL)
    git.chmod(0o500)


def over_a_lock(git: Path) -> None:
    (git / "config").write_text(PLAIN + EVIL)
    (git / "config.lock").write_text("")


@pytest.mark.parametrize("change", [link, fifo, with_nul, too_large, shut, over_a_lock])
def test_whatever_stands_in_place_of_the_settings_is_undone(
    git: Path, change: Callable[[Path], None]
) -> None:
    watching = guard(git)
    change(git)
    found = list(watching.check("", last=True))
    git.chmod(0o700)
    assert kinds(found) == [("restored", ".git/config")]
    assert not (git / "config").is_symlink()
    assert "evil" not in (git / "config").read_text()
    assert "bare" in (git / "config").read_text()


def test_settings_that_git_is_writing_are_left_until_it_has_written_them(git: Path) -> None:
    watching = guard(git)
    over_a_lock(git)
    assert not list(watching.check("call_1"))
    assert "evil" in (git / "config").read_text()
    (git / "config.lock").unlink()
    assert kinds(list(watching.check("call_2"))) == [("restored", ".git/config")]


def test_a_folder_in_place_of_the_settings_is_said(git: Path) -> None:
    watching = guard(git)
    (git / "config").unlink()
    (git / "config").mkdir()
    assert kinds(list(watching.check("", last=True))) == [("not restored", ".git/config")]


def test_no_other_git_folder_takes_its_place(git: Path) -> None:
    (git.parent / "sub").mkdir()
    (git.parent / "sub/.git").write_text("gitdir: ../.git/modules/sub\n")
    watching = guard(git)
    (git / "commondir").write_text("../evil\n")
    (git / "config.worktree").write_text(EVIL)
    (git.parent / "sub/.git").write_text("gitdir: ../evil\n")
    found = list(watching.check("call_1"))
    assert sorted(kinds(found)) == [
        ("restored", ".git/commondir"),
        ("restored", ".git/config.worktree"),
        ("restored", "sub/.git"),
    ]
    assert not (git / "commondir").exists()
    assert "evil" not in (git / "config.worktree").read_text()
    assert (git.parent / "sub/.git").read_text() == "gitdir: ../.git/modules/sub\n"


def test_files_that_the_settings_include_count_too(git: Path) -> None:
    (git / "config").write_text(PLAIN + "[include]\n\tpath = ../shared\n")
    (git.parent / "shared").write_text("[user]\n\tname = you\n")
    watching = guard(git)
    (git.parent / "shared").write_text("[user]\n\tname = you\n" + EVIL)
    assert kinds(list(watching.check("call_1"))) == [("restored", "shared")]
    assert (git.parent / "shared").read_text() == "[user]\n\tname = you\n[alias]\n"


def test_a_link_above_the_settings_is_not_followed(git: Path, tmp_path: Path) -> None:
    """A tool exchanges the repository for a link to another one of the user's."""
    other = tmp_path / "other"
    shutil.copytree(git, other)
    watching = guard(git)
    (other / "config").write_text(PLAIN + EVIL)
    shutil.rmtree(git)
    git.symlink_to(other)
    list(watching.check("", last=True))
    assert (other / "config").read_text() == PLAIN + EVIL


def test_what_was_no_ordinary_file_before_is_never_removed(git: Path, tmp_path: Path) -> None:
    """A `.git` that is a link, and settings that are one, as git-new-workdir makes them."""
    (tmp_path / "other").mkdir()
    (git / "config").rename(tmp_path / "config")
    (git / "config").symlink_to(tmp_path / "config")
    (git.parent / "sub").mkdir()
    (git.parent / "sub/.git").symlink_to(tmp_path / "other")
    watching = guard(git)
    for path in (git / "config", git.parent / "sub/.git"):
        target = os.readlink(path)
        path.unlink()
        path.symlink_to(target)
    found = list(watching.check("", last=True))
    assert kinds(found) == [("not restored", ".git/config"), ("not restored", "sub/.git")]
    assert (git / "config").is_symlink() and (git.parent / "sub/.git").is_symlink()


def test_a_repository_that_is_gone_is_no_trouble(git: Path) -> None:
    watching = guard(git)
    shutil.rmtree(git)
    assert not list(watching.check("", last=True))


def test_where_it_is_turned_off_it_is_said(git: Path) -> None:
    watching = guard(git, restores=False)
    (git / "config").write_text(PLAIN + EVIL)
    (git / "commondir").write_text("../evil\n")
    assert sorted(kinds(list(watching.check("call_1")))) == [
        ("changed", ".git/commondir"),
        ("changed", ".git/config"),
    ]
    assert (git / "config").read_text() == PLAIN + EVIL


def link_of_git(top: Path, secret: Path) -> Path:
    (top / ".git").symlink_to(secret)
    return top / ".git"


def link_that_a_file_names(top: Path, secret: Path) -> Path:
    (top / ".git").write_text("gitdir: other/git\n")
    (top / "other").symlink_to(secret.parent)
    return top / "other"


def link_in_an_include(top: Path, secret: Path) -> Path:
    (top / ".git").mkdir()
    (top / ".git/config").write_text(f"[include]\n\tpath = ../other/{secret.name}/config\n")
    (top / "other").symlink_to(secret.parent)
    return top / "other"


@pytest.mark.parametrize("plant", [link_of_git, link_that_a_file_names, link_in_an_include])
def test_nothing_from_behind_a_link_is_put_where_tools_can_read_it(
    tmp_path: Path, plant: Callable[[Path, Path], Path]
) -> None:
    """A tool of an earlier run leaves the link. One of this run puts a folder in its place, with a
    file that the guard would set back."""
    secret, top = tmp_path / "home" / "git", tmp_path / "w"
    secret.mkdir(parents=True)
    top.mkdir()
    (secret / "config").write_text("[user]\n\ttoken = s3cret\n")
    link = plant(top, secret)
    watching = GitGuard(look([str(top)]), restores=True, name=str)
    link.unlink()
    inner = link if link.name == ".git" else link / "git"
    inner.mkdir(parents=True)
    (inner / "config").write_bytes(b"\0")
    list(watching.check("call_1"))
    list(watching.check("", last=True))
    files = [path for path in top.rglob("*") if path.is_file()]
    assert not [path for path in files if b"s3cret" in path.read_bytes()]
    assert "s3cret" in (secret / "config").read_text()


def test_no_file_that_a_tool_makes_keeps_a_setting_from_being_undone(git: Path) -> None:
    watching = guard(git)
    (git / "config").write_text(PLAIN + EVIL)
    (git / f".config.sandbox-agent-{os.getpid()}").write_text("taken")
    (git / "config.lock").write_text("taken")
    assert not list(watching.check("call_1")), "git may be writing it"
    assert kinds(list(watching.check("", last=True))) == [("restored", ".git/config")]
    assert "evil" not in (git / "config").read_text()


def test_the_settings_of_a_worktree_elsewhere_are_undone(git: Path) -> None:
    """Its working tree need not lie where tools can write; what is in the git folder does."""
    tree = git / "worktrees/elsewhere"
    tree.mkdir(parents=True)
    (tree / "HEAD").write_text("ref: refs/heads/main\n")
    (tree / "commondir").write_text("../..\n")
    watching = guard(git)
    (tree / "config.worktree").write_text(EVIL)
    (tree / "commondir").write_text("../../../planted\n")
    assert sorted(kinds(list(watching.check("", last=True)))) == [
        ("restored", ".git/worktrees/elsewhere/commondir"),
        ("restored", ".git/worktrees/elsewhere/config.worktree"),
    ]
    assert (tree / "commondir").read_text() == "../..\n"
    assert "evil" not in (tree / "config.worktree").read_text()


def test_a_working_tree_behind_a_link_is_not_the_tools_own(git: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (git.parent / "link").symlink_to(tmp_path / "outside")
    (git.parent / "folder").mkdir()
    watching = guard(git)
    (git / "config").write_text(PLAIN + "\tworktree = ../folder\n")
    assert not list(watching.check("call_1"))
    (git / "config").write_text(PLAIN + "\tworktree = ../link\n")
    assert kinds(list(watching.check("call_2"))) == [("restored", ".git/config")]


@pytest.mark.parametrize("name", ["objects", "commondir"])
def test_a_folder_of_tools_that_is_itself_a_git_folder_counts(tmp_path: Path, name: str) -> None:
    """A bare repository as the workspace; what a repository keeps of a worktree, in `write`."""
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    if name == "objects":
        (tmp_path / "objects").mkdir()
        (tmp_path / "refs").mkdir()
    else:
        (tmp_path / "commondir").write_text("../..\n")
    (tmp_path / "config").write_text(PLAIN)
    watching = GitGuard(look([str(tmp_path)]), restores=True, name=os.path.basename)
    for changed in ("config", "config.worktree"):
        (tmp_path / changed).write_text(PLAIN + EVIL)
    (tmp_path / "commondir").write_text("../../evil\n")
    assert sorted(kinds(list(watching.check("call_1")))) == [
        ("restored", "commondir"), ("restored", "config"), ("restored", "config.worktree"),
    ]  # fmt: skip
    assert not [one for one in tmp_path.iterdir() if one.is_file() and "evil" in one.read_text()]
