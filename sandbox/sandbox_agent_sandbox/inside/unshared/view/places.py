"""The tools' own TMPDIR and HOME, on the disk, where nothing can be mounted at /tmp.

As with a folder at /tmp, the host removes it, and after SIGKILL of the host the next start does:
see `walls/private.py`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from sandbox_agent_sandbox.inside.kernel.remove_tree import remove_tree
from sandbox_agent_sandbox.inside.unshared.view.shared_files import SHARED_FILES
from sandbox_agent_sandbox.inside.walls.private import Area, make_area
from sandbox_agent_sandbox.plan import Plan

_SHARED, _FRESH = "shared", "fresh"


class Own:
    """The places of one sandbox. area: what the host is told of, with InitBorn. shared: the folder
    for all calls."""

    def __init__(self, plan: Plan) -> None:
        """Make them. Raises OSError with a hint."""
        area = make_area(plan.private, plan.identity)
        assert area is not None  # a plan of this kind has a folder
        self.area: Area = area
        self._plan = plan
        if plan.identity.outside_uid != os.geteuid():
            os.chmod(plan.private.base, 0o711)  # to get through, and to list nothing
        self.shared = f"{area.path}/{_SHARED}"
        os.chmod(self.shared, 0o700)
        self._furnish(self.shared)

    def fresh(self) -> str:
        """A new, empty folder for one call. Those of earlier calls, which have ended, are removed
        before."""
        for number in range(1, self.area.fresh + 1):
            with suppress(OSError):
                remove_tree(f"{_FRESH}-{number}", self.area.lock)
        self.area.fresh += 1
        name = f"{_FRESH}-{self.area.fresh}"
        os.mkdir(name, 0o700, dir_fd=self.area.lock)
        path = f"{self.area.path}/{name}"
        self._give(path)
        self._furnish(path)
        return path

    def _furnish(self, folder: str) -> None:
        """Make the home folder, with the plan's files in it."""
        plan = self._plan
        starters_umask = os.umask(0o022)
        try:
            home = f"{folder}/{os.path.basename(plan.home)}"
            self._make_folder(home, 0o700)
            self._make_folder(f"{folder}/{SHARED_FILES}", 0o700)
            for file in plan.files:
                if file.path.startswith(f"{plan.home}/"):
                    path = home + file.path.removeprefix(plan.home)
                    missing = []
                    above = os.path.dirname(path)
                    while not os.path.isdir(above):
                        missing.append(above)
                        above = os.path.dirname(above)
                    for one in reversed(missing):
                        self._make_folder(one, 0o755)
                    with open(path, "x", encoding="utf-8", errors="surrogateescape") as made:
                        made.write(file.text)
                    self._give(path)
        finally:
            os.umask(starters_umask)

    def _make_folder(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)
        self._give(path)

    def _give(self, path: str) -> None:
        if self._plan.identity.outside_uid != os.geteuid():
            os.chown(path, self._plan.identity.outside_uid, self._plan.identity.outside_gid)
