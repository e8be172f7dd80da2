"""git inside the walls: who commits, which files it ignores, and where its folder is.

The user's own configuration is not shown, because it may hold credentials and name programs. What
is harmless in it and changes what git does is copied to a configuration in the home folder inside.

The folder of a repository may lie outside the workspace. A linked worktree and a submodule name
theirs in a file `.git`, which tools can write. So this folder is shown only if it names the
workspace in turn: git writes that entry, and no tool can. It is never writable without being named,
because git executes what is configured there. gitrepository-layout(5), git-worktree(1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

import msgspec

from sandbox_agent_sandbox.plan import File
from sandbox_agent_sandbox.policy.paths import follow, is_inside, read_text
from sandbox_agent_sandbox.policy.view import HOME, View
from sandbox_agent_sandbox.protection.files import read_regular
from sandbox_agent_sandbox.protection.git_index import MAX_INDEX

_DEEPEST = 4

_COPIED = frozenset(
    (
        *("user.name", "user.email", "user.useconfigonly", "author.name", "author.email"),
        *("committer.name", "committer.email", "init.defaultbranch", "core.autocrlf", "core.eol"),
        *("core.safecrlf", "core.quotepath", "core.ignorecase", "core.precomposeunicode"),
        *("core.commentchar", "core.whitespace", "pull.rebase", "pull.ff", "push.default"),
        *("merge.ff", "merge.conflictstyle", "rebase.autosquash", "rebase.autostash"),
        *("branch.autosetuprebase", "commit.cleanup", "apply.whitespace", "safe.directory"),
    )
)
"""What is copied: it names neither a program nor a credential."""

_IDENTITY = frozenset(("user.name", "user.email"))

_EMPTY = tuple(
    bytes.fromhex(name)
    for name in (
        "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
        "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
    )
)
"""The object names of an empty file, of SHA-1 and of SHA-256."""

_SECTION = r'\[\s*([-A-Za-z0-9.]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]'

Setting = tuple[str, str]
"""The name of a variable, in lower case but for its middle part, and its value."""


def show_git(view: View, workspace: str) -> None:
    """Add what git needs, and note what it will not find."""
    found = _find(workspace)
    settings = list(_settings_of_user(view, None if found is None else found.git))
    if found is not None:
        _show_repository(view, workspace, found)
        if _value(settings, "commit.gpgsign") == "true":
            view.note("git: tools commit without a signature, because your key stays outside")
    if view.shows(HOME):
        return  # the home folder inside is a folder of the host: nothing is written there
    view.files.append(File(f"{HOME}/.config/git/config", _configuration(settings)))
    if ignored := _ignored(view, settings):
        view.files.append(File(f"{HOME}/.config/git/ignore", ignored))


def is_tracked(workspace: str, path: str) -> bool:
    """Whether git keeps content of a file, or of files in a folder, of the workspace, by the index
    of its repository. Both are real paths.

    Looks for the entry of the file: the hash of its content, two bytes with the length of its name,
    the name, a NUL byte; gitformat-index(5). In version 4 names are packed: then every file counts.
    """
    found = _find(workspace)
    if found is None or not is_inside(path, found.folder):
        return False
    name = os.fsencode(os.path.relpath(path, found.folder))
    data = read_regular(f"{found.git}/index", MAX_INDEX) or b""
    if data[4:8] == b"\0\0\0\4" or name + b"/" in data:
        return True
    before, found_name, _ = data.partition(min(len(name), 0xFFF).to_bytes(2, "big") + name + b"\0")
    return bool(found_name) and not before.endswith(_EMPTY)


# --- the repository --------------------------------------------------------------------------


class _Repository(msgspec.Struct, frozen=True):
    """folder: it has the `.git`. git: the real path of the folder that `.git` is or names. common:
    the folder that all worktrees of the repository share."""

    folder: str
    git: str
    common: str


def _find(workspace: str) -> _Repository | None:
    """The repository that a workspace is in. As git, look upwards from it."""
    folder = workspace
    while folder:
        git = follow(f"{folder}/.git").real
        if os.path.isfile(git):
            named = read_text(git)
            if named.startswith("gitdir:"):
                named = named.removeprefix("gitdir:").strip()
                git = follow(os.path.join(os.path.dirname(git), named)).real
        if os.path.lexists(f"{git}/HEAD"):
            common = read_text(f"{git}/commondir").strip()
            return _Repository(folder, git, follow(os.path.join(git, common)).real)
        folder = folder.rpartition("/")[0]
    return None


def _show_repository(view: View, workspace: str, found: _Repository) -> None:
    folder, git, common = found.folder, found.git, found.common
    if not (view.shows(common) and view.shows(git)):
        if folder != workspace:
            view.note(
                f"git: the workspace {workspace} is a part of the repository {folder}, and tools do"
                f" not see its git folder {git}, so git does not work there; for git, choose"
                f" {folder} as the workspace"
            )
            return
        if not _names(found, workspace):
            view.note(
                f"git: {workspace}/.git leads to {git}, which tools do not see, so git does not"
                " work there; if that is right, add it to sandbox.read"
            )
            return
        # Read-only: what git executes on the host is configured there.
        for path in (common, git):
            if not view.shows(path):
                view.add(path, remap=True)
        needed = [*(f"{common}/{name}" for name in ("objects", "refs", "logs")), git]
        missing = [path for path in needed if os.path.isdir(path) and not view.can_write(path)]
        if missing:
            # The git folder of a submodule is not to be named as a whole: its hooks are in it.
            submodule = "choose the repository that it is a submodule of as the workspace"
            name_them = f"add to sandbox.write: {', '.join(missing)}"
            view.note(
                f"git: the history of {workspace} is in {common}, which tools can read and not"
                f" write, so they cannot commit; to let them,"
                f" {submodule if git == common else name_them}"
            )
    for line in read_text(f"{common}/objects/info/alternates").splitlines():
        real = follow(os.path.join(f"{common}/objects", line.strip())).real
        if line.strip() and os.path.isdir(real) and not view.shows(real):
            view.note(
                f"git: objects of the repository are in {real}, which tools do not see; if that is"
                " right, add it to sandbox.read"
            )


def _names(found: _Repository, workspace: str) -> bool:
    """Whether a git folder outside of the workspace names this workspace as its own."""
    git, common = found.git, found.common
    if not all(os.path.lexists(f"{common}/{name}") for name in ("HEAD", "objects", "refs")):
        return False
    if git != common:
        named = read_text(f"{git}/gitdir").strip()
        return os.path.dirname(git) == f"{common}/worktrees" and named == f"{workspace}/.git"
    worktree = _value(list(_parse(read_text(f"{git}/config"))), "core.worktree")
    return bool(worktree) and follow(os.path.join(git, worktree)).real == workspace


# --- the configuration -----------------------------------------------------------------------


def _settings_of_user(view: View, git: str | None) -> Iterator[Setting]:
    """The user's settings, in the order in which git reads them."""
    environment = view.facts.environment
    base = environment.get("XDG_CONFIG_HOME") or f"{view.home}/.config"
    files = [f"{base}/git/config", f"{view.home}/.gitconfig"]
    if named := environment.get("GIT_CONFIG_GLOBAL"):
        files = [named]
    for file in files:
        yield from _included(file, view, git, ())


