"""Why a path is inside as it is: what a plan says about it.

Looks at the plan alone, and not at the host's files. So the answer may be told to a model: it does
not say what exists outside.
"""

from __future__ import annotations

import os
from enum import StrEnum

import msgspec

from sandbox_agent_sandbox.plan import Bind, MaskedFor, Plan, Unshared
from sandbox_agent_sandbox.policy.paths import is_inside
from sandbox_agent_sandbox.policy.view import KERNEL_FOLDERS

_MOST_LINKS = 40
_FOR_ALL = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders of the sandbox's own that tools can write."""


_MASKED = {
    MaskedFor.POLICY: (
        "sandbox.hide names {}",
        "take it out of sandbox.hide if tools may see it",
    ),
    MaskedFor.RECORDS: (
        "records of runs lie in {}, and no tool may see them",
        "outside, `sandbox-agent show` and `sandbox-agent logs` print them",
    ),
    MaskedFor.SECRETS: (
        "{} may hold secrets",
        "copy what tools need of it to another file, and name that in sandbox.read",
    ),
    MaskedFor.PRIVATE: (
        "{} holds the /tmp of sandboxes",
        "move it out of there, or set XDG_STATE_HOME to another folder",
    ),
    MaskedFor.NO_NETWORK: (
        "tools have no network (sandbox.network: none), so {} is empty",
        "`network: host` gives them the host's",
    ),
}
"""Why it is hidden, and what to change. In the place of the braces stands what is masked."""


class Access(StrEnum):
    """What tools can do with a path, as far as the plan decides it."""

    WRITABLE = "writable"
    READABLE = "readable"
    PROTECTED = "protected"
    HIDDEN = "hidden"
    OWN = "own"
    """The sandbox has its own: what lies there outside is not shown."""
    LEADING = "leading"
    """A folder that only leads to what is shown in it."""
    ABSENT = "absent"


class Why(msgspec.Struct, frozen=True):
    """The answer for one path. real: where its links lead. what: a sentence without its subject,
    the path. hint: what to change in the policy; "" where nothing can be."""

    path: str
    real: str
    access: Access
    what: str
    hint: str = ""


def why(plan: Plan, path: str) -> Why:
    """The answer for an absolute path, given as it is named inside."""
    real = _resolved(plan, os.path.normpath(path))
    found = _found(plan, real)
    if plan.unshared is not None:
        found = _without_mounts(plan, plan.unshared, real, found)
    return Why(path, real, *found)


Found = tuple[Access, str, str]
"""The access, the sentence and the hint of `Why`."""


def _without_mounts(plan: Plan, how: Unshared, real: str, found: Found) -> Found:
    """The answer where there is no view of mounts: everything is there, and what the policy does
    not name cannot be opened."""
    access, what, hint = found
    if any(is_inside(real, path) for path in how.shown):
        return (
            Access.WRITABLE,
            "can be read: sandbox.hide names it, but without namespaces nothing can be hidden in"
            " what tools can write",
            "move it elsewhere",
        )
    if access is Access.PROTECTED and any(is_inside(real, path) for path in how.undone):
        return access, f"is put back after each call, if it was changed ({what})", hint
    if access is Access.OWN and any(is_inside(real, folder) for folder in _FOR_ALL):
        return (
            Access.ABSENT,
            "cannot be opened: without namespaces tools have $TMPDIR in its place",
            "use $TMPDIR, or name it in sandbox.read or sandbox.write",
        )
    if access is Access.OWN and any(is_inside(real, folder) for folder in KERNEL_FOLDERS):
        return access, "is the host's, of which most cannot be written", ""
    words = {
        Access.HIDDEN: ("is hidden", "cannot be opened"),
        Access.ABSENT: ("is not shown inside", "cannot be opened: the policy does not name it"),
        Access.LEADING: ("only leads", "cannot be opened: it only leads"),
    }
    if access in words:
        what = what.replace(*words[access], 1)
    return access, what, hint


def _found(plan: Plan, real: str) -> Found:
    for mask in plan.masks:
        if is_inside(real, mask.path):
            what, hint = _MASKED[mask.reason]
            return Access.HIDDEN, f"is hidden: {what.format(mask.path)}", hint
    if any(file.path == real and not file.appended for file in plan.files):
        return Access.OWN, "is a file of the sandbox's own", ""
    bind = _bind_above(plan, real)
    if bind is not None:
        return _of_bind(plan, real, bind)
    if any(is_inside(real, folder) for folder in (*_FOR_ALL, plan.home)):
        return (
            Access.OWN,
            "lies in a folder of the sandbox's own: what is there outside is not shown",
            "name it in sandbox.read to show it",
        )
    if any(is_inside(real, folder) for folder in KERNEL_FOLDERS):
        return Access.OWN, "is the sandbox's own view of the kernel", ""
    if any(is_inside(one.path, real) for one in plan.binds):
        return (
            Access.LEADING,
            "only leads to what is shown in it, and cannot be written",
            "name what tools need in sandbox.read or sandbox.write",
        )
    return (
        Access.ABSENT,
        "is not shown inside",
        "name it in sandbox.read, or in sandbox.write if tools may change it",
    )


def _of_bind(plan: Plan, real: str, bind: Bind) -> Found:
    if bind.writable:
        return Access.WRITABLE, f"can be written: {bind.path} is the workspace's or writable", ""
    for one in plan.protected:
        if is_inside(real, one.path):
            return (
                Access.PROTECTED,
                f"cannot be written: sandbox.protect names {one.path}",
                "take it out of sandbox.protect if tools may change it",
            )
    if any(is_inside(real, one) for one in plan.guarded or ()):
        return (
            Access.PROTECTED,
            "cannot be written: it may start programs later (sandbox.protect_defaults)",
            "name it in sandbox.write if tools may change it",
        )
    return (
        Access.READABLE,
        "is shown read-only",
        "name it in sandbox.write if tools may change it",
    )


def _bind_above(plan: Plan, real: str) -> Bind | None:
    """The innermost bind that holds a path."""
    above = [bind for bind in plan.binds if is_inside(real, bind.path)]
    return max(above, key=lambda bind: len(bind.path), default=None)


def _resolved(plan: Plan, path: str) -> str:
    """A path without the links of the plan in it. path_resolution(7)"""
    links = {link.path: link.target for link in plan.symlinks}
    for _ in range(_MOST_LINKS):
        link = next((one for one in links if is_inside(path, one)), None)
        if link is None:
            break
        target = os.path.join(os.path.dirname(link), links[link])
        path = os.path.normpath(target + path[len(link) :])
    return path
