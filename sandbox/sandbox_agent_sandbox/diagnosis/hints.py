"""The one hint for a call that failed because of the sandbox.

Reads the end of what a failed call printed, which is hostile text: bounded, and of it no more than
one path is repeated. The answer comes from the plan alone, so a tool that prints the name of a file
does not learn whether it exists outside.
"""

from __future__ import annotations

import os
import re

from sandbox_agent_sandbox.diagnosis.why import Access, why
from sandbox_agent_sandbox.plan import Plan

_MOST_LINES = 40
_LONGEST_LINE = 800
_LONGEST_PATH = 200

_GONE = re.compile(r"no such file or directory", re.IGNORECASE)
_DENIED = re.compile(r"permission denied|operation not permitted", re.IGNORECASE)
_READ_ONLY = re.compile(r"read-only file system", re.IGNORECASE)

_AFTER = re.compile(
    r"(?:directory|denied|permitted|system)(?:[:,] (?:\w+ )?)b?['\"]([^'\"]+)['\"]", re.I
)
"""`[Errno 2] No such file or directory: '/x'` (Python), `ENOENT: no such file or directory, open
'/x'` (Node)."""
_QUOTED = re.compile(r"['\"\u2018]([^'\"\u2018\u2019]+)['\"\u2019]: \w")
"""`touch: cannot touch '/x': Read-only file system`."""
_PLAIN = re.compile(r"(?:^|[ :])([^ :'\"]+): \w[\w -]+$")
"""`cat: /x: No such file or directory`, `bash: line 1: /x: Permission denied`."""

_NO_NETWORK = re.compile(
    r"network is unreachable|temporary failure in name resolution|could not resolve|enetunreach"
    r"|name or service not known|eai_again|failed to lookup address|unknown host"
    r"|no address associated with hostname",
    re.IGNORECASE,
)
_NO_FAMILY = re.compile(r"address family not supported|eafnosupport", re.IGNORECASE)
_AS_ROOT = re.compile(
    r"(?:cannot|must not|not|refus\w*|n't) (?:to )?(?:be )?(?:run|running|start|started|execut\w+)"
    r" as (?:the )?['\"]?root\b|root['\"]? execution of .{1,40} is not permitted",
    re.IGNORECASE,
)
_NAMESPACES = re.compile(
    r"\b(?:unshare|clone|setns|u?mount)(?: failed|\(|:)|\bnamespaces?\b", re.IGNORECASE
)
_REFUSED = re.compile(
    r"operation not permitted|permission denied|function not implemented|must be superuser"
    r"|no space left on device",
    re.IGNORECASE,
)
_PRIVILEGES = re.compile(
    r"no new privileges|effective uid is not 0|must be setuid root|must be owned by uid 0",
    re.IGNORECASE,
)
_BUSY = re.compile(r"device or resource busy|invalid cross-device link", re.IGNORECASE)
_NAMED = re.compile(r"['\"\u2018]([^'\"\u2018\u2019]+)['\"\u2019]")
_SETUID = re.compile(r"changing permissions of|cannot change mode to \S{0,5}s", re.IGNORECASE)

_NOT_WRITABLE = (
    *(Access.ABSENT, Access.HIDDEN, Access.LEADING),
    *(Access.READABLE, Access.PROTECTED),
)
_DENIES = {
    _GONE: (Access.ABSENT, Access.HIDDEN, Access.LEADING),
    _DENIED: _NOT_WRITABLE,
    _READ_ONLY: _NOT_WRITABLE,
}
"""Which complaint the sandbox causes, for which kind of path. A path that tools can write is the
tool's own business."""


def hint_for(plan: Plan, cwd: str, text: str) -> str:
    """Why the sandbox denied what a failed call complains of, with what to change; "" where nothing
    says that it was the sandbox.

    text: what the call printed and returned. cwd: the folder that it began in.
    """
    lines = text[-_MOST_LINES * _LONGEST_LINE :].splitlines()[-_MOST_LINES:]
    for line in reversed(lines):
        if found := _of_line(plan, cwd, line[:_LONGEST_LINE].strip()):
            return found
    return ""


def _of_line(plan: Plan, cwd: str, line: str) -> str:
    if plan.network != "host" and _NO_NETWORK.search(line):
        return (
            f"tools have no network here (sandbox.network: {plan.network}); hint: `network: host`"
            " gives them the host's"
        )
    if plan.unshared is not None and (found := _without_namespaces(plan, line)):
        return found
    refused = _REFUSED.search(line)
    if refused and _SETUID.search(line, 0, refused.start()):
        return "no tool can set the setuid bit, if that was it"
    if _PRIVILEGES.search(line):
        return "no tool can become another user (no_new_privs), so sudo and its like do not work"
    if refused and _NAMESPACES.search(line, 0, refused.start()):
        return (
            "no tool can make namespaces or mounts; hint: start the program without a sandbox of"
            " its own, as in `chromium --no-sandbox`"
        )
    if _BUSY.search(line):
        return _of_mount(plan, cwd, line)
    for complaint, accesses in _DENIES.items():
        if not complaint.search(line):
            continue
        if complaint is _GONE and plan.unshared is not None:
            continue  # nothing is absent because of the sandbox
        path = _path_in(line)
        if path is None:
            continue
        answer = why(plan, os.path.join(cwd, path))
        if answer.access in accesses:
            hint = f"; hint: {answer.hint}" if answer.hint else ""
            return f"{os.path.join(cwd, path)} {answer.what}{hint}"
    return ""


def _without_namespaces(plan: Plan, line: str) -> str:
    """For what names no path in its error: a socket, and a lock of Python's between processes."""
    if _NO_FAMILY.search(line) and plan.network != "host":
        how = "; hint: `network: loopback` gives them TCP on the loopback interface"
        return (
            f"tools have no such sockets here (sandbox.network: {plan.network}), because this host"
            f" has no namespaces{how if plan.network == 'none' else ''}"
        )
    if plan.identity.outside_uid == 0 and _AS_ROOT.search(line):
        return (
            "tools are root here, without any capability, because the workspace is root's and this"
            " host has no namespaces; hint: give the workspace to an ordinary user (chown): then"
            " tools run as that user"
        )
    heard = plan.unshared is not None and plan.unshared.broker
    if "_multiprocessing.SemLock(" not in line or heard:
        return ""
    return (
        "locks between processes lie in /dev/shm, which is the host's and closed to tools, because"
        " this host has neither namespaces nor a way to look at system calls (seccomp_unotify);"
        " hint: use threads, or processes that talk through pipes (subprocess,"
        " multiprocessing.Pipe)"
    )


def _of_mount(plan: Plan, cwd: str, line: str) -> str:
    """For a folder that cannot be moved or removed, because something is mounted there or below."""
    fixed = {*plan.pins, *(bind.path for bind in plan.binds), *(mask.path for mask in plan.masks)}
    for path in _NAMED.findall(line):
        whole = os.path.normpath(os.path.join(cwd, path))
        if whole in fixed and _is_short(path):
            return (
                f"{whole} can be neither moved nor removed: it, or something in it, is read-only or"
                " hidden for tools; hint: write to the other files in it"
            )
    return ""


def _is_short(path: str) -> bool:
    return len(path) <= _LONGEST_PATH and path.isprintable()


def _path_in(line: str) -> str | None:
    for pattern in (_AFTER, _QUOTED, _PLAIN):
        match = pattern.search(line)
        if match is None:
            continue
        path = match[1]
        if _is_short(path):
            return path
    return None
