"""The tool `find_files`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress

from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.inside.tools.globs import alternatives_hint, glob_matcher
from sandbox_agent_sandbox.inside.tools.page import listing
from sandbox_agent_sandbox.inside.tools.textfile import shown
from sandbox_agent_sandbox.inside.tools.tree import Walk
from sandbox_agent_sandbox.inside.worker.call_facts import expand_home
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError

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
    close: dict[str, Callable[[str], object]] = {
        "match in other upper and lower case": loose.fullmatch,
        **_other_readings(pattern, path),
    }
    found: list[str] = []
    near: dict[str, list[str]] = {why: [] for why in close}
    folders: list[str] = []

    def on_folder(name: str) -> None:
        if len(folders) < _SHOWN and glob.fullmatch(name):
            folders.append(name)

    walk = Walk(path, token, on_folder)
    for name in walk:
        if glob.fullmatch(name):
            found.append(name)
            if len(found) > MAX_NAMES:
                break
        elif not found:
            for why, matches in close.items():
                if matches(name):
                    near[why].append(name)
    notices = walk.notices
    if len(found) > MAX_NAMES:
        notices.append(f"[there are more than {MAX_NAMES}; narrow the pattern]")
    if folders and not found:
        names = ", ".join(f"{shown(name)}/" for name in folders)
        notices.append(f"[folders match: {names}; `NAME/**` finds the files in a folder]")
    for why, others in near.items():
        if others and not found:
            names = ", ".join(map(shown, others[:_SHOWN]))
            notices.append(f"[{len(others)} {why}: {names}]")
    nothing = f"no file matches{alternatives_hint(pattern)}"
    if walk.has_git:
        nothing += "; .git was left out"
    lines = [shown(os.path.normpath(os.path.join(path, name))) for name in found[:MAX_NAMES]]
    return listing(lines, notices, nothing)


def _other_readings(pattern: str, top: str) -> dict[str, Callable[[str], object]]:
    """What else the pattern may mean: what is said about a name that matches, and the test."""
    readings: dict[str, Callable[[str], object]] = {}
    plain = re.sub(r"(?<!\\)[\[\]]", r"\\\g<0>", pattern)
    if plain != pattern:
        why = "match where a bracket is part of the name; put a backslash before it"
        with suppress(ToolError):
            readings[why] = glob_matcher(plain, top).fullmatch
    if not pattern.isascii():
        from unicodedata import normalize

        composed = glob_matcher(normalize("NFC", pattern), top)
        why = "match with accents in another Unicode form; write `*` for the letter"
        readings[why] = lambda name: composed.fullmatch(normalize("NFC", name))
    return readings
