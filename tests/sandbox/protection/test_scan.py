"""The folders of tools are looked through whole, and nothing in them leads out or holds it up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection.scan import look


def make(top: Path, *names: str) -> None:
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text("")


def short(top: Path, names: object) -> list[str]:
    return sorted(str(Path(name).relative_to(top)) for name in names)  # type: ignore[attr-defined]


def test_repositories_and_names_are_found_wherever_they_are(tmp_path: Path) -> None:
    make(
        tmp_path,
        *(".git/HEAD", ".git/modules/m/HEAD", ".git/modules/m/objects/", ".git/modules/m/refs/"),
        *("sub/.git", "deep/bare/HEAD", "deep/bare/objects/", "deep/bare/refs/", "HEAD"),
        *(".envrc", "a/b/.vscode/tasks.json", ".github/workflows/x", ".github/CODEOWNERS"),
        *(".claude/settings.json", ".claude/notes", "envrc", ".git/.envrc"),
    )
    seen = look([str(tmp_path)])
    assert short(tmp_path, seen.repositories) == [
        ".git", ".git/modules/m", "deep/bare", "sub/.git",
    ]  # fmt: skip
    assert short(tmp_path, seen.named) == [
        ".claude/settings.json", ".envrc", ".github/workflows", "a/b/.vscode",
    ]  # fmt: skip
    assert not seen.problem and not seen.unseen


def test_of_what_package_managers_fill_only_repositories_count(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("node_modules/p/.npmrc", "node_modules/p/.git/HEAD", "node_modules/p/.vscode/x"),
        *(".venv/pyvenv.cfg", ".venv/src/q/.git/HEAD", ".venv/src/q/.envrc"),
        *("build/.envrc", "own/.envrc"),
    )
    seen = look([str(tmp_path)])
    assert short(tmp_path, seen.named) == ["build/.envrc", "own/.envrc"]
    assert [seen.named[f"{tmp_path}/{name}/.envrc"].built for name in ("build", "own")] == [
        True, False,
    ]  # fmt: skip
    assert all(one.owned for one in seen.repositories.values())
    assert len(seen.repositories) == 2


def test_a_folder_that_is_named_itself_counts_by_its_name(tmp_path: Path) -> None:
    make(tmp_path, ".config/autostart/x", ".config/app/x")
    assert short(tmp_path, look([str(tmp_path / ".config")]).named) == [".config/autostart"]


def test_no_link_is_followed_and_what_is_left_out_is_not_read(tmp_path: Path) -> None:
    make(tmp_path, "outside/.envrc", "w/kept/.envrc", "w/hidden/.envrc")
    (tmp_path / "w/link").symlink_to(tmp_path / "outside")
    (tmp_path / "w/.git").symlink_to(tmp_path / "outside")
    seen = look([str(tmp_path / "w")], [str(tmp_path / "w/hidden")])
    assert short(tmp_path, seen.named) == ["w/kept/.envrc"]
    assert not seen.repositories[f"{tmp_path}/w/.git"].is_folder


def test_folders_in_one_another_are_looked_through_once(tmp_path: Path) -> None:
    make(tmp_path, "a/.envrc", "b")
    assert look([str(tmp_path), str(tmp_path / "a"), str(tmp_path / "b")]).roots == (str(tmp_path),)


def test_a_record_of_a_run_is_one_by_its_beginning(tmp_path: Path) -> None:
    make(tmp_path, "mine/journal.jsonl", "run/journal.jsonl")
    (tmp_path / "run/journal.jsonl").write_text('{"event":"journal","version":2}\n')
    assert short(tmp_path, look([str(tmp_path)]).named) == ["run/journal.jsonl"]


def test_a_folder_that_is_shut_is_told(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0)
    seen = look([str(tmp_path)])
    (tmp_path / "shut").chmod(0o700)
    assert short(tmp_path, seen.unseen) == ([] if os.geteuid() == 0 else ["shut"])


def test_a_tree_that_is_too_deep_is_left(tmp_path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(300):
            os.mkdir("d")
            os.chdir("d")
        Path(".envrc").touch()
    finally:
        os.fchdir(here)
        os.close(here)
    seen = look([str(tmp_path)])
    assert not seen.named
    assert len(seen.unseen) == 1


@pytest.mark.parametrize(("more", "problem"), [({"patience": -1.0}, "too long"), ({}, "stopped")])
def test_looking_ends_when_it_must(tmp_path: Path, more: dict[str, float], problem: str) -> None:
    make(tmp_path, ".envrc")
    seen = look([str(tmp_path)], give_up=lambda: True, **more)  # type: ignore[arg-type]
    assert problem in seen.problem
    assert not seen.named


def test_what_is_planted_by_the_thousand_does_not_fill_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox_agent_sandbox.protection.scan.MOST_FOUND", 10)
    make(tmp_path, *(f"{number}/.envrc" for number in range(20)))
    seen = look([str(tmp_path)])
    assert len(seen.named) == 10
    assert "more than 10" in seen.problem


def test_no_file_that_a_tool_can_make_takes_a_folder_out_of_the_look(tmp_path: Path) -> None:
    make(tmp_path, "pyvenv.cfg", ".envrc", ".git/HEAD", "src/pyvenv.cfg", "src/.envrc")
    seen = look([str(tmp_path)])
    assert short(tmp_path, seen.named) == [".envrc", "src/.envrc"]
    assert not any(one.built for one in seen.named.values())
    assert not any(one.owned for one in seen.repositories.values())


def test_a_link_in_place_of_a_folder_of_listed_names_counts_itself(tmp_path: Path) -> None:
    make(tmp_path, "planted/config.toml", ".claude")
    (tmp_path / ".cargo").symlink_to("planted")
    assert short(tmp_path, look([str(tmp_path)]).named) == [".cargo", ".claude"]


def test_a_folder_that_shares_the_objects_of_another_is_a_repository(tmp_path: Path) -> None:
    make(tmp_path, "a/HEAD", "a/commondir", ".git/worktrees/w/HEAD", ".git/worktrees/w/commondir")
    seen = look([str(tmp_path)]).repositories
    assert short(tmp_path, seen) == [".git", ".git/worktrees/w", "a"]
    assert [one.git for one in seen.values() if one.linked] == [f"{tmp_path}/.git/worktrees/w"]


def test_names_of_other_programs_count_too(tmp_path: Path) -> None:
    make(tmp_path, ".hg/hgrc", ".hg/store/x", ".ghci", "mise.local.toml")
    assert short(tmp_path, look([str(tmp_path)]).named) == [
        ".ghci", ".hg/hgrc", "mise.local.toml",
    ]  # fmt: skip
