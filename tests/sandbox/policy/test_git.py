"""What a sandbox learns from the user's git, and which git folders it shows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent_sandbox.plan import Mask, Plan
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import HostFacts


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path.resolve()
    for name in ("root", "home", "python", "code", "work"):
        (folder / name).mkdir()
    return folder


def plan(top: Path, workspace: str = "work", home: str = "home", **policy: Any) -> Plan:
    facts = HostFacts(
        uid=1234,
        gid=1235,
        home=top / home,
        path=(),
        prefix=top / "python",
        base_prefix=top / "python",
        code=(top / "code",),
        import_path=(),
        root=top / "root",
    )
    return make_plan(Policy.model_validate(policy), facts, workspace=top / workspace)


def inside(made: Plan, name: str = ".config/git/config") -> str:
    return next((file.text for file in made.files if file.path == f"/tmp/home/{name}"), "")


def settings(made: Plan) -> list[str]:
    lines = [line.strip() for line in inside(made).splitlines()[1:]]
    return [f"{lines[i]} {lines[i + 1]}" for i in range(0, len(lines) - 2, 2)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[user]\nname = Ada\n", '[user] name = "Ada"'),
        ("[USER] NAME=Ada  # who\n", '[user] name = "Ada"'),
        ('[user]\n\tname = "Ada # L; " x ; y\n', '[user] name = "Ada # L;  x"'),
        ("[user]\nname = Ada \\\nLovelace\n", '[user] name = "Ada Lovelace"'),
        ('[user]\nname = "a\\"b\\\\c\\td"\n', '[user] name = "a\\"b\\\\c\td"'),
        ("[user]\nname = Zoë\n", '[user] name = "Zoë"'),
        ("[user]\nuseConfigOnly\n", '[user] useconfigonly = "true"'),
        ("[init]\ndefaultBranch = main\n", '[init] defaultbranch = "main"'),
    ],
)
def test_a_setting_is_read_as_git_reads_it(top: Path, text: str, expected: str) -> None:
    (top / "home/.gitconfig").write_text(text)
    assert settings(plan(top)) == [expected]
    if shutil.which("git"):
        (top / "copy").write_text(inside(plan(top)))
        assert listed(top / "home/.gitconfig") == listed(top / "copy")


def listed(file: Path) -> tuple[bytes, bytes]:
    """The first setting in a file, as git itself reads it: name and value."""
    command = ["git", "config", "--file", str(file), "--list", "-z"]
    out = subprocess.run(command, capture_output=True, check=True).stdout
    name, _, value = out.split(b"\0")[0].partition(b"\n")
    return name, value or b"true"


def test_what_names_a_program_or_a_credential_is_not_copied(top: Path) -> None:
    (top / "home/.gitconfig").write_text(
        "[user]\nname = Ada\nsigningkey = K\n"
        '[credential]\nhelper = store\n[credential "https://x"]\nusername = u\n'
        "[core]\neditor = vi\nhooksPath = /h\nfsmonitor = /f\nsshCommand = ssh -i k\n"
        '[alias]\nx = !sh\n[filter "lfs"]\nclean = git-lfs\n[url "https://t0k3n@x/"]\n'
        "insteadOf = https://x/\n[http]\nextraHeader = Authorization: s3cret\n"
        "[diff]\nexternal = d\n"
    )
    assert settings(plan(top)) == ['[user] name = "Ada"']


def test_what_is_included_is_read_and_a_circle_ends(top: Path) -> None:
    (top / "home/.gitconfig").write_text(
        "[include]\npath = more\n[include]\npath = ~/.gitconfig\n"
        f'[includeIf "gitdir:{top}/work/"]\npath = here\n'
        '[includeIf "gitdir:/other/"]\npath = there\n'
    )
    (top / "home/more").write_text("[user]\nname = Ada\n")
    (top / "home/here").write_text("[user]\nemail = here\n")
    (top / "home/there").write_text("[user]\nemail = there\n")
    (top / "work/.git").mkdir()
    (top / "work/.git/HEAD").write_text("ref: refs/heads/main\n")
    assert settings(plan(top)) == ['[user] name = "Ada"', '[user] email = "here"']
    (top / "work/.git/HEAD").unlink()
    assert '[user] email = "here"' not in settings(plan(top))


def test_a_configuration_that_tools_can_write_says_only_who_commits(top: Path) -> None:
    """Else it could name a file of the host whose lines are shown as what is ignored."""
    (top / "home/.ssh").mkdir()
    (top / "home/.ssh/id").write_text("s3cret")
    (top / "home/.gitconfig").write_text(
        "[user]\nname = Ada\n[core]\nexcludesFile = ~/.ssh/id\n[include]\npath = ~/.ssh/id\n"
    )
    assert inside(plan(top), ".config/git/ignore") == "s3cret"
    made = plan(top, workspace="home")
    assert settings(made) == ['[user] name = "Ada"']
    assert inside(made, ".config/git/ignore") == ""


def repository(top: Path, *, names: str) -> Path:
    """A repository, and a linked worktree at `work`, as git lays them out."""
    common = top / "main/.git"
    for name in ("objects", "refs", "hooks", "worktrees/tree"):
        (common / name).mkdir(parents=True)
    (common / "HEAD").write_text("ref: refs/heads/main\n")
    tree = common / "worktrees/tree"
    (tree / "HEAD").write_text("ref: refs/heads/feat\n")
    (tree / "commondir").write_text("../..\n")
    (tree / "gitdir").write_text(f"{names}\n")
    (top / "work/.git").write_text(f"gitdir: {tree}\n")
    return common


def test_the_git_folder_of_a_worktree_is_shown_read_only(top: Path) -> None:
    common = repository(top, names=str(top / "work/.git"))
    made = plan(top)
    shown = {bind.path: bind.writable for bind in made.binds}
    assert shown[str(common)] is False
    needed = f"{common}/objects, {common}/refs, {common}/worktrees/tree"
    assert made.notes[0].endswith(f"add to sandbox.write: {needed}")
    made = plan(top, write=needed.split(", "))
    shown = {bind.path: bind.writable for bind in made.binds}
    assert (shown[str(common)], shown[f"{common}/refs"]) == (False, True)
    assert made.notes == ()


@pytest.mark.parametrize("names", ["/another/.git", ""])
def test_a_git_folder_that_does_not_name_the_workspace_is_not_shown(top: Path, names: str) -> None:
    common = repository(top, names=names)
    made = plan(top)
    assert str(common) not in [bind.path for bind in made.binds]
    assert "leads to" in made.notes[0] and "sandbox.read" in made.notes[0]


def test_what_git_keeps_is_shut_when_it_is_hidden(top: Path) -> None:
    """An index of version 2 with a file, an empty file and a file in a folder."""
    (top / "work/.git").mkdir()
    (top / "work/.git/HEAD").write_text("ref: refs/heads/main\n")
    empty = bytes.fromhex("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")

    def entry(name: bytes, content: bytes) -> bytes:
        data = bytes(40) + content + len(name).to_bytes(2, "big") + name
        return data + bytes(8 - len(data) % 8)

    entries = [entry(b"kept", bytes(20)), entry(b"empty", empty), entry(b"sub/file", bytes(20))]
    index = b"DIRC\0\0\0\2\0\0\0\3" + b"".join(entries)
    (top / "work/.git/index").write_bytes(index)
    for name in ("kept", "empty", "new", "kep"):
        (top / "work" / name).write_text("x")
    for name in ("sub", "other"):
        (top / "work" / name).mkdir()
    made = plan(
        top, hide=[top / "work" / n for n in ("kept", "empty", "new", "kep", "sub", "other")]
    )
    assert made.masks == (
        Mask(f"{top}/work/kept", False, unreadable=True),
        Mask(f"{top}/work/empty", False),
        Mask(f"{top}/work/new", False),
        Mask(f"{top}/work/kep", False),
        Mask(f"{top}/work/sub", True, unreadable=True),
        Mask(f"{top}/work/other", True),
    )


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_a_tool_puts_in_place_of_the_index_is_not_read(top: Path, kind: str) -> None:
    """A pipe would hold the next start up, and a device has no end."""
    (top / "work/.git").mkdir()
    (top / "work/.git/HEAD").write_text("ref: refs/heads/main\n")
    index = top / "work/.git/index"
    os.mkfifo(index) if kind == "pipe" else index.symlink_to("/dev/zero")
    (top / "work/kept").touch()
    (mask,) = [one for one in plan(top, hide=["kept"]).masks if one.path.endswith("/kept")]
    assert not mask.unreadable
