"""Attempts that need a whole run: a task with calls and `verify`, judged by its end and its record.

Without a sandbox there is no flag, frame or verdict. So a scene is proved with the one wall taken
out: a line is added to one file, in a copy of the product.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broken_copy import ROOTS
from identity import CHECKOUT, Person

AGENT = str(Path(sys.prefix, "bin/sandbox-agent"))


@dataclass(frozen=True)
class Wall:
    """file: of the checkout. text: what is added at its end, which undoes the wall."""

    file: str
    text: str


@dataclass
class Seen:
    """What is left of a run. runs: the folder of its records."""

    person: Person
    code: int
    out: str
    err: str
    runs: Path

    @property
    def journal(self) -> str:
        return "".join(path.read_text() for path in sorted(self.runs.glob("*/journal.jsonl")))

    def calls(self) -> dict[str, dict[str, Any]]:
        """The end of each call, by its id."""
        found = {}
        for line in self.journal.splitlines():
            event = json.loads(line)
            if event["event"] == "ended":
                found[event["call"]] = event
        return found


@dataclass(frozen=True)
class Scene:
    """files: in the workspace. turns: of the scripted model. task: more fields of the task file.
    argv: more words of the command.

    works: the neighbour, the legitimate part of the same run; it gets what was seen.
    """

    name: str
    says: str
    wall: Wall
    turns: list[Any]
    proof: Callable[[Seen], bool]
    works: Callable[[Seen], bool]
    files: dict[str, str] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    needs: Callable[[], str | None] = lambda: None
    persons: tuple[str, ...] = ("root", "user")
    blind: bool = False


@dataclass(frozen=True)
class Played:
    scene: Scene
    succeeded: bool
    works: bool
    said: str


def shell(*commands: str) -> dict[str, Any]:
    return {"calls": [{"shell": {"command": one}} for one in commands]}


def play(person: Person, scene: Scene, environment: dict[str, str]) -> Played:
    """Runs the task of a scene in a folder of its own, which is removed."""
    folder = Path(tempfile.mkdtemp(prefix="scene-", dir=person.folder))
    try:
        seen = _run(person, scene, folder, environment)
        said = f"exit {seen.code}\n{seen.out}\n{seen.err}\n{seen.journal[-3000:]}"
        return Played(scene, bool(scene.proof(seen)), bool(scene.works(seen)), said)
    finally:
        shutil.rmtree(folder)


def _run(person: Person, scene: Scene, folder: Path, environment: dict[str, str]) -> Seen:
    home, work, task = folder / "home", folder / "work", folder / "task"
    for one in (home, work, task):
        one.mkdir()
    person.own(folder, home, work, task)
    places = {
        "WORK": str(work),
        "HOME": str(home),
        "TOP": "/".join(str(work).split("/")[:3]),
        "PYTHON": sys.executable,
    }

    def placed(text: str) -> str:
        for key, value in places.items():
            text = text.replace("{" + key + "}", value)
        return text

    for name, text in scene.files.items():
        path = work / name
        for above in reversed(path.relative_to(work).parents):
            if not (work / above).exists():
                (work / above).mkdir()
                person.own(work / above)
        person.write(path, placed(text))
    person.write(task / "steps.yaml", placed(json.dumps([*scene.turns, {"final": "done"}])))
    fields = {
        "version": 1,
        "prompt": "Do it.",
        "model": "scripted:steps.yaml",
        "workspace": {"path": str(work)},
        "tools": ["shell"],
        "interrupt": {"grace": 0.2, "term": 0.2},
        "output": {"dir": str(folder / "runs")},
        **scene.task,
    }
    person.write(task / "task.yaml", placed(json.dumps(fields)))
    done = person.run(
        [AGENT, "run", str(task / "task.yaml"), *scene.argv],
        cwd=work,
        env={"HOME": str(home), **environment},
        timeout=60,
    )
    return Seen(person, done.returncode, done.stdout, done.stderr, folder / "runs")


@contextmanager
def product_without(person: Person) -> Iterator[Callable[[Wall], dict[str, str]]]:
    """A copy of the product, in which one wall at a time is taken out. Yields what gives the
    environment in which the copy is used."""
    folder = Path(tempfile.mkdtemp(prefix="product-", dir=person.folder))
    folder.chmod(0o755)
    try:
        for root in ROOTS:
            shutil.copytree(
                CHECKOUT / root, folder / root, ignore=shutil.ignore_patterns("*.md", "pictures")
            )
        changed: list[Wall] = []

        def take_out(wall: Wall) -> dict[str, str]:
            for before in changed:
                shutil.copy2(CHECKOUT / before.file, folder / before.file)
            changed[:] = [wall]
            text = (CHECKOUT / wall.file).read_text() + f"\n\n{wall.text}\n"
            compile(text, wall.file, "exec")
            (folder / wall.file).write_text(text)
            return {"PYTHONPATH": ":".join(str(folder / root) for root in ROOTS)}

        yield take_out
    finally:
        shutil.rmtree(folder)
