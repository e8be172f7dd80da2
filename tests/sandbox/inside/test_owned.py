"""What root owns while a sandbox without namespaces is there, as another user meets it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sandbox_agent_sandbox.inside.unshared.view.owned import (
    TOOLS_GROUP,
    Owned,
    Taken,
    give_back_left,
)
from sandbox_agent_sandbox.plan import (
    Bind,
    Identity,
    Plan,
    Private,
    PrivateKind,
    ResourceLimits,
    Unshared,
)

USER = 54_321
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A workspace of another user's, and a folder for the record beside it."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/tmp") and folder != Path("/"):
            os.chmod(folder, folder.stat().st_mode | 0o011)
    (tmp_path / "base").mkdir(mode=0o711)
    work = tmp_path / "work"
    for folder in ("", "judge", "judge/more", "a", "a/b", "secrets"):
        (work / folder).mkdir()
    for name in ("judge/test", "judge/more/test", "a/b/kept", "secrets/one", "free", "a/free"):
        (work / name).write_text(name)
    (work / "hidden").write_text("hidden")
    (work / "judge" / "link").symlink_to("/etc/passwd")
    os.chmod(work / "judge" / "test", 0o600)
    for where, folders, files in os.walk(work):
        for name in (".", *folders, *files):
            os.chown(os.path.join(where, name), USER, USER, follow_symlinks=False)
    return work


def plan_of(work: Path, **places: tuple[str, ...]) -> Plan:
    kept = {name: tuple(str(work / one) for one in some) for name, some in places.items()}
    return Plan(
        workspace=str(work),
        identity=Identity(USER, USER, USER, USER),
        binds=(Bind(str(work), writable=True),),
        symlinks=(),
        masks=(),
        protected=(),
        network="none",
        limits=ResourceLimits(),
        environment={},
        user="agent",
        home="/tmp/home",
        import_path=(),
        private=Private(kind=PrivateKind.FOLDER, base=str(work.parent / "base")),
        unshared=Unshared(**kept),  # type: ignore[arg-type]
    )


def as_tools(work: Path, act: Callable[[], object]) -> str:
    """What becomes of it as the tools' user: the name of an error, or "done"."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        said = "failed"
        try:
            os.setgroups([TOOLS_GROUP])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            os.chdir(work)
            act()
            said = "done"
        except OSError as error:
            said = type(error).__name__
        finally:
            os.write(theirs, said.encode())
            os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with open(ours) as pipe:
        return pipe.read()


def looks(work: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for where, folders, files in os.walk(work):
        for name in (".", *folders, *files):
            status = os.lstat(os.path.join(where, name))
            found[os.path.join(where, name)] = (status.st_uid, status.st_gid, status.st_mode)
    return found


REFUSED: tuple[Callable[[], object], ...] = (
    lambda: os.open("judge/test", os.O_WRONLY),
    lambda: os.open("judge/new", os.O_CREAT | os.O_WRONLY),
    lambda: os.unlink("judge/more/test"),
    lambda: os.rename("judge", "j"),
    lambda: os.chmod("judge", 0o777),
    lambda: os.rename("a/b/kept", "kept"),
    lambda: os.rename("a/b", "a/c"),
    lambda: os.rename("a", "c"),
    lambda: os.open("hidden", os.O_RDONLY),
    lambda: os.unlink("hidden"),
    lambda: os.listdir("secrets"),
    lambda: os.open("secrets/one", os.O_RDONLY),
)
ALLOWED: tuple[Callable[[], object], ...] = (
    lambda: os.close(os.open("judge/test", os.O_RDONLY)),
    lambda: os.listdir("judge/more"),
    lambda: os.close(os.open("free", os.O_WRONLY)),
    lambda: os.rename("free", "freed"),
    lambda: os.close(os.open("a/new", os.O_CREAT | os.O_WRONLY)),
    lambda: os.unlink("a/free"),
    lambda: os.mkdir("a/b/folder"),
)
KEPT = {"owned": ("judge", "a/b/kept"), "covered": ("hidden", "secrets")}


def test_tools_reach_neither_what_is_protected_nor_what_is_hidden(work: Path) -> None:
    assert as_tools(work, REFUSED[0]) == "done"  # before
    before = looks(work)
    owned = Owned(plan_of(work, **KEPT))
    try:
        assert [as_tools(work, one) for one in REFUSED] == ["PermissionError"] * len(REFUSED)
        assert [as_tools(work, one) for one in ALLOWED] == ["done"] * len(ALLOWED)
    finally:
        owned.give_back()
    after = looks(work)
    assert {path: after[path] for path in before.keys() & after.keys()} == {
        path: before[path] for path in before.keys() & after.keys()
    }
    assert os.listdir(work.parent / "base") == []


def test_what_a_killed_sandbox_left_is_given_back_and_a_second_one_waits(work: Path) -> None:
    before = looks(work)
    child = os.fork()
    if child == 0:
        try:
            Owned(plan_of(work, **KEPT))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert looks(work) != before
    give_back_left(str(work.parent / "base"))
    assert looks(work) == before
    owned = Owned(plan_of(work, **KEPT))
    give_back_left(str(work.parent / "base"))  # it is in use
    with pytest.raises(Taken, match="kept by another sandbox"):
        Owned(plan_of(work, owned=("judge",)))
    assert as_tools(work, REFUSED[0]) == "PermissionError"
    owned.give_back()
    assert looks(work) == before


def test_without_such_paths_nothing_is_taken(work: Path) -> None:
    before = looks(work)
    plan = plan_of(work)
    Owned(msgspec.structs.replace(plan, unshared=Unshared(undone=("judge",)))).give_back()
    assert looks(work) == before
