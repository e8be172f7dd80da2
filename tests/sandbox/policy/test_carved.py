"""Binds and masks -> rules of Landlock, where there are no mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_agent_sandbox.plan import Access, Bind, Identity, Mask
from sandbox_agent_sandbox.policy.rules.carved import Carved, carve
from sandbox_agent_sandbox.policy.rules.landlock import READ, READ_DIR, WRITE, WRITE_ONE

ME = Identity(os.geteuid(), os.getegid(), os.geteuid(), os.getegid())


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path.resolve()
    for folder in ("etc/ssl/private", "etc/x", "work/tests"):
        (top / folder).mkdir(parents=True)
    for name in ("etc/shadow", "etc/passwd", "etc/ssl/certs", "work/secret", "one"):
        (top / name).write_text("")
    (top / "etc/link").symlink_to(top / "one")
    return top


def rules(top: Path, carved: Carved) -> dict[str, int]:
    below = f"{top}/"
    found = [one for one in carved.rules if one.path.startswith(below)]
    return {one.path.removeprefix(below): one.rights for one in found}


def masks(top: Path, *names: str) -> list[Mask]:
    return [Mask(str(top / name), (top / name).is_dir()) for name in names]


def test_what_is_shown_as_a_whole_gets_one_rule(top: Path) -> None:
    binds = [Bind(str(top / "etc")), Bind(str(top / "one"), True), Bind(str(top / "work"), True)]
    found = rules(top, carve(binds, [], ME, terminals=False))
    assert found == {"etc": READ, "one": WRITE_ONE, "work": WRITE}


def test_a_hidden_file_gets_no_rule_and_its_neighbours_get_one_each(top: Path) -> None:
    found = rules(
        top, carve([Bind(str(top / "etc"))], masks(top, "etc/shadow"), ME, terminals=False)
    )
    assert found == {
        "etc": READ_DIR,
        "etc/passwd": READ & ~READ_DIR,
        "etc/ssl": READ,
        "etc/x": READ,
    }


def test_where_a_hidden_folder_could_be_listed_the_folders_above_it_cannot(top: Path) -> None:
    """The right to list holds for all that is below."""
    hidden = masks(top, "etc/ssl/private")
    found = rules(top, carve([Bind(str(top / "etc"))], hidden, ME, terminals=False))
    assert "etc" not in found and "etc/ssl" not in found
    assert found["etc/ssl/certs"] == READ & ~READ_DIR
    assert found["etc/x"] == READ
    os.chmod(top / "etc/ssl/private", 0o300)
    try:
        found = rules(top, carve([Bind(str(top / "etc"))], hidden, ME, terminals=False))
    finally:
        os.chmod(top / "etc/ssl/private", 0o700)  # else only root could remove it
    assert (found["etc"], found["etc/ssl"]) == (READ_DIR, READ_DIR)


def test_what_cannot_be_said_is_said_to_the_levels(top: Path) -> None:
    binds = [Bind(str(top / "work"), True), Bind(str(top / "work/tests"))]
    carved = carve(binds, masks(top, "work/secret"), ME, terminals=False)
    assert rules(top, carved) == {"work": WRITE}
    assert carved.undone == (str(top / "work/tests"),)
    assert carved.shown == (str(top / "work/secret"),)


def test_below_proc_and_dev_nothing_is_written_but_to_harmless_devices() -> None:
    own = {one.path: one.rights for one in carve([], [], ME, terminals=False).rules}
    assert own["/proc"] & WRITE & ~READ == 0
    assert {*own} == {"/proc"} | {
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")
    }
    more = carve([], [], ME, terminals=True).rules
    assert [one.path for one in more if one.path not in own] == [os.path.realpath("/dev/ptmx")]
    assert all(isinstance(one, Access) for one in more)
