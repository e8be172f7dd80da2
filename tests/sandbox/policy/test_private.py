"""Where the tools' /tmp lies: what this host has, what the policy says, out of reach of tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace
from sandbox_agent_sandbox.plan import Identity, Mask, MaskedFor, Private, PrivateKind
from sandbox_agent_sandbox.policy.policy import Limits
from sandbox_agent_sandbox.policy.private import SMALL, WITHOUT_DISK, place_private
from sandbox_agent_sandbox.policy.probe import disks, host_facts
from sandbox_agent_sandbox.policy.view import View


@pytest.fixture
def view(tmp_path: Path) -> View:
    for name in ("work", "state"):
        (tmp_path / name).mkdir()
    facts = replace(host_facts(), disks=(tmp_path / "state/base",), maker="")
    work, own = str(tmp_path / "work"), (os.geteuid(), os.getegid())
    return View(facts, Identity(*own, *own), work, [work])


def among(view: View, *folders: Path, maker: str = "", **limits: object) -> Private:
    view.facts = replace(view.facts, disks=folders or view.facts.disks, maker=maker)
    return place_private(Limits(**limits), view)  # type: ignore[arg-type]


def test_large_is_on_the_disk_and_small_in_memory(view: View, tmp_path: Path) -> None:
    base = str(tmp_path / "state/base")
    assert among(view).base == base
    assert among(view, maker="/sbin/mkfs.ext4").kind is PrivateKind.IMAGE
    assert among(view, maker="/sbin/mkfs.ext4", tmp=None).kind is PrivateKind.FOLDER
    small = among(view, tmp=SMALL)
    assert (small.kind, small.size, small.base) == (PrivateKind.MEMORY, SMALL, "")
    assert view.notes == []


def test_no_folder_is_used_that_tools_or_others_can_write(view: View, tmp_path: Path) -> None:
    work, shared, linked = tmp_path / "work", tmp_path / "shared", tmp_path / "linked"
    shared.mkdir()
    shared.chmod(0o777)
    linked.symlink_to(tmp_path / "state")
    (tmp_path / "into").symlink_to(work)
    good = tmp_path / "state/good"
    bad = (work / "state", tmp_path / "into/state", shared, linked)
    assert among(view, *bad, good).base == str(good)
    found = among(view, *bad)
    assert (found.kind, found.size) == (PrivateKind.MEMORY, WITHOUT_DISK)
    assert "XDG_STATE_HOME" in view.notes[0]


def test_a_folder_of_another_user_is_not_used(view: View, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    other, own = tmp_path / "other", tmp_path / "own"
    other.mkdir()
    os.chown(other, 4321, 4321)
    assert among(view, other, own).base == str(own)


def test_what_sandboxes_keep_is_hidden_where_it_would_be_shown(view: View, tmp_path: Path) -> None:
    view.add(tmp_path / "state")
    base = tmp_path / "state/base"
    base.mkdir()
    base.chmod(0o700)
    among(view)
    assert view.masks == [Mask(str(base), True, reason=MaskedFor.PRIVATE)]


def test_it_lies_beside_the_runs_and_never_in_their_folder() -> None:
    first, second = disks({"XDG_STATE_HOME": "/state"})
    assert str(first) == "/state/sandbox-agent-tmp"
    assert second.parent == Path("/var/tmp")
    assert disks({"XDG_STATE_HOME": "relative"})[0].is_absolute()


def test_what_lies_in_memory_leaves_room_for_the_next_call(view: View) -> None:
    limits = Limits(memory=64 << 20)
    found = place_private(limits, view)
    assert found.shared_memory == 32 << 20
    assert place_private(Limits(memory=64 << 20, shm=None), view).shared_memory == 32 << 20
    assert place_private(Limits(memory=None, shm=None), view).shared_memory is None
    view.workspace = None
    assert place_private(Limits(memory=64 << 20, tmp=None), view).size == 16 << 20
