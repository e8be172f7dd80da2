"""The recipes, and the shell scripts and commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import yaml
from paths import CHECKOUT

FOLDER = CHECKOUT / "scripts" / "recipes"
OURS = "sandbox-agent"


def text(name: str) -> str:
    return (FOLDER / name).read_text()


def loaded(name: str) -> Any:
    return yaml.safe_load(text(name))


def scripts(name: str) -> list[str]:
    """The shell scripts of a recipe, in order. A system runs each in a shell of its own; that of
    pre-commit and that after systemd-run's options are run without a shell."""
    return list(_SCRIPTS[name](name))


def job(name: str) -> str:
    """The one script that runs the agent."""
    (found,) = (one for one in scripts(name) if "run" in map(_verb, commands(one)))
    return found


def after(name: str) -> list[str]:
    """The scripts of a recipe that follow the job, whatever its end, and use sandbox-agent."""
    every = scripts(name)
    later = every[every.index(job(name)) + 1 :]
    return [one for one in later if any(map(arguments, commands(one)))]


def run_arguments(script: str) -> list[str]:
    """The arguments of `sandbox-agent run` in a script."""
    (found,) = (words for words in commands(script) if _verb(words) == "run")
    return arguments(found) or []


def commands(script: str) -> list[list[str]]:
    """The words of each command of a script. An `exec` stays."""
    lines = script.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words]


def arguments(words: list[str]) -> list[str] | None:
    """The arguments of sandbox-agent in a command, or None where the command is another."""
    if OURS not in words[:2]:
        return None
    return words[words.index(OURS) + 1 :]


def _verb(words: list[str]) -> str | None:
    return (arguments(words) or [None])[0]


def _github(name: str) -> Iterator[str]:
    for one in loaded(name)["jobs"].values():
        for step in one["steps"]:
            if "run" in step:
                yield step["run"]


def _gitlab(name: str) -> Iterator[str]:
    for one in loaded(name).values():
        for key in ("script", "after_script"):
            if key in one:
                yield "\n".join(one[key])


def _jenkins(name: str) -> Iterator[str]:
    """A Jenkinsfile is Groovy; its steps `sh '…'` are what counts here."""
    for match in re.finditer(r"\bsh '([^'\n]*)'", text(name)):
        yield match[1]


def _buildkite(name: str) -> Iterator[str]:
    for step in loaded(name)["steps"]:
        for key in ("command", "commands"):
            if key in step:
                yield step[key] if isinstance(step[key], str) else "\n".join(step[key])


def _pre_commit(name: str) -> Iterator[str]:
    for repository in loaded(name)["repos"]:
        for hook in repository["hooks"]:
            yield shlex.join([*shlex.split(hook["entry"]), *hook.get("args", ())])


def _systemd(name: str) -> Iterator[str]:
    """What `exec systemd-run` is given after its options."""
    (words,) = commands(text(name))
    assert words[:2] == ["exec", "systemd-run"]
    begin = next(n for n, word in enumerate(words) if n > 1 and not word.startswith("-"))
    yield shlex.join(words[begin:])


_SCRIPTS = {
    "github-actions.yml": _github,
    "gitlab-ci.yml": _gitlab,
    "Jenkinsfile": _jenkins,
    "buildkite.yml": _buildkite,
    "pre-commit-config.yaml": _pre_commit,
    "systemd-run.sh": _systemd,
}
NAMES = tuple(_SCRIPTS)
