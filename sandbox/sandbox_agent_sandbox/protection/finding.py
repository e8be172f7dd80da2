"""What is found after a call or a run: something that a tool left, and that may start programs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum

import msgspec

MOST_FINDINGS = 50
"""Findings of one run that are listed. What comes after them is counted."""
_MOST_CHARACTERS = 300

PROTECTED = "tools are not to change it (sandbox.protect, protect_defaults, our own code)"
"""What is put back because nothing keeps tools from it."""


class FindingKind(StrEnum):
    """new: it was not there when the run began. changed: it is not as it was then. restored: it was
    set back to what it was. not restored: it was changed, and could not be set back. unseen: it
    could not be looked at."""

    NEW = "new"
    CHANGED = "changed"
    RESTORED = "restored"
    NOT_RESTORED = "not restored"
    UNSEEN = "unseen"


class Finding(msgspec.Struct, frozen=True):
    """One thing that the user should look at before working in the workspace.

    path: relative to the workspace where it lies in there; else absolute. what: what it is, or who
    runs it. call: the id of the call at whose end it was noticed; "" for the end of the run.
    """

    kind: FindingKind
    path: str
    what: str
    call: str = ""


def finding(kind: FindingKind, path: str, what: str, call: str = "") -> Finding:
    """A finding whose texts are short and valid Unicode. path, what: may come from inside."""
    return Finding(kind, _short(path), _short(what), call)


def listed(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, and not too many of them. The last one says how many there are more.

    Many of one sort do not keep the others out: then there are some of each.
    """
    found = list({(one.kind, one.path, one.what): one for one in findings}.values())
    more = len(found) - MOST_FINDINGS
    if more > 0:
        sorts: dict[tuple[FindingKind, str], int] = {}
        places = []
        for one in found:
            sort = one.kind, one.what
            sorts[sort] = sorts.get(sort, 0) + 1
            places.append(sorts[sort])
        found = [found[at] for at in sorted(range(len(found)), key=places.__getitem__)]
    if more > 0:
        found[MOST_FINDINGS:] = [Finding(FindingKind.UNSEEN, "", f"... and {more} more")]
    return tuple(found)


def _short(text: str) -> str:
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
