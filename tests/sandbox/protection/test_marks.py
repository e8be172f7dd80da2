"""Attributes of overlayfs, and the setgid bit of root's, go; nothing else does."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection.marks import (
    ATTRIBUTE,
    SETGID,
    SETUID,
    Removed,
    Unfinished,
    remove_marks,
)

MARK = "user.overlay.opaque"


def mark(path: Path) -> None:
    os.setxattr(path, MARK, b"y")
    os.setxattr(path, "user.overlays", b"of somebody's own")


def removed(root: Path, begun: float | None = None, **options: object) -> list[Removed]:
    return sorted(remove_marks([str(root)], begun or time.time(), **options))  # type: ignore[arg-type]


def test_an_attribute_is_removed_wherever_it_is(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in ("a/b", ".git/objects", "skipped"):
        (root / folder).mkdir(parents=True)
    names = ("a/b/file", "a/b/shut", ".git/objects/x", "a", "skipped/file")
    for name in names:
        if not (root / name).exists():
            (root / name).write_text(name)
        mark(root / name)
    (root / "a/b/shut").chmod(0o400)
    outside.write_text("")
    mark(outside)
    (root / "link").symlink_to(outside)
    mark(root)
    found = removed(root, skip=[str(root / "skipped")])
    paths = [str(root), *(f"{root}/{name}" for name in names[:4])]
    assert found == sorted((path, ATTRIBUTE, True) for path in paths)
    for path in paths:
        assert os.listxattr(path) == ["user.overlays"]
    for kept in (outside, root / "skipped/file"):
        assert MARK in os.listxattr(kept)
    assert (root / "a/b/shut").stat().st_mode & 0o777 == 0o400
    assert removed(root, skip=[str(root / "skipped")]) == []


def test_what_has_not_changed_since_is_the_users(tmp_path: Path) -> None:
    mark(tmp_path)
    assert removed(tmp_path, time.time() + 3600) == []
    assert MARK in os.listxattr(tmp_path)


def test_a_program_of_roots_group_loses_its_setgid_bit(tmp_path: Path) -> None:
    program, folder, free = tmp_path / "program", tmp_path / "folder", tmp_path / "free"
    program.touch()
    folder.mkdir()
    free.touch()
    for path, mode in ((program, 0o2755), (folder, 0o2775), (free, 0o755)):
        path.chmod(mode)
    is_root = os.geteuid() == 0
    assert removed(tmp_path) == ([(str(program), SETGID, True)] if is_root else [])
    assert program.stat().st_mode & 0o7777 == (0o755 if is_root else 0o2755)
    assert folder.stat().st_mode & 0o7777 == 0o2775
    assert free.stat().st_mode & 0o7777 == 0o755


def test_a_search_that_is_stopped_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unfinished, match="it was stopped"):
        removed(tmp_path, give_up=lambda: True)
    with pytest.raises(Unfinished, match="looking took too long"):
        removed(tmp_path, patience=-1.0)


def test_the_folder_above_need_not_be_readable(tmp_path: Path) -> None:
    """As with /home on some hosts. For root every folder is readable."""
    root = tmp_path / "above" / "root"
    root.mkdir(parents=True)
    (root / "file").write_text("")
    mark(root / "file")
    root.parent.chmod(0o300)
    try:
        assert removed(root) == [(f"{root}/file", ATTRIBUTE, True)]
    finally:
        root.parent.chmod(0o700)


def test_an_attribute_is_removed_from_what_is_shut_or_very_deep(tmp_path: Path) -> None:
    shut, folder = tmp_path / "shut", tmp_path / "folder"
    shut.touch()
    folder.mkdir()
    for path in (shut, folder):
        mark(path)
        path.chmod(0)
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # the whole path is longer than the kernel takes
        os.mkdir("x" * 250, dir_fd=at)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.setxattr(at, MARK, b"y")
    assert [gone for _, what, gone in removed(tmp_path) if what == ATTRIBUTE] == [True] * 3
    assert MARK not in os.listxattr(at)
    os.close(at)
    for path in (shut, folder):
        assert path.stat().st_mode & 0o777 == 0
        path.chmod(0o700)
        assert MARK not in os.listxattr(path)


def test_a_program_that_was_changed_loses_its_setuid_bit(tmp_path: Path) -> None:
    begun = time.time()
    for name in ("before", "written"):
        (tmp_path / name).write_bytes(bytes(4096))
        (tmp_path / name).chmod(0o4755)
    assert removed(tmp_path, begun + 3600) == []
    with open(tmp_path / "written", "r+b") as file, mmap.mmap(file.fileno(), 4096) as memory:
        memory[:4] = b"evil"  # write(2) would have taken the bit
    os.utime(tmp_path / "written", (1, 1))
    later = (tmp_path / "written").stat().st_ctime - 1e-6
    since = max(later, (tmp_path / "before").stat().st_ctime)
    assert (str(tmp_path / "written"), SETUID, True) in removed(tmp_path, since)
    assert (tmp_path / "written").stat().st_mode & 0o7777 == 0o755
