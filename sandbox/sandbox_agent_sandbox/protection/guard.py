"""Watches, in one run, what tools leave in a workspace that may start programs later."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.protection.binds import hook_folders
from sandbox_agent_sandbox.protection.finding import PROTECTED, Finding, FindingKind, finding
from sandbox_agent_sandbox.protection.git_guard import MOST_WATCHED, GitGuard, outermost
from sandbox_agent_sandbox.protection.kept import Kept
from sandbox_agent_sandbox.protection.marks import Unfinished, remove_marks
from sandbox_agent_sandbox.protection.modules import WHAT as MODULE
from sandbox_agent_sandbox.protection.modules import modules_in
from sandbox_agent_sandbox.protection.scan import PATIENCE, Seen, look

if TYPE_CHECKING:
    from sandbox_agent_sandbox.protection.put_back import PutBack

_REPOSITORY = "a repository: git uses its settings and hooks when you work in there"
_HOOK = "a hook, which git runs"


class Guard:
    """Made when a run begins, before any call.

    seen: what was found in the folders that tools can write. What is read-only for them is compared
    all the same: it may have another name, by a hard link, and it may be replaced outside.
    workspace: paths in it are told relative to it. skip: folders that are not looked at. restores:
    whether changes are undone, where that is possible. modules: names of modules that Python
    imports before sandbox-agent, from one of the folders `starts` if there is a file there.
    put_back: paths that tools are not to change, and can.

    For any thread.
    """

    def __init__(
        self,
        seen: Seen,
        *,
        workspace: str,
        skip: Collection[str] = (),
        restores: bool = True,
        modules: Collection[str] = (),
        starts: Sequence[str] = (),
        put_back: Sequence[str] = (),
    ) -> None:
        self._begun = time.time()
        self._modules = modules
        self._starts = [one for one in dict.fromkeys(starts) if _is_in(one, seen.roots)]
        self._modules_before = modules_in(self._starts, modules)
        self._seen = seen
        self._workspace = workspace
        self._skip = skip
        self._lock = threading.Lock()
        self._undone: list[Finding] = []
        self._git = GitGuard(seen, restores=restores, name=self._name)
        self._kept = Kept(seen.roots)
        self._put_back = _keep(put_back)
        self._hooks: list[str] = []
        for repository in outermost(seen):
            for folder in hook_folders(repository) if repository.is_folder else ():
                # Elsewhere no tool can write; and reading what lies there can do something.
                if folder not in self._hooks and _is_in_reach(folder, seen.roots):
                    self._hooks.append(folder)
                    self._kept.keep(folder)
        self._named = list(seen.named)[:MOST_WATCHED]
        for path in self._named:
            self._kept.keep(path)

    def after_call(self, call: str) -> tuple[Finding, ...]:
        """Undo what a call changed in the settings of git, and in what is only put back, and say
        it. call: its id."""
        with self._lock:
            undone = (*self._check_protected(call), *self._git.check(call))
            self._undone += undone
        return undone

    def at_end(
        self, give_up: Callable[[], bool] = lambda: False, patience: float = PATIENCE
    ) -> tuple[Finding, ...]:
        """Look through the folders again when no call is going any more. What is undone is undone
        in any case; give_up, patience: for the rest, as in `look`."""
        with self._lock:
            undone = [*self._undone, *self._check_protected(""), *self._git.check("", last=True)]
        until = time.monotonic() + patience
        now = look(self._seen.roots, self._skip, give_up, patience)
        removed, problem = self._remove_marks(give_up, until - time.monotonic())
        now.problem = now.problem or problem
        return (*undone, *removed, *self._compare(now), *self._compare_modules())

    def _check_protected(self, call: str) -> Iterator[Finding]:
        if self._put_back is None:
            return
        for path, is_back in self._put_back.check():
            kind = FindingKind.RESTORED if is_back else FindingKind.NOT_RESTORED
            yield finding(kind, self._name(path), PROTECTED, call)
        for path in () if call else self._put_back.unseen:
            what = "it is too large to look at all of it; tools are not to change it, and can"
            yield self._find(FindingKind.UNSEEN, path, what)

    def _remove_marks(
        self, give_up: Callable[[], bool], patience: float
    ) -> tuple[list[Finding], str]:
        """Whether the policy protects by default or not: what the marks do, nobody means by them.
        The second value says why not all was looked at."""
        found = []
        try:
            for path, what, gone in remove_marks(
                self._seen.roots, self._begun, skip=self._skip, give_up=give_up, patience=patience
            ):
                kind = FindingKind.RESTORED if gone else FindingKind.NOT_RESTORED
                found.append(self._find(kind, path, what))
        except Unfinished as why:
            return found, f"attributes of files: {why}"
        return found, ""

    def _compare_modules(self) -> Iterator[Finding]:
        before = self._modules_before
        for path, version in modules_in(self._starts, self._modules).items():
            if before.get(path) != version:
                kind = FindingKind.CHANGED if path in before else FindingKind.NEW
                yield self._find(kind, path, MODULE)

    def _compare(self, now: Seen) -> Iterator[Finding]:
        before = self._seen
        for path, repository in now.repositories.items():
            then = before.repositories.get(path)
            if then is None:
                if not repository.linked:  # its worktree is told
                    yield self._find(FindingKind.NEW, path, _REPOSITORY)
            elif repository.is_folder and repository.inode != then.inode:
                yield self._find(FindingKind.CHANGED, path, _REPOSITORY)
        for path, named in now.named.items():
            if path not in before.named:
                yield self._find(FindingKind.NEW, path, named.what)
        for path in self._named:
            for is_new, one in self._kept.changes(path):
                kind = FindingKind.NEW if is_new else FindingKind.CHANGED
                yield self._find(kind, one, before.named[path].what)
        for path in self._hooks:
            for is_new, one in self._kept.changes(path):
                yield self._find(FindingKind.NEW if is_new else FindingKind.CHANGED, one, _HOOK)
        for path in sorted(now.unseen - before.unseen):
            yield self._find(FindingKind.UNSEEN, path, "a folder that cannot be looked into")
        for count, what in (
            (len(before.repositories), "repositories"),
            (len(before.named), "files"),
        ):
            if count > MOST_WATCHED:
                what = f"of {count} {what} that may start programs, {MOST_WATCHED} were watched"
                yield self._find(FindingKind.UNSEEN, self._workspace, what)
        if now.problem or before.problem:
            what = f"not all was looked at: {now.problem or before.problem}"
            yield self._find(FindingKind.UNSEEN, self._workspace, what)

    def _find(self, kind: FindingKind, path: str, what: str) -> Finding:
        return finding(kind, self._name(path), what)

    def _name(self, path: str) -> str:
        """A path as it is told."""
        below = f"{self._workspace}/"
        return path.removeprefix(below) if path.startswith(below) else path


def _keep(paths: Sequence[str]) -> PutBack | None:
    if not paths:
        return None
    # Imported here: where there are mounts, nothing has to be put back.
    from sandbox_agent_sandbox.protection.put_back import PutBack

    return PutBack(paths)


def _is_in_reach(path: str, roots: Sequence[str]) -> bool:
    """Whether a file, folder or link lies in one of the roots."""
    return path in roots or _is_in(os.path.realpath(os.path.dirname(path)), roots)


def _is_in(path: str, roots: Sequence[str]) -> bool:
    return any(f"{path}/".startswith(f"{root}/") for root in roots)
