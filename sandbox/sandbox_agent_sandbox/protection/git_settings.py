"""Settings of git that start programs, and what to do with new ones. git-config(1)

Tools must be able to write `.git/config`: `git remote add` and `git push -u` do. But a value may
name a program, which git starts when the user works in the repository. So new values of such keys
are taken out again, and the rest of the file stays as the tool has left it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence

from sandbox_agent_sandbox.protection.git_parser import Entry, as_text, entries

_PROGRAMS = frozenset(
    (
        *("hookspath", "fsmonitor", "sshcommand", "gitproxy", "editor", "pager", "askpass"),
        *("clean", "smudge", "process", "command", "cmd", "external", "textconv", "driver"),
        *("helper", "program", "difffilter", "defaultkeycommand", "tocmd", "cccmd", "headercmd"),
        *("sendmailcmd", "smtpserver", "tunnel", "uploadpack", "receivepack", "vcs"),
        *("packobjectshook", "alternaterefscommand", "templatedir", "httpd", "authorsprog"),
        *("standalonetransferagent", "fallbacktransferagent", "browser"),
    )
)
"""Keys whose value is a program, or a folder of programs, in whatever section."""

_ENDINGS = ("command", "cmd", "hook", "program", "helper")
"""Of such keys, too: git-annex and other programs of git have more of them."""

_PATHS = frozenset(("difftool", "mergetool", "browser", "man", "lfs"))
"""Sections whose key `path` is a program."""

_SWITCHES = frozenset(("", "true", "false", "yes", "no", "on", "off", "0", "1"))
"""Values that name nothing: fsmonitor and pager.* take them, too."""

_HARMLESS = frozenset(
    (
        ("filter", "lfs", "clean", "git-lfs clean -- %f"),
        ("filter", "lfs", "smudge", "git-lfs smudge -- %f"),
        ("filter", "lfs", "process", "git-lfs filter-process"),
    )
)
"""What `git lfs install --local` writes: programs of the user's own."""

Reaches = Callable[[str], bool]
"""Whether a working tree that a configuration names lies where tools can write anyway."""


def starts_programs(entry: Entry, reaches: Reaches = lambda path: False) -> bool:
    """Whether a setting can make git start a program that it names, or read settings elsewhere, or
    write files elsewhere."""
    value = entry.value or ""
    switch = value.lower() in _SWITCHES
    match entry.section, entry.key:
        case ("alias", _):
            return True
        case ("include" | "includeif", "path"):
            return True
        case ("pager", _):
            return not switch
        case ("protocol", "allow"):
            return value.lower() != "never"
        case ("submodule", "update"):
            return value.startswith("!")
        case ("core", "worktree"):
            return not reaches(value)
        case (section, "path") if section in _PATHS:
            return True
    if (entry.section, entry.subsection, entry.key, value) in _HARMLESS:
        return False
    return (entry.key in _PROGRAMS or entry.key.endswith(_ENDINGS)) and not switch


def without_new_programs(
    before: bytes, after: bytes, reaches: Reaches
) -> tuple[bytes, list[Entry]]:
    """A configuration without the settings that start programs and were not there before, and these
    settings. before, after: the whole text. A value that such a setting replaced is put back."""
    old = [entry for entry in entries(before) if starts_programs(entry, reaches)]
    known = Counter((entry.name, entry.value) for entry in old)
    new = []
    for entry in entries(after):
        if starts_programs(entry, reaches):
            if known[entry.name, entry.value]:
                known[entry.name, entry.value] -= 1
            else:
                new.append(entry)
    if not new:
        return after, []
    text = _cut(after, new)
    names = {entry.name for entry in new}
    lost = [one for one in old if one.name in names and known[one.name, one.value] > 0]
    for entry in lost:
        text = (text if text.endswith(b"\n") or not text else text + b"\n") + as_text(entry)
    return (before if _has_new(before, text, reaches) else text), new


def _cut(text: bytes, away: Sequence[Entry]) -> bytes:
    kept, at = [], 0
    for entry in away:
        before = text[at : entry.begin].rstrip(b" \t")
        kept.append(before)
        if before and not before.endswith(b"\n"):
            kept.append(b"\n")  # it stood behind its section's head
        at = entry.end
    return b"".join([*kept, text[at:]])


def _has_new(before: bytes, text: bytes, reaches: Reaches) -> bool:
    """Whether settings are still there that should not be. They would be what the cut uncovered."""
    known = Counter((one.name, one.value) for one in entries(before))
    for entry in entries(text):
        if starts_programs(entry, reaches):
            known[entry.name, entry.value] -= 1
            if known[entry.name, entry.value] < 0:
                return True
    return False


def shown(entry: Entry) -> str:
    """A setting in one line."""
    return entry.name if entry.value is None else f"{entry.name} = {entry.value}"


def includes(text: bytes, folder: str) -> list[str]:
    """The files that a configuration includes, as absolute paths. folder: it lies in."""
    return [
        os.path.normpath(os.path.join(folder, os.path.expanduser(entry.value)))
        for entry in entries(text)
        if entry.section in ("include", "includeif") and entry.key == "path" and entry.value
    ]


def hooks_folder(text: bytes, worktree: str) -> str | None:
    """The folder of hooks that a configuration names, as an absolute path. githooks(5)"""
    named = [e.value for e in entries(text) if (e.section, e.key) == ("core", "hookspath")]
    last = named[-1] if named else None
    return os.path.normpath(os.path.join(worktree, os.path.expanduser(last))) if last else None
