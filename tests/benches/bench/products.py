"""The products that are measured: the working tree, and another commit beside it.

The other commit has a tree and an environment of its own, made by its own `scripts/setup`. They
stay for the next time in the folder `bench` of this checkout's environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import paths

from bench.asked import PROGRAMS, Asked, program
from bench.errors import BadInput, CannotMeasure

KEPT = Path(sys.prefix) / "bench"
"""Environments that are made once: of other commits, and of peers."""


@dataclass(frozen=True)
class Cost:
    """Of one process: seconds, processor seconds of it and of all that it waited for, and what it
    printed."""

    wall: float
    cpu: float
    out: str


@dataclass(frozen=True)
class Product:
    """One version of sandbox-agent. name: for people. python: of its environment. folder: to work
    in, removed after the run. commit: its full name; "" for the working tree."""

    name: str
    python: str
    folder: Path
    commit: str = ""

    @property
    def agent(self) -> str:
        """The command sandbox-agent."""
        return str(Path(self.python).parent / "sandbox-agent")

    def environ(self) -> dict[str, str]:
        """Small, and the same for every product."""
        return {
            "PATH": f"{Path(self.python).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }

    def run(
        self, argv: Sequence[str], *, code: int = 0, more: Mapping[str, str] | None = None
    ) -> Cost:
        """Runs a command to its end. code: the exit code that it must have. more: variables.
        Raises CannotMeasure."""
        return run(
            self.name,
            argv,
            env={**self.environ(), **(more or {})},
            cwd=self.folder / "work",
            code=code,
        )

    def program(self, name: str, *arguments: object) -> Cost:
        """Runs a program of the folder `programs` to its end."""
        return self.run([self.python, str(PROGRAMS / name), *map(str, arguments)])

    def asked(self, name: str, *arguments: str) -> contextlib.AbstractContextManager[Asked]:
        """Starts a program of the folder `programs` that answers (see `asked`)."""
        argv = [self.python, str(PROGRAMS / name), *arguments]
        return program(self.name, argv, env=self.environ(), cwd=self.folder / "work")

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[Path]:
        """An empty folder for one program."""
        with tempfile.TemporaryDirectory(dir=self.folder / "tmp") as name:
            folder = Path(name)
            folder.chmod(0o755)
            (folder / "work").mkdir()
            yield folder


def run(
    name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, code: int = 0
) -> Cost:
    """Runs a command to its end. name: for messages. Raises CannotMeasure."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = monotonic()
        try:
            process = subprocess.Popen(
                argv, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        except OSError as error:
            raise CannotMeasure(f"{name}: {argv[0]} cannot be started: {error}") from None
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != code:
            said = err.read().decode(errors="replace")[-3000:]
            raise CannotMeasure(f"{name}: exit {process.returncode} of {' '.join(argv)}:\n{said}")
        return Cost(wall, usage.ru_utime + usage.ru_stime, out.read().decode(errors="replace"))


def working_tree(folder: Path) -> Product:
    """This checkout, as it is now."""
    return _product("here", sys.executable, folder / "here")


def other(ref: str, folder: Path) -> Product:
    """Another commit. Raises BadInput when there is no such commit, or it cannot be built."""
    commit = commit_of(ref)
    with making():
        python = _built(commit, ref)
    return _product(ref[:12], python, folder / "there", commit)


def commit_of(ref: str) -> str:
    """Its full name. Raises BadInput."""
    argv = ["git", "-C", str(paths.CHECKOUT), "rev-parse", "--verify", "--quiet"]
    try:
        done = subprocess.run(
            [*argv, "--end-of-options", f"{ref}^{{commit}}"], capture_output=True, text=True
        )
    except OSError as error:
        raise BadInput(f"--against {ref}: git cannot be started: {error}") from None
    if done.returncode:
        raise BadInput(
            f"--against {ref}: there is no such commit in {paths.CHECKOUT}"
            "\n  hint: `git log --oneline` lists commits; a shallow clone has few of them"
        )
    return done.stdout.strip()


def _product(name: str, python: str, folder: Path, commit: str = "") -> Product:
    for part in ("home", "work", "tmp", "state"):
        (folder / part).mkdir(parents=True)
    return Product(name, python, folder, commit)


@contextlib.contextmanager
def making() -> Iterator[None]:
    """While environments are made, another bench waits: flock(2)."""
    KEPT.mkdir(parents=True, exist_ok=True)
    handle = os.open(KEPT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _built(commit: str, ref: str) -> str:
    """The interpreter of a commit's environment, which is made where there is none yet."""
    folder = KEPT / f"commit-{commit[:12]}"
    ready = folder / "python"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _extract(commit, folder / "tree")
        print(f"making an environment for {ref}", file=sys.stderr, flush=True)
        setup = folder / "tree" / "scripts" / "setup"
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SANDBOX_AGENT_")}
        done = subprocess.run([setup], env=environ, capture_output=True, text=True)
        if done.returncode:
            raise BadInput(f"--against {ref}: its scripts/setup fails:\n{done.stderr[-3000:]}")
        python = done.stdout.strip()
        # Nothing inside a sandbox can write byte code, so it must be there.
        roots = [str(folder / "tree" / name) for name in ("runtime", "sandbox", "ipc")]
        subprocess.run([python, "-m", "compileall", "-q", *roots], check=True)
        ready.write_text(python)
    return ready.read_text()


def _extract(commit: str, folder: Path) -> None:
    argv = ["git", "-C", str(paths.CHECKOUT), "archive", commit]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as git:
        assert git.stdout is not None
        with tarfile.open(fileobj=git.stdout, mode="r|") as tar:
            tar.extractall(folder, filter="data")
