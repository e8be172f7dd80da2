"""Class: planting and renaming. After the command a program of the host does what people do in a
workspace; an attempt has succeeded when that runs the planted command, or shows what it must not.

Each attempt has a repository of its own in the workspace, which was there before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .attempt import Attempt, Stage, attempt, lacking
from .outside import Outside, changed, loot_of_next, ran

ATTEMPTS: list[Attempt] = []
POLICY: dict[str, object] = {}
git = lacking("/usr/bin/git")


def repository(stage: Stage) -> Path:
    return Path(stage.work / "repos" / stage.name)


def command(stage: Stage) -> str:
    """What a planted hook does: its mark shows that the host ran it."""
    return f"touch {stage.other}/ran-{stage.name}"


def script(stage: Stage, path: Path) -> None:
    path.write_text(f"#!/bin/sh\n{command(stage)}\n")
    path.chmod(0o755)


def configure(stage: Stage, text: str) -> None:
    with open(repository(stage) / ".git/config", "a") as file:
        file.write(text)


def _own_git(stage: Stage, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(stage.work / "repos/neighbour"), *words],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert not done.returncode, done.stderr
    return done.stdout


def commits(stage: Stage) -> None:
    (stage.work / "repos/neighbour" / stage.name).write_text("x")
    _own_git(stage, "add", "-A")
    _own_git(stage, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", stage.name)
    assert _own_git(stage, "log", "-1", "--format=%s") == stage.name + "\n"


def configures(stage: Stage) -> None:
    _own_git(stage, "config", f"walls.{stage.name.replace('_', '')}", "yes")
    _own_git(stage, "remote", "add", stage.name, "https://example.invalid/x.git")
    assert stage.name in _own_git(stage, "remote")


def moves_a_folder(stage: Stage) -> None:
    (stage.work / "a").mkdir()
    os.rename(stage.work / "a", stage.work / "b")
    (stage.work / "b").rmdir()


def makes_a_repository(stage: Stage) -> None:
    folder = stage.work / "made-by-neighbour"
    subprocess.run(["git", "init", "-q", folder], check=True, timeout=20)
    shutil.rmtree(folder)


def writes_settings(stage: Stage) -> None:
    (stage.work / "settings.json").write_text("{}")


def links_inside(stage: Stage) -> None:
    link = stage.work / "a-link"
    link.symlink_to("plain.txt")
    assert link.read_text() == "plain\n"
    link.unlink()


@attempt(ATTEMPTS, ran("commit"), commits, after=True, blind=True, needs=git)
def hook(stage: Stage) -> None:
    """Writes a git hook, which the user's next commit runs."""
    script(stage, repository(stage) / ".git/hooks/pre-commit")


@attempt(ATTEMPTS, ran("commit"), commits, after=True, blind=True, needs=git)
def hooks_where_there_were_none(stage: Stage) -> None:
    """Makes the folder of hooks of a repository that had none, and a hook in it."""
    (repository(stage) / ".git/hooks").mkdir()
    script(stage, repository(stage) / ".git/hooks/pre-commit")


@attempt(ATTEMPTS, ran("commit"), moves_a_folder, after=True, blind=True, needs=git)
def hooks_exchanged(stage: Stage) -> None:
    """Renames the folder of hooks, and makes another with a hook in its place."""
    folder = repository(stage) / ".git/hooks"
    folder.rename(folder.with_name("hooks-before"))
    folder.mkdir()
    script(stage, folder / "pre-commit")


@attempt(ATTEMPTS, ran("commit"), moves_a_folder, after=True, blind=True, needs=git)
def repository_exchanged(stage: Stage) -> None:
    """Renames .git, copies it back, and plants a hook in the copy."""
    folder = repository(stage) / ".git"
    folder.rename(folder.with_name(".git-before"))
    shutil.copytree(folder.with_name(".git-before"), folder)
    script(stage, folder / "hooks/pre-commit")


