"""Other programs to compare with. Each is installed in an environment of its own.

They stay in the folder `bench` of this checkout's environment for the next time. What cannot be
had is skipped with a note.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import CannotMeasure
from bench.products import KEPT, making

PATIENCE = 600.0
"""Seconds for one installation."""


@dataclass(frozen=True)
class Peer:
    """A program that is installed. path: of its interpreter, or of the command itself. folder: of
    its environment."""

    name: str
    path: str
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """Variables that it needs: where Debian's packages were unpacked for it."""
        if not (self.folder / "usr").is_dir():
            return {}
        libraries = [str(one) for one in (self.folder / "usr" / "lib").glob("*-linux-gnu")]
        return {
            "PATH": f"{self.folder / 'usr' / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": ":".join(libraries),
        }


Installer = Callable[[str, Path], Peer]
"""Makes a peer's environment in a folder, or finds it there."""


def _run(name: str, argv: Sequence[str | Path], cwd: Path | None = None) -> None:
    """Raises CannotMeasure."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotMeasure(f"{name} cannot be installed: {error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
        command = Path(argv[0]).name
        raise CannotMeasure(f"{name} cannot be installed: {command} said: {said[-1][:300]}")


def _python(oldest: tuple[int, int]) -> str:
    """An interpreter of that version or a newer one. Raises CannotMeasure."""
    if sys.version_info >= oldest:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(oldest[1], 21)]
    found = [path for name in names if (path := shutil.which(name))]
    found += [
        path
        for name in names
        for path in sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/*/bin/{name}")))
    ]
    for path in found:
        with_venv = [path, "-c", "import venv, ensurepip"]
        if subprocess.run(with_venv, capture_output=True).returncode == 0:
            return path
    raise CannotMeasure(f"no Python {oldest[0]}.{oldest[1]} or newer with venv is there")


def from_pypi(*packages: str, oldest: tuple[int, int] = (3, 11)) -> Installer:
    """An environment with these packages. oldest: the Python that they need."""

    def install(name: str, folder: Path) -> Peer:
        try:
            base = _python(oldest)
        except CannotMeasure as error:
            raise CannotMeasure(f"{name} cannot be installed: {error}") from None
        _run(name, [base, "-m", "venv", folder])
        python = folder / "bin" / "python"
        options = ["--quiet", "--disable-pip-version-check"]
        _run(name, [python, "-m", "pip", "install", *options, *packages])
        return Peer(name, str(python), folder)

    return install


def from_npm(package: str, command: str, debian: Mapping[str, str] | None = None) -> Installer:
    """A command of a package of npm. debian: commands that it needs, each with the packages of
    Debian that have it where it is not on the PATH."""

    def install(name: str, folder: Path) -> Peer:
        needed = {need: of for need, of in (debian or {}).items() if shutil.which(need) is None}
        if found := shutil.which(command):
            if needed:
                raise CannotMeasure(f"{name} cannot be used: it needs {', '.join(needed)}")
            return Peer(name, found, folder)
        _run(name, ["npm", "install", "--silent", "--no-fund", "--prefix", folder, package])
        for packages in needed.values():
            _unpack(name, packages.split(), folder)
        return Peer(name, str(folder / "node_modules" / ".bin" / command), folder)

    return install


def _unpack(name: str, packages: Sequence[str], folder: Path) -> None:
    """Unpacks packages of Debian in a folder. Nothing of the system is changed."""
    folder.mkdir(parents=True, exist_ok=True)
    _run(name, ["apt-get", "download", *packages], folder)
    for package in folder.glob("*.deb"):
        _run(name, ["dpkg-deb", "--extract", package, folder])
        package.unlink()


def bubblewrap(name: str, folder: Path) -> Peer:
    """bwrap of the PATH, or Debian's, unpacked in a folder."""
    if found := shutil.which("bwrap"):
        return Peer(name, found, folder)
    _unpack(name, ["bubblewrap"], folder)
    path = folder / "usr" / "bin" / "bwrap"
    _run(name, [path, "--version"])
    return Peer(name, str(path), folder)


INSTALLERS: Mapping[str, Installer] = {
    "pebble": from_pypi("pebble"),
    "loky": from_pypi("loky"),
    "anyio": from_pypi("anyio"),
    "Ray actor": from_pypi("ray"),
    "bubblewrap": bubblewrap,
    "codex": from_npm("@openai/codex", "codex"),
    "sandbox-runtime": from_npm(
        "@anthropic-ai/sandbox-runtime",
        "srt",
        {"bwrap": "bubblewrap", "socat": "socat libwrap0", "rg": "ripgrep"},
    ),
    "OpenHands SDK": from_pypi("openhands-sdk", oldest=(3, 12)),
}
"""ProcessPoolExecutor is a peer, too. It is a part of Python, so it is always measured."""

POOLS = ("pebble", "loky", "anyio", "Ray actor")
"""Those that call Python functions."""


class Peers:
    """The peers that were asked for. note: is told why one is skipped, once."""

    def __init__(self, wanted: Sequence[str], note: Callable[[str], object]) -> None:
        self._wanted = wanted
        self._note = note
        self._found: dict[str, Peer | None] = {}

    def get(self, name: str) -> Peer | None:
        """The peer, installed; None when it was not asked for or cannot be had."""
        if name not in self._wanted:
            return None
        if name not in self._found:
            try:
                with making():
                    self._found[name] = self._installed(name)
            except CannotMeasure as error:
                self._found[name] = None
                self._note(f"skipped: {error}")
        return self._found[name]

    def _installed(self, name: str) -> Peer:
        folder = KEPT / f"peer-{name.replace(' ', '-')}"
        path = folder / "path"
        if path.exists() and os.access(path.read_text(), os.X_OK):
            return Peer(name, path.read_text(), folder)
        print(f"making an environment for {name}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            peer = INSTALLERS[name](name, folder)
        except CannotMeasure:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(peer.path)
        return peer


def bubblewrap_command(bwrap: str, folder: Path, argv: Sequence[str]) -> list[str]:
    """A command behind the walls that bwrap can build, with a writable folder."""
    words = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    words += [word for prefix in _prefixes() for word in ("--ro-bind", prefix, prefix)]
    return [*words, "--bind", str(folder), str(folder), "--chdir", str(folder), "--", *argv]


def _prefixes() -> list[str]:
    """Where the interpreter is: it may lie below /tmp."""
    return sorted({sys.prefix, sys.base_prefix})
