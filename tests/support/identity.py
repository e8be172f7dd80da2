"""Who runs a command under test: root, or an ordinary user with a home of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import as_user
import observer
from environments import ENVIRONMENTS, Environment
from paths import CHECKOUT as CHECKOUT

BIN = Path(sys.prefix) / "bin"


@dataclass(frozen=True)
class Person:
    """folder: theirs alone, with `home` and `work` in it. uid: of the processes they start.
    place: the host that refuses something, where they start them; None for this one. is_first: in
    a container, their command is the first process."""

    uid: int
    folder: Path
    place: Environment | None = None
    is_first: bool = False

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def own(self, *paths: Path) -> None:
        """Makes paths (made by the test, which may be root) theirs."""
        if os.geteuid() == 0:
            for path in paths:
                os.chown(path, self.uid, self.uid)

    def write(self, path: Path, text: str) -> Path:
        path.write_text(text)
        self.own(path)
        return path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Small and the same everywhere."""
        path = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", **(more or {})}

    def command(self, argv: Sequence[str]) -> list[str]:
        if self.place is not None and self.place.in_container:
            where = ("--as", str(self.uid), "--own", str(self.folder))
            first = ("--first", "command") if self.is_first else ()
            return self.place.wrap(argv, *where, *first)
        if self.place is not None:
            argv = self.place.wrap(argv)
        if self.uid == os.geteuid():
            return list(argv)
        return as_user.command(self.uid, self.home, list(argv), checkout=CHECKOUT)

    def pid_of(self, process: subprocess.Popen[str]) -> int:
        """Of the command that `start` started. In a container it is a child of the first process,
        which does nothing else."""
        if self.place is None or not self.place.in_container:
            return process.pid

        def look() -> int:
            below = observer.descendants(process.pid)
            firsts = {one.pid for one in below if one.namespace_pids[1:] == (1,)}
            if self.is_first:
                return next(iter(firsts), 0)
            return next((one.pid for one in below if one.parent in firsts), 0)

        return observer.eventually(look, 30)

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Starts a command in their work folder. Its pid is the command's own, no wrapper's."""
        options = {
            "cwd": self.work,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            **options,
        }
        return subprocess.Popen(self.command(argv), env=self.environment(env), **options)

    def run(
        self, argv: Sequence[str], *, timeout: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; kills it after `timeout` seconds."""
        with self.start(argv, **options) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)


def someone(kind: str, account: int | None = None) -> Iterator[Person]:
    """A person of that kind ("root", "user"; "user in docker-filter"), whose folder is removed
    afterwards.

    account: the uid of a user, if this is root; without it, one that no account has.
    """
    kind, _, place = kind.partition(" in ")
    uid = os.geteuid()
    if kind == "user" and uid == 0:
        uid = account or as_user.some_uid()
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
    try:
        person = Person(uid, folder, ENVIRONMENTS[place] if place else None)
        person.home.mkdir()
        person.work.mkdir()
        person.own(folder, person.home, person.work)
        yield person
    finally:
        shutil.rmtree(folder)