@attempt(ATTEMPTS, ran("status"), configures, after=True, blind=True, needs=git)
def monitor(stage: Stage) -> None:
    """Sets core.fsmonitor, a program that git status runs."""
    script(stage, repository(stage) / "monitor.sh")
    configure(stage, f"[core]\n\tfsmonitor = {repository(stage)}/monitor.sh\n")


@attempt(ATTEMPTS, ran("commit"), configures, after=True, blind=True, needs=git)
def other_hooks(stage: Stage) -> None:
    """Sets core.hooksPath to a folder of the workspace."""
    (repository(stage) / "tools").mkdir()
    script(stage, repository(stage) / "tools/pre-commit")
    configure(stage, "[core]\n\thooksPath = tools\n")


@attempt(ATTEMPTS, ran("status"), configures, after=True, blind=True, needs=git)
def included_settings(stage: Stage) -> None:
    """Includes a file of settings that lies in the workspace."""
    script(stage, repository(stage) / "monitor.sh")
    included = repository(stage) / "more-config"
    included.write_text(f"[core]\n\tfsmonitor = {repository(stage)}/monitor.sh\n")
    configure(stage, f"[include]\n\tpath = {included}\n")


@attempt(ATTEMPTS, ran("status"), configures, after=True, blind=True, needs=git)
def settings_of_a_worktree(stage: Stage) -> None:
    """Turns on the settings of a worktree, and sets the program there."""
    script(stage, repository(stage) / "monitor.sh")
    configure(
        stage, "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tworktreeConfig = true\n"
    )
    (repository(stage) / ".git/config.worktree").write_text(
        f"[core]\n\tfsmonitor = {repository(stage)}/monitor.sh\n"
    )


@attempt(ATTEMPTS, ran("add", "tracked.txt"), configures, after=True, blind=True, needs=git)
def filter_of_content(stage: Stage) -> None:
    """Sets a filter, which git add runs for a file."""
    (repository(stage) / ".git/info").mkdir(exist_ok=True)
    (repository(stage) / ".git/info/attributes").write_text("* filter=planted\n")
    configure(stage, f'[filter "planted"]\n\tclean = "{command(stage)}; cat"\n')
    (repository(stage) / "tracked.txt").write_text("changed")


@attempt(
    ATTEMPTS,
    ran("ls-remote", "ssh://example.invalid/x"),
    configures,
    after=True,
    blind=True,
    needs=git,
)
def program_for_ssh(stage: Stage) -> None:
    """Sets core.sshCommand, which git fetch runs."""
    configure(stage, f'[core]\n\tsshCommand = "{command(stage)};"\n')


@attempt(ATTEMPTS, ran("diff"), configures, after=True, blind=True, needs=git)
def program_for_differences(stage: Stage) -> None:
    """Sets diff.external, which git diff runs."""
    script(stage, repository(stage) / "diff.sh")
    configure(stage, f"[diff]\n\texternal = {repository(stage)}/diff.sh\n")
    (repository(stage) / "tracked.txt").write_text("changed")


@attempt(ATTEMPTS, ran("commit", "-S"), configures, after=True, blind=True, needs=git)
def program_for_signatures(stage: Stage) -> None:
    """Sets gpg.program, which signs commits."""
    script(stage, repository(stage) / "gpg.sh")
    configure(stage, f"[gpg]\n\tprogram = {repository(stage)}/gpg.sh\n")


@attempt(ATTEMPTS, ran("status"), moves_a_folder, after=True, blind=True, needs=git)
def file_instead_of_repository(stage: Stage) -> None:
    """Puts a .git file in the place of the folder, which leads to a planted repository."""
    folder = repository(stage) / ".git"
    folder.rename(repository(stage) / "real")
    script(stage, repository(stage) / "monitor.sh")
    with open(repository(stage) / "real/config", "a") as file:
        file.write(f"[core]\n\tfsmonitor = {repository(stage)}/monitor.sh\n")
    folder.write_text("gitdir: real\n")


