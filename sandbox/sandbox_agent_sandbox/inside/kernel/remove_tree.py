"""Removing a folder that a tool has filled: of any depth, with any names and modes."""

from __future__ import annotations

import os
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(name: str, folder: int) -> None:
    """Remove a folder and all that is in it. No process may change it meanwhile.

    name: in `folder`, a descriptor. Follows no link. What can be removed is removed; then raises
    OSError if something stays.

    A folder inside is first moved up, into the top one. So two descriptors are enough, however deep
    the tree is, and no path becomes too long.
    """
    errors: list[OSError] = []
    os.chmod(name, 0o700, dir_fd=folder)
    top = os.open(name, _FOLDER, dir_fd=folder)
    prefix = f".{os.urandom(8).hex()}-"  # none of the names that are there already
    try:
        waiting = list(_empty(top, errors))
        number = 0
        while waiting:
            one = waiting.pop()
            try:
                inner = os.open(one, _FOLDER, dir_fd=top)
                try:
                    for found in _empty(inner, errors):
                        number += 1
                        moved = f"{prefix}{number}"
                        os.rename(found, moved, src_dir_fd=inner, dst_dir_fd=top)
                        waiting.append(moved)
                finally:
                    os.close(inner)
                os.rmdir(one, dir_fd=top)
            except OSError as error:
                errors.append(error)
    finally:
        os.close(top)
    if errors:
        raise errors[0]
    os.rmdir(name, dir_fd=folder)


def _empty(folder: int, errors: list[OSError]) -> Iterator[str]:
    """Remove the files of a folder. Gives the names of its folders, which are made accessible."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    # One that is moved gets another `..`, so it must be writable. rename(2)
                    os.chmod(entry.name, 0o700, dir_fd=folder)
                    yield entry.name
                else:
                    os.unlink(entry.name, dir_fd=folder)
            except OSError as error:
                errors.append(error)
                if len(errors) > 100:
                    return
