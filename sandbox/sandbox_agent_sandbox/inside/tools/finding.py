"""The tool `find_files`."""

from __future__ import annotations

import os
import re

from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.inside.tools.globs import alternatives_hint, glob_matcher
from sandbox_agent_sandbox.inside.tools.page import listing
from sandbox_agent_sandbox.inside.tools.textfile import shown
from sandbox_agent_sandbox.inside.tools.tree import Walk
from sandbox_agent_sandbox.inside.worker.call_facts import expand_home

MAX_NAMES = 1000
"""Names that find_files returns."""
_SHOWN = 3
"""Names in a notice."""


def find_files(pattern: str, path: str = ".", *, token: CancelToken) -> str:
    """Find files by name, in a folder and all below it, `.git` left out. At most 1000 are shown.

    Args:
        pattern: A glob: `*.py` finds by name anywhere, `src/**/test_*.{ts,tsx}` by path. Case
            counts.
        path: The folder to search in. `~` is the home folder inside the sandbox.
    """
    path = expand_home(path)
    glob = glob_matcher(pattern, path)
    loose = re.compile(glob.pattern, glob.flags | re.IGNORECASE)
    found: list[str] = []
    other_case: list[str] = []
    folders: list[str] = []

    def on_folder(name: str) -> None:
        if len(folders) < _SHOWN and glob.fullmatch(name):
            folders.append(name)

    walk = Walk(path, token, on_folder)
    for name in walk:
        if loose.fullmatch(name):
            (found if glob.fullmatch(name) else other_case).append(name)
            if len(found) > MAX_NAMES:
                break
    notices = walk.notices
    if len(found) > MAX_NAMES:
        notices.append(f"[there are more than {MAX_NAMES}; narrow the pattern]")
    if folders and not found:
        names = ", ".join(f"{shown(name)}/" for name in folders)
        notices.append(f"[folders match: {names}; `NAME/**` finds the files in a folder]")
    if other_case and not found:
        names = ", ".join(map(shown, other_case[:_SHOWN]))
        notices.append(f"[{len(other_case)} match in other upper and lower case: {names}]")
    nothing = f"no file matches{alternatives_hint(pattern)}"
    if walk.has_git:
        nothing += "; .git was left out"
    lines = [shown(os.path.normpath(os.path.join(path, name))) for name in found[:MAX_NAMES]]
    return listing(lines, notices, nothing)