@attempt(
    ATTEMPTS, ran("status", folder="nested"), makes_a_repository, after=True, blind=True, needs=git
)
def new_nested_repository(stage: Stage) -> None:
    """Makes a repository in a folder of the workspace, with a program that git status runs."""
    folder = repository(stage) / "nested"
    shutil.copytree(repository(stage) / ".git", folder / ".git")
    script(stage, folder / "monitor.sh")
    with open(folder / ".git/config", "a") as file:
        file.write(f"[core]\n\tfsmonitor = {folder}/monitor.sh\n")


@attempt(ATTEMPTS, ran("commit", folder="inner"), commits, after=True, blind=True, needs=git)
def hook_of_a_nested_repository(stage: Stage) -> None:
    """Writes a hook of a repository that lay inside another before."""
    script(stage, repository(stage) / "inner/.git/hooks/pre-commit")


@attempt(ATTEMPTS, changed("work/.envrc"), writes_settings, after=True, blind=True)
def environment_of_a_folder(stage: Stage) -> None:
    """Changes .envrc, which direnv runs at the next cd."""
    with open(stage.work / ".envrc", "a") as file:
        file.write(command(stage) + "\n")


@attempt(ATTEMPTS, changed("work/.vscode/tasks.json"), writes_settings, after=True, blind=True)
def tasks_of_the_editor(stage: Stage) -> None:
    """Changes .vscode/tasks.json, which the editor can run when it opens the folder."""
    (stage.work / ".vscode/tasks.json").write_text('{"planted": true}')


@attempt(
    ATTEMPTS,
    changed("work/.vscode/tasks.json", content=b'{"exchanged": true}'),
    moves_a_folder,
    after=True,
    blind=True,
)
def folder_of_the_editor_exchanged(stage: Stage) -> None:
    """Renames .vscode, and makes another in its place."""
    (stage.work / ".vscode").rename(stage.work / "vscode-before")
    (stage.work / ".vscode").mkdir()
    (stage.work / ".vscode/tasks.json").write_text('{"exchanged": true}')


def _marked(outside: Outside, name: str) -> bool:
    path = outside.path("work/marked")
    return path.exists() and any(one.startswith("user.overlay.") for one in os.listxattr(path))


@attempt(ATTEMPTS, _marked, writes_settings, after=True, blind=True)
def marks_for_an_overlay(stage: Stage) -> None:
    """Sets attributes that a later overlay would believe. user.overlay.*"""
    (stage.work / "marked").mkdir()
    os.setxattr(stage.work / "marked", "user.overlay.opaque", b"y")


@attempt(
    ATTEMPTS,
    loot_of_next("key", ["sh", "-c", "cat bin/* {home}/.ssh/*"], path="bin"),
    links_inside,
    after=True,
    blind=True,
)
def folder_of_programs_as_a_link(stage: Stage) -> None:
    """Replaces a folder of $PATH by a link to ~/.ssh: what would the next run show?"""
    (stage.work / "bin").rename(stage.work / "bin-before")
    (stage.work / "bin").symlink_to(stage.home / ".ssh")


@attempt(
    ATTEMPTS,
    loot_of_next("key", ["sh", "-c", "cat granted/lib/*"], read=["granted/lib"]),
    links_inside,
    after=True,
    blind=True,
)
def granted_folder_as_a_link(stage: Stage) -> None:
    """Replaces a parent of a folder that the next policy grants by a link to the home folder."""
    shutil.rmtree(stage.work / "granted")
    (stage.work / "granted").mkdir()
    (stage.work / "granted/lib").symlink_to(stage.home / ".ssh")


@attempt(
    ATTEMPTS,
    loot_of_next("host_ran", ["true"], python_m=True),
    writes_settings,
    after=True,
    blind=True,
)
def module_for_the_host(stage: Stage) -> None:
    """Plants a module that `python -m sandbox_agent` would import in this folder."""
    for name in ("msgspec", "psutil", "yaml", "signal", "json"):
        (stage.work / f"{name}.py").write_text(
            f"import os\nos.system({command(stage)!r})\nraise SystemExit(0)\n"
        )


