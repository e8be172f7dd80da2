"""The view by rules of Landlock alone, where there are no mounts. landlock(7)

Rules allow, and cannot deny anything inside what they allow. So a folder that holds something
hidden gets no rule; what is in it gets one, entry by entry. That can be done where tools only read.
In what they can write it cannot: nothing new could be made in such a folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

import msgspec

from sandbox_agent_sandbox.plan import Access, Bind, Identity, Mask
from sandbox_agent_sandbox.policy.rules.landlock import (
    IOCTL_DEV,
    READ,
    READ_DIR,
    READ_FILE,
    TRUNCATE,
    WRITE,
    WRITE_FILE,
    WRITE_ONE,
)

_READ_ONE = READ & ~READ_DIR
_DEVICE = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_OWN = (
    # Writing there would reach what belongs to the user's other processes: oom_score_adj.
    Access("/proc", READ_FILE | READ_DIR),
    *(Access(f"/dev/{name}", _DEVICE) for name in _DEVICES),
)
"""Of every sandbox, beside its own folder for TMPDIR and HOME."""


class Carved(msgspec.Struct, frozen=True):
    """Rules, and what they cannot say. undone: paths that are to be read-only, and can be written.
    shown: paths that are to be hidden, and are not."""

    rules: tuple[Access, ...]
    undone: tuple[str, ...]
    shown: tuple[str, ...]


def carve(
    binds: Sequence[Bind], masks: Sequence[Mask], identity: Identity, *, terminals: bool
) -> Carved:
    """The rules for a view.

    binds: outermost first, as a plan has them. terminals: whether tools can make some. The other
    side of each comes from the broker: other terminals of the user lie in the same folder.
    """
    hidden = {mask.path: mask for mask in masks}
    rules, undone = list(_OWN), []
    if terminals:
        rules.append(Access(os.path.realpath("/dev/ptmx"), _DEVICE))
    writable: list[str] = []
    for bind in binds:
        if _is_inside_any(bind.path, hidden):
            continue
        if _is_inside_any(bind.path, writable):
            undone += [] if bind.writable else [bind.path]
        elif bind.writable:
            writable.append(bind.path)
            rules.append(Access(bind.path, WRITE if os.path.isdir(bind.path) else WRITE_ONE))
        else:
            rules += _carve(bind.path, hidden, identity)
    shown = tuple(path for path in hidden if _is_inside_any(path, writable))
    return Carved(tuple(rules), tuple(undone), shown)


def _carve(path: str, hidden: dict[str, Mask], identity: Identity) -> Iterator[Access]:
    if not os.path.isdir(path):
        yield Access(path, _READ_ONE)
        return
    inside = [mask for mask in hidden.values() if mask.path.startswith(f"{path}/")]
    if not inside:
        yield Access(path, READ)
        return
    # The right to list a folder holds for all that is below it.
    if not any(mask.folder and _may_list(mask.path, identity) for mask in inside):
        yield Access(path, READ_DIR)
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return
    for name in names:
        one = f"{path}/{name}"
        # A link has no rights of its own: those of what it leads to count.
        if one not in hidden and not os.path.islink(one):
            yield from _carve(one, hidden, identity)


def _may_list(folder: str, identity: Identity) -> bool:
    """Whether tools may list a folder, by its mode."""
    try:
        status = os.stat(folder)
    except OSError:
        return False
    if status.st_uid == identity.outside_uid:
        return bool(status.st_mode & stat.S_IRUSR)
    return bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _is_inside_any(path: str, folders: Sequence[str] | dict[str, Mask]) -> bool:
    return any(f"{path}/".startswith(f"{folder}/") for folder in folders)