def _included(path: str, view: View, git: str | None, above: tuple[str, ...]) -> Iterator[Setting]:
    """The settings of a file and of what it includes. above: the files that include it."""
    if path in above or len(above) > _DEEPEST:
        return
    # Where tools can write the file, it may say who commits, and must not name other files.
    trusted = not view.can_write(follow(path).real)
    for name, value in _parse(read_text(path)):
        if not trusted and name not in _IDENTITY:
            continue
        condition = name.removeprefix("includeif.").removesuffix(".path")
        if name != "include.path" and not name.startswith("includeif."):
            yield name, value
        elif name == "include.path" or _holds(condition, path, view, git):
            named = os.path.join(os.path.dirname(path), _expand(value, view))
            yield from _included(named, view, git, (*above, path))


def _holds(condition: str, path: str, view: View, git: str | None) -> bool:
    """Whether the condition of an [includeIf] holds: `gitdir:` and `gitdir/i:` are known."""
    kind, _, pattern = condition.partition(":")
    if git is None or kind not in ("gitdir", "gitdir/i"):
        return False
    pattern = _expand(pattern, view)
    if pattern.startswith("./"):
        pattern = os.path.join(os.path.dirname(path), pattern[2:])
    elif not pattern.startswith("/"):
        pattern = f"**/{pattern}"
    if pattern.endswith("/"):
        pattern += "**"
    where = f"{git}/" if pattern.endswith("/**") else git
    if kind == "gitdir/i":
        pattern, where = pattern.lower(), where.lower()
    return fnmatchcase(where, pattern.replace("**", "*"))


def _expand(path: str, view: View) -> str:
    return f"{view.home}/{path[2:]}" if path.startswith("~/") else path


def _configuration(settings: list[Setting]) -> str:
    lines = ["# Made by sandbox-agent from your own configuration: what is harmless in it."]
    for name, value in [*settings, ("safe.directory", "*")]:
        if name in _COPIED:
            section, _, key = name.partition(".")
            quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines += [f"[{section}]", f'\t{key} = "{quoted}"']
    return "\n".join(lines) + "\n"


def _ignored(view: View, settings: list[Setting]) -> str:
    """The patterns of files that the user's git ignores everywhere."""
    environment = view.facts.environment
    base = environment.get("XDG_CONFIG_HOME") or f"{view.home}/.config"
    path = _expand(_value(settings, "core.excludesfile") or f"{base}/git/ignore", view)
    return "" if view.can_write(follow(path).real) else read_text(path)


def _value(settings: list[Setting], name: str) -> str:
    """The last value of a variable; "" if there is none."""
    return next((value for key, value in reversed(settings) if key == name), "")


def _parse(text: str) -> Iterator[Setting]:
    """The settings in the text of a configuration. What git would refuse is left out.
    git-config(1)"""
    section = ""
    lines = iter(text.splitlines())
    for line in lines:
        line = line.strip()
        if line.startswith("[") and (head := re.match(_SECTION, line)) is not None:
            name, sub = head.groups()
            section = name.lower() if sub is None else f"{name.lower()}.{_unescape(sub)}"
            line = line[head.end() :].strip()
        if not line or line[0] in "#;" or not section:
            continue
        while line.endswith("\\") and not line.endswith("\\\\"):
            line = line[:-1] + next(lines, "")
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if re.fullmatch(r"[a-z][-a-z0-9]*", key):
            yield f"{section}.{key}", _clean(value) if equals else "true"


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


_ESCAPES: Mapping[str, str] = {"n": "\n", "t": "\t", "b": "\b"}


def _clean(value: str) -> str:
    """A value without comment, quotes and escapes."""
    out, quoted, kept = "", False, 0
    characters = iter(value.strip())
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            out += _ESCAPES.get(following, following)
        elif character == '"':
            quoted = not quoted
        elif character in "#;" and not quoted:
            break
        else:
            out += character
            if character.isspace() and not quoted:
                continue
        kept = len(out)
    return out[:kept]
