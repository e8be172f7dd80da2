"""What the folders of $PATH need beside themselves.

A folder of $PATH often holds only the doors of an installation: a version manager's shims, a
virtual environment's scripts, links to programs elsewhere. So that these programs work inside as
they do outside, what belongs to them is shown too, read-only. What still leads to a place that is
not shown is named in a note.

$PATH, the home folder and the installations are the user's own. A folder that tools can write may
be among them, for instance `node_modules/.bin` of the workspace. It is shown as a part of the
workspace, and what it names elsewhere is shown only if it is an installation that the user has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from sandbox_agent_sandbox.plan import Mask, MaskedFor
from sandbox_agent_sandbox.policy.paths import is_inside, is_inside_any, read_text
from sandbox_agent_sandbox.policy.view import KERNEL_FOLDERS, View
from sandbox_agent_sandbox.utf8 import is_utf8


class _Manager(msgspec.Struct, frozen=True):
    """A version manager: the variable that names its folder, and where that is in the home folder
    by default. bin: the folder of $PATH that it fills, where this lies elsewhere."""

    variable: str
    default: str
    bin: str = ""


_MANAGERS = (
    _Manager("PYENV_ROOT", ".pyenv"),
    _Manager("RBENV_ROOT", ".rbenv"),
    _Manager("NODENV_ROOT", ".nodenv"),
    _Manager("GOENV_ROOT", ".goenv"),
    _Manager("JENV_ROOT", ".jenv"),
    _Manager("PLENV_ROOT", ".plenv"),
    _Manager("PHPENV_ROOT", ".phpenv"),
    _Manager("TFENV_ROOT", ".tfenv"),
    _Manager("NVM_DIR", ".nvm"),
    _Manager("FNM_DIR", ".local/share/fnm"),
    _Manager("ASDF_DATA_DIR", ".asdf"),
    _Manager("ASDF_DIR", ".asdf"),
    _Manager("MISE_DATA_DIR", ".local/share/mise"),
    _Manager("VOLTA_HOME", ".volta"),
    _Manager("SDKMAN_DIR", ".sdkman"),
    _Manager("RYE_HOME", ".rye"),
    _Manager("PROTO_HOME", ".proto"),
    _Manager("PIXI_HOME", ".pixi"),
    _Manager("OPAMROOT", ".opam"),
    _Manager("BUN_INSTALL", ".bun"),
    _Manager("DOTNET_ROOT", ".dotnet"),
    _Manager("rvm_path", ".rvm"),
    _Manager("", ".ghcup"),
    _Manager("", ".krew"),
    _Manager("RUSTUP_HOME", ".rustup", bin=".cargo/bin"),
    _Manager("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python"),
    _Manager("UV_TOOL_DIR", ".local/share/uv/tools"),
    _Manager("PIPX_HOME", ".local/share/pipx"),
    _Manager("PIPX_HOME", ".local/pipx"),
)

_INSTALLATION = (
    "conda-meta", "Cellar", "lib/modules", "jre/lib", ".opam-switch", "lib/node_modules",
    "src/cmd/go/main.go", "bin/mvn", "specifications", "autoload.php",
    "bin/flutter", "jars",
)  # fmt: skip
"""Marks of a folder that is an installation as a whole: of conda, Homebrew, a JDK, an older JDK, an
opam switch, npm, Go, Maven, RubyGems, Composer, Flutter, Spark."""

_PARTS = ("lib", "lib64", "libexec", "share")
"""Of any other folder that has a `bin`, what programs need. The rest may be somebody's project."""

_WIDE = (".local", ".local/share", ".config", ".cache", ".cargo", "go", "Library")
"""Folders of the home folder that hold the data of many programs, or other projects."""

_SECRETS = (
    "credentials", "credentials.toml", ".npmrc", "etc/npmrc", ".condarc", ".netrc", ".pypirc",
    ".git-credentials", "auth.json", "auth.toml", "corefx/cryptography",
)  # fmt: skip
"""Files with credentials that an installation may hold."""

