"""New settings that start programs are taken out, and all else stays as it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection.git_parser import entries
from sandbox_agent_sandbox.protection.git_settings import (
    hooks_folder,
    includes,
    starts_programs,
    without_new_programs,
)

PROGRAMS = """
[core] hooksPath = x
[core] fsmonitor = ./x
[core] sshCommand = x
[core] gitProxy = x
[core] editor = x
[core] pager = x
[core] askPass = x
[core] worktree = /home/you
[core] alternateRefsCommand = x
[sequence] editor = x
[alias] st = status
[include] path = x
[includeIf "gitdir:/"] path = x
[credential] helper = x
[credential "https://h"] helper = x
[filter "f"] clean = x
[filter "f"] smudge = x
[filter "f"] process = x
[diff] external = x
[diff "d"] command = x
[diff "d"] textconv = x
[difftool "d"] cmd = x
[difftool "d"] path = x
[mergetool "d"] path = x
[merge "m"] driver = x
[pager] log = x
[man "m"] cmd = x
[browser "b"] path = x
[gpg] program = x
[gpg "ssh"] program = x
[gpg "ssh"] defaultKeyCommand = x
[interactive] diffFilter = x
[sendemail] smtpServer = /x
[sendemail "i"] toCmd = x
[remote "r"] uploadpack = x
[remote "r"] receivepack = x
[remote "r"] vcs = x
[protocol] allow = always
[protocol "ext"] allow = always
[submodule "s"] update = !x
[uploadpack] packObjectsHook = x
[gc] recentObjectsHook = x
[trailer "t"] command = x
[trailer "t"] cmd = x
[tar "t"] command = x
[guitool "g"] cmd = x
[hook "h"] command = x
[imap] tunnel = x
[init] templateDir = x
[web] browser = x
[lfs "customtransfer.x"] path = x
[remote "r"] annex-ssh-command = x
"""
HARMLESS = """
[core] repositoryformatversion = 0
[core] fsmonitor = true
[core] fsmonitor
[core] autocrlf = input
[core] worktree = ../../../sub
[remote "r"] url = https://h/r
[remote "r"] fetch = +refs/heads/*:refs/remotes/r/*
[branch "b"] remote = r
[branch "b"] merge = refs/heads/b
[user] name = you
[pager] log = false
[protocol "ext"] allow = never
[submodule "s"] update = rebase
[submodule "s"] url = ../s
[extensions] worktreeConfig = true
[filter "lfs"] clean = git-lfs clean -- %f
[filter "lfs"] process = git-lfs filter-process
[advice] ignoredHook = false
[credential] helper =
[merge] tool = vimdiff
[lfs] url = https://h
"""


def below(path: str) -> bool:
    return path.startswith("..")


@pytest.mark.parametrize("line", PROGRAMS.split("\n")[1:-1])
def test_a_setting_that_starts_a_program_is_known(line: str) -> None:
    (entry,) = entries(line.encode())
    assert starts_programs(entry, below)


@pytest.mark.parametrize("line", HARMLESS.split("\n")[1:-1])
def test_what_git_itself_writes_is_left_alone(line: str) -> None:
    (entry,) = entries(line.encode())
    assert not starts_programs(entry, below)


BEFORE = b"""[core]
\teditor = vim
\tbare = false
[alias]
\tmine = log
[credential]
\thelper = one
\thelper = two
"""


def settings(text: bytes) -> list[tuple[str, str | None]]:
    return [(one.name, one.value) for one in entries(text)]


def test_what_is_new_is_taken_out_and_the_rest_stays() -> None:
    after = (
        BEFORE
        + b"""[remote "r"] url = u # kept
[core] hooksPath = a\\
  b
\tfilemode = true
[alias "x"]
\tcommand = evil"""
    )
    text, new = without_new_programs(BEFORE, after, below)
    assert [one.name for one in new] == ["core.hookspath", "alias.x.command"]
    assert settings(text) == [
        *settings(BEFORE), ("remote.r.url", "u"), ("core.filemode", "true"),
    ]  # fmt: skip


def test_a_value_that_was_replaced_is_put_back() -> None:
    after = BEFORE.replace(b"vim", b"evil").replace(b"helper = two", b"helper = evil")
    text, new = without_new_programs(BEFORE, after, below)
    assert [one.value for one in new] == ["evil", "evil"]
    assert sorted(settings(text)) == sorted(settings(BEFORE))  # type: ignore[type-var]


def test_what_a_tool_takes_away_stays_away() -> None:
    after = BEFORE.replace(b"\tmine = log\n", b"").replace(b"\thelper = two\n", b"")
    assert without_new_programs(BEFORE, after, below) == (after, [])


def test_a_text_that_shows_a_setting_only_when_another_is_gone_is_replaced_as_a_whole() -> None:
    """Without its last line the value before it would go on."""
    after = b"[alias]\n\tx = y \\\n"
    text, new = without_new_programs(b"", after, below)
    assert new and settings(text) == []


def test_files_and_folders_that_settings_name_are_found() -> None:
    text = b"[include] path = ../mine\n[core] hooksPath = .husky\n[core] hooksPath = /abs/./hooks\n"
    assert includes(text, "/w/.git") == ["/w/mine"]
    assert hooks_folder(text, "/w") == "/abs/hooks"
    assert hooks_folder(b"[core] hooksPath = .husky", "/w") == "/w/.husky"
    assert hooks_folder(b"[core] bare = true", "/w") is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_reads_what_is_written(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_bytes(BEFORE)
    for name, value in (("core.editor", "evil"), ("filter.a.clean", "evil"), ("user.name", "you")):
        subprocess.run(["git", "config", "-f", str(config), name, value], check=True)
    config.write_bytes(without_new_programs(BEFORE, config.read_bytes(), below)[0])
    command = ["git", "config", "-f", str(config), "--list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "evil" not in listed
    assert {"core.editor=vim", "user.name=you", "credential.helper=two"} <= set(listed.split("\n"))
