"""What each system does when somebody cancels a job: which signals, to whom, after how long.

Each does the following, by its documentation or its source, with its default settings:

GitHub Actions   INT to the entry process only, TERM to it after 7.5 s, KILL of the tree after
                 2.5 s more.
GitLab CI        (shell executor) TERM to the process group of the shell, KILL of it after 10
                 minutes. The shell reads the script from its standard input. A runner with --user,
                 as Debian's package has it, starts the shell by su(1); then the signal may reach su
                 alone, which passes it on to the shell alone. The runner waits until nobody has the
                 output any more (os/exec of Go).
Jenkins          TERM to each process below the step, descendants first, then KILL; 5 s in all.
Buildkite        TERM to the process group of the command, which has a terminal; KILL after 10 s.
pre-commit       Ctrl-C is INT to the whole foreground group; pre-commit exits with 130 at once and
                 does not wait for its hooks. It has no timeout and sends no signal itself.
systemd          TERM, then CONT, to the main process, and with the default KillMode to all others
                 of the unit; KILL of all after 90 s. systemd.kill(5)
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from signal import SIGCONT, SIGINT, SIGKILL, SIGTERM, Signals
from typing import Any

from identity import Person

from pipelines import recipes


class Whom(Enum):
    """Who gets a signal."""

    ENTRY = "the process that the system started"
    GROUP = "its process group"
    TREE = "each process below it, and it"
    BELOW = "each process below it, descendants first"
    KEY = "the foreground group of the terminal, by a key"


@dataclass(frozen=True)
class Step:
    """at: seconds after the cancel."""

    at: float
    signal: Signals
    whom: Whom


@dataclass(frozen=True)
class Start:
    """How the system starts a script. terminal: it gives the script one. stdin: what it can read
    there. waits: until nobody has the output any more."""

    argv: list[str]
    stdin: str = ""
    terminal: bool = False
    waits: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """codes: of sandbox-agent. entry: exit codes of what the system started, as it sees them."""

    name: str
    recipe: str
    start: Callable[[Person, str], Start]
    steps: tuple[Step, ...]
    codes: frozenset[int]
    entry: frozenset[int]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_root: bool = False
    prepare: Callable[[Person], None] = lambda person: None


def _github(person: Person, script: str) -> Start:
    file = person.write(person.folder / "step.sh", script)
    return Start(["bash", "-e", str(file)])


def _gitlab_script(person: Person, script: str) -> str:
    """As the runner writes it: variables, then the commands as one word for `eval`, in a pipe."""
    path = shlex.quote(person.environment()["PATH"])
    body = shlex.quote(f"cd {shlex.quote(str(person.work))}\n{script}")
    return f"set -eo pipefail\nexport CI=true GITLAB_CI=true\nexport PATH={path}\n: | eval {body}\n"


def _gitlab(person: Person, script: str) -> Start:
    script = _gitlab_script(person, script)
    return Start(["bash", "-l"], stdin=script, options={"process_group": 0})


def _gitlab_su(person: Person, script: str) -> Start:
    argv = ["su", "-s", "/bin/bash", "root", "-c", "bash -l"]
    return Start(argv, stdin=_gitlab_script(person, script), options={"process_group": 0})


JENKINS_CODE = "jenkins-result.txt"


def _jenkins(person: Person, script: str) -> Start:
    """A wrapper that outlives the step writes down its exit code."""
    file = person.write(person.folder / "script.sh", script)
    code = shlex.quote(str(person.folder / JENKINS_CODE))
    wrapper = f"sh -xe {shlex.quote(str(file))}; echo $? > {code}.tmp; mv {code}.tmp {code}"
    return Start(["nohup", "sh", "-c", wrapper], options={"start_new_session": True})


def _buildkite(person: Person, script: str) -> Start:
    argv = ["setsid", "--ctty", "/bin/bash", "-e", "-c", script]
    return Start(argv, terminal=True)


def _in_git(person: Person) -> None:
    """pre-commit reads its configuration from a repository."""
    config = recipes.text("pre-commit-config.yaml")
    person.write(person.work / ".pre-commit-config.yaml", config)
    for words in (["init", "-q"], ["add", ".pre-commit-config.yaml"]):
        done = person.run(["git", *words])
        assert done.returncode == 0, done.stderr


def _pre_commit(person: Person, script: str) -> Start:
    """The real pre-commit; it takes the command from the recipe by itself."""
    run = ["pre-commit", "run", "--hook-stage", "pre-push", "--all-files", "--verbose"]
    return Start(["setsid", "--ctty", *run], terminal=True, waits=False)


def _systemd(person: Person, script: str) -> Start:
    (words,) = recipes.commands(script)
    return Start(words, options={"start_new_session": True})


def _service(name: str, first: Whom) -> System:
    """A service of systemd. first: who gets SIGTERM (systemd.kill(5), KillMode=)."""
    return System(
        name,
        "systemd-run.sh",
        _systemd,
        (Step(0, SIGTERM, first), Step(0, SIGCONT, first), Step(90, SIGKILL, Whom.TREE)),
        codes=frozenset({143}),
        entry=frozenset({143}),
        environment={"INVOCATION_ID": "0" * 32},
    )


SYSTEMS = (
    System(
        "github",
        "github-actions.yml",
        _github,
        (
            Step(0, SIGINT, Whom.ENTRY),
            Step(7.5, SIGTERM, Whom.ENTRY),
            Step(10, SIGKILL, Whom.TREE),
        ),
        codes=frozenset({130}),
        entry=frozenset({130}),
        environment={"CI": "true", "GITHUB_ACTIONS": "true"},
    ),
    System(
        "gitlab",
        "gitlab-ci.yml",
        _gitlab,
        (Step(0, SIGTERM, Whom.GROUP), Step(600, SIGKILL, Whom.GROUP)),
        # The death of the shell, which gets the same signal, may be noticed before the signal.
        codes=frozenset({143, 129}),
        entry=frozenset({-SIGTERM}),
        environment={"CI": "true", "GITLAB_CI": "true"},
    ),
    System(
        "gitlab-su",
        "gitlab-ci.yml",
        _gitlab_su,
        (Step(0, SIGTERM, Whom.ENTRY), Step(600, SIGKILL, Whom.ENTRY)),
        codes=frozenset({129}),
        entry=frozenset({-SIGTERM, 143}),
        needs_root=True,
    ),
    System(
        "jenkins",
        "Jenkinsfile",
        _jenkins,
        (Step(0, SIGTERM, Whom.BELOW), Step(5, SIGKILL, Whom.BELOW)),
        codes=frozenset({143}),
        entry=frozenset({0}),
        environment={"JENKINS_URL": "http://localhost/", "BUILD_NUMBER": "1"},
    ),
    System(
        "buildkite",
        "buildkite.yml",
        _buildkite,
        (Step(0, SIGTERM, Whom.GROUP), Step(10, SIGKILL, Whom.GROUP)),
        codes=frozenset({143}),
        entry=frozenset({143}),
        environment={"CI": "true", "BUILDKITE": "true", "TERM": "xterm-256color"},
    ),
    System(
        "pre-commit",
        "pre-commit-config.yaml",
        _pre_commit,
        (Step(0, SIGINT, Whom.KEY),),
        codes=frozenset({130}),
        entry=frozenset({130}),
        environment={"TERM": "xterm-256color"},
        prepare=_in_git,
    ),
    _service("systemd", Whom.TREE),
    _service("systemd-mixed", Whom.ENTRY),
)