_PRIVATE = (
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store", ".config/gcloud",
    ".config/gh", ".local/share/keyrings", ".mozilla",
)  # fmt: skip
"""Never shown because of $PATH."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/nix/store", "/snap")
_LOCAL_BIN = "/usr/local/bin"
_MOST_NAMES = 1000
_MOST_READ = 64
"""Bounds of one start: the names looked at in a folder, and the scripts whose first line is read
in all folders together."""


_ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX", "JAVA_HOME")
"""Variables that name an installation in use."""


def show_programs(view: View) -> None:
    """Show the folders of $PATH and of active environments, and what belongs to them.

    Without a workspace no commands are run, or next to none: then only the folders are shown.
    """
    programs = _Programs(view)
    for entry in view.facts.path:
        programs.show(entry)
    if view.workspace is not None:
        for variable in _ACTIVE:
            if folder := view.facts.environment.get(variable):
                programs.show(f"{folder}/bin")
        programs.finish()


class _Programs:
    def __init__(self, view: View) -> None:
        self._view = view
        self._environment = view.facts.environment
        self._home = view.home
        self._wide = {f"{self._home}/{name}" for name in _WIDE}
        self._private = [f"{self._home}/{name}" for name in _PRIVATE]
        self._managers = self._find_managers()
        self._folders: dict[str, str] = {}  # the real path -> as $PATH names it
        self._alone: set[str] = set()
        self._roots: dict[str, None] = {}
        self._read_left = _MOST_READ
        self._of_pip = False

    def show(self, entry: str) -> None:
        """Show a folder of $PATH, and what is known to belong to it."""
        view = self._view
        # Entries of $PATH often do not exist, or cannot be looked at: no error.
        if not entry.startswith("/") or not is_utf8(entry) or not os.path.isdir(entry):
            return
        followed = view.follow(entry)
        real = followed.real
        if followed.left is not None and not view.shows(real):
            view.note(
                f"PATH: {entry} is left out: a link in {followed.left}, which tools can write,"
                f" leads to {real}; if that is meant, name {real} in PATH"
            )
            return
        # The home folder itself, or a folder that holds it, would show what is hidden.
        if is_inside(self._home, real) or is_inside_any(real, self._private):
            return
        if view.workspace is not None and is_inside(real, view.workspace):
            view.keep_links(entry, followed)
        else:
            view.add_unseen(entry)
        system = is_inside_any(real, _SYSTEM) and real != _LOCAL_BIN
        if view.workspace is None or system or real in self._folders:
            return
        self._folders[real] = entry
        if real != _LOCAL_BIN and not self._show_what_belongs_to(real):
            self._alone.add(real)
            self._note_what_is_beside(real)

    def finish(self) -> None:
        """Follow the links of what was shown, and note what leads to nothing that is visible."""
        for folder, entry in self._folders.items():
            unseen = dict(self._unseen(folder))
            if unseen:
                names = ", ".join(islice(unseen, 3)) + (", ..." if len(unseen) > 3 else "")
                self._view.note(
                    f"PATH: in {entry}, tools do not see what these commands need: {names}; they"
                    f" lead to {next(iter(unseen.values()))}: add that to sandbox.read"
                )
        # Of the system's own links into /opt only this one is followed: looking at all of them
        # would cost every start some milliseconds.
        self._see(str(self._view.facts.root / "etc/alternatives/java"), trusted=True)
        if self._of_pip and os.path.isdir(f"{self._home}/.local/lib"):
            lib = f"{self._home}/.local/lib"
            if not self._view.shows(lib):
                self._view.note(
                    f"PATH: what `pip install --user` installed is in {lib}, which tools do not"
                    f" see; add it to sandbox.read, and set PYTHONUSERBASE to {self._home}/.local"
                    " in sandbox.env.set"
                )
        for root in self._roots:
            self._hide_secrets(root)
        self._copy_chosen_versions()

    def _copy_chosen_versions(self) -> None:
        """Copy which versions the user has chosen, where a manager looks for that below HOME."""
        view = self._view
        if "ASDF_DATA_DIR" in view.variables:
            view.copy_to_home(".tool-versions")
        if "MISE_DATA_DIR" in view.variables:
            # Of its configuration only this part: others may hold secrets.
            view.copy_to_home(".config/mise/config.toml", section="[tools]")

    # --- what belongs to a folder ------------------------------------------------------------

    def _find_managers(self) -> list[tuple[str, _Manager]]:
        found = []
        for manager in _MANAGERS:
            folder = f"{self._home}/{manager.default}"
            named = self._environment.get(manager.variable, "") if manager.variable else ""
            if named.startswith("/") or os.path.islink(folder):
                folder = self._view.follow(named or folder).real
            found.append((folder, manager))
        return found

    def _show_what_belongs_to(self, folder: str) -> bool:
        """Show the installation that a folder with programs is the door of, if there is one."""
        managed = self._show_manager(folder)
        prefix, _, name = folder.rpartition("/")
        if os.path.isfile(f"{prefix}/pyvenv.cfg"):
            self._show(prefix)
            self._show_interpreter(prefix)
            return True
        if managed:
            return True
        parts = folder.split("/")
        if "node_modules" in parts:
            self._show("/".join(parts[: parts.index("node_modules") + 1]))
            return True
        if name == "shims":
            return self._show(prefix)
        if name not in ("bin", "sbin", "condabin"):
            return False
        if prefix in self._wide or self._view.is_too_wide(prefix):
            return False
        if any(os.path.lexists(f"{prefix}/{mark}") for mark in _INSTALLATION):
            return self._show(prefix)
        shown = [self._show(f"{prefix}/{part}") for part in _PARTS]
        return any(shown)

    def _show_manager(self, folder: str) -> bool:
        found = False
        for root, manager in self._managers:
            behind = bool(manager.bin) and folder == self._bin_of(manager)
            if (is_inside(folder, root) or behind) and (self._view.shows(root) or self._show(root)):
                found = True
                if manager.variable:
                    # The manager looks below HOME, which is another folder inside.
                    self._view.variables[manager.variable] = root
        return found

    def _bin_of(self, manager: _Manager) -> str:
        cargo = self._environment.get("CARGO_HOME", "")
        if manager.variable == "RUSTUP_HOME" and cargo.startswith("/"):
            return self._view.follow(f"{cargo}/bin").real
        return f"{self._home}/{manager.bin}"

    def _show_interpreter(self, environment: str) -> None:
        """Show the installation that a virtual environment was made from (`home`, PEP 405)."""
        home = _interpreter_of(environment)
        if not home.startswith("/") or not os.path.isdir(home):
            return
        real = self._view.follow(home).real
        if self._view.shows(real):
            self._view.add_unseen(home)
            return
        prefix = real.removesuffix("/bin")
        known = self._is_known(real) or _is_python(prefix)
        if self._view.can_write(environment) and not known:
            self._view.note(
                f"{environment} was made with the Python in {home}, which tools do not see; if that"
                " is right, add its installation to sandbox.read"
            )
        elif self._show(real):
            self._view.add_unseen(home)
            self._show_what_belongs_to(real)

    def _is_known(self, real: str) -> bool:
        """Whether a path is in an installation that the user has, whoever names it."""
        return any(is_inside(real, root) for root, _ in self._managers)

    def _show(self, path: str) -> bool:
        """Show a path unless that would show too much. Returns whether it is visible."""
        view = self._view
        real = view.follow(path).real
        if not os.path.exists(real):
            return False
        if not view.shows(real):
            private = is_inside_any(real, self._private) or real in self._wide
            if private or view.is_too_wide(real):
                return False
            view.add(real)
        self._roots[real] = None
        return True

    def _hide_secrets(self, root: str) -> None:
        for name in _SECRETS:
            path = f"{root}/{name}"
            if os.path.lexists(path) and self._view.leads_to(path) == path:
                mask = Mask(path, os.path.isdir(path), reason=MaskedFor.SECRETS)
                self._view.masks.append(mask)

    def _note_what_is_beside(self, folder: str) -> None:
        """Note that of an installation of no known kind only the programs are shown."""
        prefix, _, name = folder.rpartition("/")
        known = prefix in self._wide or self._view.shows(prefix) or self._view.is_too_wide(prefix)
        if name != "bin" or known or prefix.count("/") < 2 or prefix.rpartition("/")[2][0] == ".":
            return
        if any(entry.name != name for entry in _entries(prefix)):
            self._view.note(
                f"PATH: of {prefix} tools see only {name}; if programs in it need the rest, add"
                f" {prefix} to sandbox.read"
            )

    # --- what the commands in a folder lead to -----------------------------------------------

    def _unseen(self, folder: str) -> Iterator[tuple[str, str]]:
        """The commands in a folder that need what is not visible, each with what it needs."""
        trusted = not self._view.can_write(folder)
        for entry in _entries(folder):
            if not is_utf8(entry.name):
                continue
            if entry.is_symlink():
                need = entry.path
            elif folder in self._alone and self._read_left > 0:
                self._read_left -= 1
                need = _interpreter_line(entry.path)
                if folder == f"{self._home}/.local/bin" and "/python" in need:
                    self._of_pip = True
            else:
                continue
            if need and not self._see(need, trusted):
                yield entry.name, self._view.follow(need).real

    def _see(self, path: str, trusted: bool) -> bool:
        """Whether a command's program is visible, or can be shown with what belongs to it."""
        view = self._view
        followed = view.follow(path)
        real = followed.real
        if followed.loop or not os.path.exists(real) or is_inside_any(real, KERNEL_FOLDERS):
            return True  # it does not work outside either; or it is the sandbox's own
        if not view.shows(real) and (trusted or self._is_known(real)):
            self._show_what_belongs_to(real.rpartition("/")[0])
            if not view.shows(real):
                self._show(real)
        if view.shows(real):
            view.keep_links(path, followed)
            return True
        return False


def _entries(folder: str) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(islice(entries, _MOST_NAMES))
    except OSError:
        return ()


def _is_python(prefix: str) -> bool:
    """Whether a folder is the installation of a Python: it has the standard library."""
    names = [entry.name for entry in _entries(f"{prefix}/lib") if entry.name.startswith("python3")]
    return any(os.path.isfile(f"{prefix}/lib/{name}/os.py") for name in names)


def _interpreter_of(environment: str) -> str:
    """What pyvenv.cfg names as the folder of the interpreter; "" if that cannot be read."""
    for line in read_text(f"{environment}/pyvenv.cfg").splitlines():
        key, _, value = line.partition("=")
        if key.strip().lower() == "home":
            return value.strip()
    return ""


def _interpreter_line(path: str) -> str:
    """The program that the first line of a script names; "" if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        head = os.read(fd, 256)
    except OSError:
        return ""
    finally:
        os.close(fd)
    words = head.split(b"\n")[0][2:].split() if head.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words and words[0].startswith(b"/") else ""
