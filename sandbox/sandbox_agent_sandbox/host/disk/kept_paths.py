"""What must stay at its path, outside, while a sandbox is open."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from sandbox_agent_ipc.after_fork import call_after_fork

from sandbox_agent_sandbox.errors import SandboxBroken
from sandbox_agent_sandbox.plan import Plan


class Held:
    """A file or folder of the host that is held open, to see whether its path still leads to it.

    While it is held, no other gets its inode number. Raises OSError. open(2), O_PATH.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._number = -1  # should it not be there
        self._number = os.open(path, os.O_PATH | os.O_CLOEXEC)
        call_after_fork(self)

    def problem(self) -> str:
        """What was done to it, as in "was removed"; "" if its path leads to it."""
        there, number = None, self._number
        try:
            held = os.fstat(number)
            there = os.stat(self.path)
        except PermissionError:
            return ""  # a folder above it is shut: nobody could have put another in its place
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            return f"cannot be reached any more ({error.strerror})"
        if there is not None and os.path.samestat(held, there):
            return ""
        now = os.readlink(f"/proc/self/fd/{number}")
        if held.st_nlink == 0 or now.endswith(" (deleted)"):
            what = "was removed"
        elif now != self.path:
            what = f"was moved to {now}"
        else:
            what = "was covered by another mount"
        return what if there is None else f"{what} (another one is there now)"

    def close(self) -> None:
        """Let go of it. Idempotent."""
        number, self._number = self._number, -1
        if number >= 0:
            with suppress(OSError):
                os.close(number)

    after_fork_in_child = __del__ = close


def refuse_moved(folders: Iterable[Held], workspace: str) -> None:
    """Raise SandboxBroken if one of the folders that tools write is not at its path any more."""
    for held in folders:
        if what := held.problem():
            name = f"the workspace {held.path}" if held.path == workspace else f"write: {held.path}"
            raise SandboxBroken(
                f"{name} {what} outside while the sandbox was open, so what tools write does not"
                " arrive there; hint: leave it in its place, and run again"
            )


def refuse_replaced(plan: Plan) -> None:
    """Raise SandboxBroken if something that the plan protects is another file by now. A bind mount
    keeps the old inode: a file that was renamed over it is writable inside."""
    put_back = () if plan.unshared is None else plan.unshared.undone
    for path in plan.protected:
        if path.path in put_back:
            continue
        try:
            status = os.stat(path.path)
            if (status.st_dev, status.st_ino) == (path.device, path.inode):
                continue
        except PermissionError:
            continue  # a tool has shut a folder above it, and only a tool can open that again
        except OSError:
            pass
        raise SandboxBroken(
            f"protect: {path.path} was replaced outside while the sandbox was open, so it is"
            " no longer protected; run again"
        )
