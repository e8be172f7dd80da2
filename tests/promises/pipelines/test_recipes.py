"""The recipes are valid, and what they start can be stopped."""

from __future__ import annotations

import shutil
import subprocess
from signal import SIGKILL

import pytest
from identity import BIN
from sandbox_agent.cli.parser import parse
from sandbox_agent.config.settings import Interrupt

from pipelines import recipes
from pipelines.systems import SYSTEMS, System

LINES = 20
"""Lines of a recipe at most."""
OTHERS = (["sudo", "sysctl", "-w"], ["pip", "install"])
"""How commands of others begin."""
WITHOUT_SHELL = ("pre-commit-config.yaml", "systemd-run.sh")


def test_every_recipe_is_short_and_played_by_a_system() -> None:
    names = sorted(path.name for path in recipes.FOLDER.iterdir() if path.is_file())
    assert names == sorted(recipes.NAMES)
    assert {system.recipe for system in SYSTEMS} == set(names)
    for name in names:
        assert len(recipes.text(name).splitlines()) <= LINES, name


@pytest.mark.parametrize("name", recipes.NAMES)
def test_the_commands_of_a_recipe_are_known_and_correct(name: str) -> None:
    for script in recipes.scripts(name):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        for words in recipes.commands(script):
            arguments = recipes.arguments(words)
            if arguments is not None:
                parse(arguments)  # raises UsageError
            else:
                assert any(words[: len(begin)] == begin for begin in OTHERS), words


@pytest.mark.parametrize("name", recipes.NAMES)
def test_no_shell_is_left_between_the_system_and_the_run(name: str) -> None:
    """A shell that waits for a command acts on no signal, and passes none on."""
    *before, last = recipes.commands(recipes.job(name))
    assert not [words for words in before if recipes.arguments(words)]
    assert (last[0] == "exec") != (name in WITHOUT_SHELL)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_run_ends_with_its_parent_where_the_system_may_lose_sight_of_it(system: System) -> None:
    words = recipes.run_arguments(recipes.job(system.recipe))
    starts_it_itself = system.recipe == "systemd-run.sh"
    is_default = "CI" in system.environment or system.name == "gitlab-su"
    assert ("--die-with-parent" in words) != (is_default or starts_it_itself)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_the_default_grace_period_fits_into_the_patience_of_the_system(system: System) -> None:
    needed = Interrupt().grace + Interrupt().term + 0.5
    assert all(step.at > needed for step in system.steps if step.signal is SIGKILL)


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml", "buildkite.yml"])
def test_the_record_of_a_cancelled_job_is_kept(name: str) -> None:
    """The step that keeps it runs whatever the job's end, and takes the folder of the runs."""
    kept = {
        "github-actions.yml": lambda found: [
            step["with"]["path"]
            for step in found["jobs"]["agent"]["steps"]
            if step.get("if") == "always()" and "upload-artifact" in step.get("uses", "")
        ],
        "gitlab-ci.yml": lambda found: (
            found["agent"]["artifacts"]["paths"]
            if found["agent"]["artifacts"]["when"] == "always"
            else []
        ),
        "buildkite.yml": lambda found: [found["steps"][0]["artifact_paths"].partition("/")[0]],
    }[name](recipes.loaded(name))
    assert kept == [parse(recipes.run_arguments(recipes.job(name))).values.run_dir]


def test_pre_commit_takes_its_recipe() -> None:
    done = subprocess.run(
        [
            str(BIN / "pre-commit"),
            "validate-config",
            str(recipes.FOLDER / "pre-commit-config.yaml"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_systemd_run_takes_the_options_of_its_recipe() -> None:
    """It gets as far as asking for a systemd that is not there. Properties are read there only."""
    if shutil.which("systemd-run") is None:
        pytest.skip("needs systemd-run")
    options = recipes.text("systemd-run.sh").replace("sandbox-agent run", "/bin/true run")
    options = options.replace("--user ", "--machine=.no-such-machine ")
    done = subprocess.run(["sh", "-c", options], capture_output=True, text=True)
    assert done.returncode != 0
    assert "option" not in done.stderr, done.stderr
