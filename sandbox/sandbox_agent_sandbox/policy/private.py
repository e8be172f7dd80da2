"""Where the tools' /tmp and home folder lie: in memory, in an image or in a folder on the disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.plan import Mask, MaskedFor, Private, PrivateKind
from sandbox_agent_sandbox.policy.paths import is_inside_any
from sandbox_agent_sandbox.policy.view import View

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyLimits

SMALL = 16 * 2**20
"""Up to this size /tmp is in memory, where every user can have a size that binds. tmpfs(5)"""

WITHOUT_DISK = 256 * 2**20
"""Size of /tmp where it has to be in memory."""

_NOTE = (
    f"/tmp and the home folder of tools are in memory, {WITHOUT_DISK >> 20} MiB: no folder on a"
    " disk can be used for them\n  hint: set XDG_STATE_HOME to a folder that you may write to"
)


def place_private(limits: AnyLimits, view: View) -> Private:
    """Decide it. Adds a note where no folder on a disk can be used. Else hides that folder."""
    size, shared_memory = limits.tmp, _least(limits.shm, limits.memory, 2)
    without_disk = _least(WITHOUT_DISK, limits.memory, 4)
    if view.workspace is None or (size is not None and size <= SMALL):
        most = without_disk if size is None else min(size, WITHOUT_DISK)
        return Private(size=most, shared_memory=shared_memory)
    # In root's folder another user gets only by a mount that was made before.
    reached = view.facts.can_mount or view.facts.uid == view.identity.outside_uid
    base = usable_base(view, view.facts.disks if reached else ())
    if not base:
        why = "no folder on a disk can be used" if view.facts.disks else ""
        view.notes += [_NOTE] if why else []
        return Private(size=without_disk, shared_memory=shared_memory, why=why)
    if view.shows(base):
        view.masks.append(Mask(base, True, reason=MaskedFor.PRIVATE))
    kind, why = PrivateKind.FOLDER, ""
    if size is not None:
        if view.facts.maker:
            kind = PrivateKind.IMAGE
        elif view.facts.uid == 0:
            lacks = "there is no loop device, or no mkfs.ext4"
            why = lacks if view.facts.can_mount else "root has no CAP_SYS_ADMIN here"
        else:
            why = "only root can mount a file system of a fixed size"
    return Private(kind, size, base, view.facts.maker, shared_memory, why)


def usable_base(view: View, candidates: Sequence[Path]) -> str:
    """The first of these folders that can be used; "" for none."""
    return next((str(path) for path in candidates if _is_usable(path, view)), "")


def _least(size: int | None, memory: int | None, part: int) -> int | None:
    """What lies in memory stays when a call ends. If it could fill the sandbox's whole memory, no
    later call could begin."""
    most = None if memory is None else memory // part
    return min((one for one in (size, most) if one is not None), default=None)


def _is_usable(path: Path, view: View) -> bool:
    """Whether a folder can be used, or made: this user's own, and out of reach of tools."""
    if is_inside_any(os.path.realpath(path), view.writable):
        return False
    try:
        status = path.lstat()
    except OSError:
        pass
    else:
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != view.facts.uid:
            return False
        if status.st_mode & 0o022:
            return False
    there = next((one for one in (path, *path.parents) if os.path.isdir(one)), Path("/"))
    try:
        flags = os.statvfs(there).f_flag
    except OSError:
        return False
    # What a tool installs in its home folder must be executable.
    return not flags & (os.ST_RDONLY | os.ST_NOEXEC) and os.access(there, os.W_OK | os.X_OK)