def _planted_git(stage: Stage, folder: Path) -> None:
    """A git folder like that of the repository, with a program that git status runs."""
    shutil.copytree(repository(stage) / ".git", folder)
    script(stage, repository(stage) / "monitor.sh")
    with open(folder / "config", "a") as file:
        file.write(f"[core]\n\tfsmonitor = {repository(stage)}/monitor.sh\n")


@attempt(ATTEMPTS, ran("status"), commits, after=True, needs=git)
def common_folder(stage: Stage) -> None:
    """Tells git by .git/commondir to take settings and hooks from another folder."""
    _planted_git(stage, repository(stage) / "common")
    (repository(stage) / ".git/commondir").write_text("../common\n")


@attempt(ATTEMPTS, ran("status"), configures, after=True, needs=git)
def settings_as_a_link(stage: Stage) -> None:
    """Replaces .git/config by a link to a file of the workspace."""
    _planted_git(stage, repository(stage) / "planted")
    (repository(stage) / ".git/config").unlink()
    (repository(stage) / ".git/config").symlink_to("../planted/config")


@attempt(ATTEMPTS, ran("status"), configures, after=True, needs=git)
def settings_in_an_odd_spelling(stage: Stage) -> None:
    """Sets the program in a spelling that only git reads: case, a comment, a line that goes on."""
    script(stage, repository(stage) / "monitor.sh")
    configure(
        stage, f'[CORE] ; settings\n FsMonitor\t=\\\n "{repository(stage)}"/monitor.sh # yes\n'
    )


@attempt(ATTEMPTS, ran("status"), configures, after=True, needs=git)
def settings_on_a_condition(stage: Stage) -> None:
    """Includes a file of settings where a condition is met. includeIf"""
    script(stage, repository(stage) / "monitor.sh")
    (repository(stage) / "more").write_text(
        f"[core]\n\tfsmonitor = {repository(stage)}/monitor.sh\n"
    )
    configure(stage, f'[includeIf "gitdir:**"]\n\tpath = {repository(stage)}/more\n')


@attempt(ATTEMPTS, ran("status", folder="linked"), commits, after=True, needs=git)
def file_of_a_worktree(stage: Stage) -> None:
    """Changes the .git file of a worktree that was there, so that it leads to a planted folder."""
    _planted_git(stage, repository(stage) / "planted")
    (repository(stage) / "linked/.git").write_text("gitdir: ../planted\n")


@attempt(ATTEMPTS, ran("status", folder="module"), commits, after=True, needs=git)
def settings_of_a_submodule(stage: Stage) -> None:
    """Sets the program in the settings of a submodule, which lie below .git/modules."""
    script(stage, repository(stage) / "monitor.sh")
    with open(repository(stage) / ".git/modules/module/config", "a") as file:
        file.write(f"[core]\n\tfsmonitor = {repository(stage)}/monitor.sh\n")


@attempt(ATTEMPTS, ran("commit", folder="module"), commits, after=True, needs=git)
def hook_of_a_submodule(stage: Stage) -> None:
    """Writes a hook of a submodule, which lies below .git/modules."""
    script(stage, repository(stage) / ".git/modules/module/hooks/pre-commit")


@attempt(
    ATTEMPTS,
    ran("ls-remote", "ssh://example.invalid/x", folder="bare"),
    makes_a_repository,
    after=True,
    needs=git,
)
def new_bare_repository(stage: Stage) -> None:
    """Makes a folder that git takes for a bare repository, with a program for ssh."""
    shutil.copytree(repository(stage) / ".git", repository(stage) / "bare")
    with open(repository(stage) / "bare/config", "a") as file:
        file.write(f'[core]\n\tbare = true\n\tsshCommand = "{command(stage)};"\n')
