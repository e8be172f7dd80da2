"""Where a path leads, one component at a time.

`os.path.realpath` says where a path leads, but not by which links. The sandbox needs these: each of
them exists inside too, so that a path has inside all the names that it has outside. And a link that
tools can write must not decide what the next sandbox shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import msgspec

from sandbox_agent_sandbox.utf8 import is_utf8

_MOST_BYTES = 256 * 1024

_MOST_LINKS = 40
"""As in the kernel: path_resolution(7)."""


class Followed(msgspec.Struct, frozen=True):
    """Where a path leads.

    real: without links. links: each symbolic link on the way, by its real path, with its target.
    loop: there are too many links, so `real` means nothing. left: the folder that tools can write
    and that a link in it leads out of; None if there is no such link.
    """

    real: str
    links: dict[str, str] = msgspec.field(default_factory=dict)
    loop: bool = False
    left: str | None = None


def follow(path: str, writable: Sequence[str] = ()) -> Followed:
    """Resolve an absolute path. What does not exist is taken as it is written.

    writable: real paths of folders that tools can write.
    """
    rest = path.split("/")[::-1]
    real = ""
    links: dict[str, str] = {}
    followed = 0
    while rest:
        name = rest.pop()
        if name in ("", "."):
            continue
        if name == "..":
            real = real.rpartition("/")[0]
            continue
        here = f"{real}/{name}"
        try:
            target = os.readlink(here)
        except (OSError, ValueError):  # no link, or not there at all
            real = here
            continue
        followed += 1
        if followed > _MOST_LINKS:
            return Followed(real or "/", links, loop=True)
        links[here] = target
        rest += target.split("/")[::-1]
        if target.startswith("/"):
            real = ""
    real = real or "/"
    left = next(
        (
            folder
            for link in links
            for folder in writable
            if is_inside(link, folder) and not is_inside(real, folder)
        ),
        None,
    )
    return Followed(real, links, left=left)


def is_inside(path: str, folder: str) -> bool:
    """Whether `path` is `folder`, or lies below it. Both are absolute, and without links."""
    return path == folder or folder == "/" or path.startswith(f"{folder}/")


def is_inside_any(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is inside one of these folders."""
    return any(is_inside(path, folder) for folder in folders)


def read_text(path: str) -> str:
    """The text of a file; "" if there is none, or it cannot be read. At most 256 KiB."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        data = os.read(fd, _MOST_BYTES)
    except OSError:
        return ""
    finally:
        os.close(fd)
    text = data.decode("utf-8", "surrogateescape")
    return text if is_utf8(text) else data.decode("utf-8", "replace")
