"""The recipes for containers, and what they ask of an engine."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from pipelines import recipes

FOLDER = recipes.FOLDER / "containers"


@dataclass(frozen=True)
class Container:
    """place: the environment that refuses the same (tests/support/environments). argv: of the
    command, with the paths of the recipe. is_first: it is the container's first process. as_root:
    as whom. home: HOME, where the recipe sets it. patience: seconds between SIGTERM and SIGKILL."""

    place: str
    argv: list[str]
    is_first: bool
    as_root: bool
    home: str | None
    patience: float


def text(name: str) -> str:
    return (FOLDER / name).read_text()


def loaded(name: str) -> Any:
    return yaml.safe_load(text(name))


def _docker_run(name: str) -> Container:
    words = recipes.commands(text(name))[-1]
    assert words[:3] == ["exec", "docker", "run"]
    options, argv = words[3 : words.index("$IMAGE")], words[words.index("$IMAGE") + 1 :]
    given = dict(zip(options, [*options[1:], ""], strict=True))
    variables = [b for a, b in itertools.pairwise(options) if a == "--env"]
    return Container(
        "runc-docker",
        argv,
        is_first="--init" not in options,
        as_root="--user" not in options,
        home=next((one[5:] for one in variables if one.startswith("HOME=")), None),
        patience=float(given["--stop-timeout"]),
    )


def _compose(name: str) -> Container:
    found = loaded(name)["services"]["agent"]
    return Container(
        "runc-docker",
        found["command"],
        is_first=not found.get("init", False),
        as_root="user" not in found,
        home=found["environment"]["HOME"],
        patience=float(found["stop_grace_period"].removesuffix("s")),
    )


def _gitlab(name: str) -> Container:
    """The runner starts a shell as the first process and gives it the script."""
    script = "\n".join(loaded(name)["agent"]["script"])
    return Container("runc-docker", ["sh", "-e", "-c", script], True, True, None, 10.0)


def _kubernetes(name: str) -> Container:
    spec = loaded(name)["spec"]
    [found] = spec["containers"]
    secured = found["securityContext"]
    assert secured["capabilities"] == {"drop": ["ALL"]} and secured["readOnlyRootFilesystem"]
    assert not secured["allowPrivilegeEscalation"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    return Container(
        "runc-restricted",
        found["command"],
        is_first=True,
        as_root=not spec["securityContext"]["runAsNonRoot"],
        home={one["name"]: one["value"] for one in found["env"]}["HOME"],
        patience=float(spec["terminationGracePeriodSeconds"]),
    )


def _github(name: str) -> Container:
    """The runner executes a shell for each step in the container of the job."""
    job = loaded(name)["jobs"]["agent"]
    [script] = (step["run"] for step in job["steps"] if "run" in step)
    with_init = "--init" in shlex.split(job["container"]["options"])
    return Container("runc-docker", ["sh", "-e", "-c", script], not with_init, True, None, 10.0)


def _dockerfile(name: str) -> Container:
    words = [
        json.loads(found[2])
        for found in re.finditer(r"^(ENTRYPOINT|CMD) (.*)$", text(name), re.MULTILINE)
    ]
    return Container("runc-docker", [*words[0], *words[1]], True, True, None, 10.0)


_READERS: dict[str, Callable[[str], Container]] = {
    "docker-run.sh": _docker_run,
    "compose.yaml": _compose,
    "gitlab-docker.yml": _gitlab,
    "kubernetes-pod.yaml": _kubernetes,
    "github-container.yml": _github,
    "Dockerfile": _dockerfile,
}
NAMES = tuple(_READERS)


def container(name: str) -> Container:
    """What a recipe asks for."""
    return _READERS[name](name)
