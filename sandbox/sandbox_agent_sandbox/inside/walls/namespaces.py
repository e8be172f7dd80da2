"""The sandbox's namespaces, and the tools' user in them. namespaces(7), user_namespaces(7)."""

from __future__ import annotations

import os
from contextlib import suppress

from sandbox_agent_sandbox import privileges
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.small_files import read_text, write_text
from sandbox_agent_sandbox.plan import Identity

_ALWAYS = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)


def enter_namespaces(network: str) -> None:
    """Unshare the sandbox's namespaces. The pid namespace begins with the next fork."""
    syscalls.unshare(_ALWAYS | (syscalls.CLONE_NEWNET if network == "none" else 0))


def write_maps(pid: int, identity: Identity) -> None:
    """Map exactly one user and one group into the namespace of `pid`.

    The writer must be in the parent namespace. There root may map any id; who has no capability may
    map its own id only, and its own group only after setgroups is denied. user_namespaces(7).
    """
    if not privileges.has(privileges.SETGID):
        write_text(f"/proc/{pid}/setgroups", "deny")
    write_text(f"/proc/{pid}/uid_map", f"{identity.inside_uid} {identity.outside_uid} 1")
    write_text(f"/proc/{pid}/gid_map", f"{identity.inside_gid} {identity.outside_gid} 1")


def switch_user(identity: Identity) -> None:
    """Take the mapped ids inside the user namespace, and keep its capabilities.

    Leaving uid 0 drops capabilities only where 0 is mapped (capabilities(7)), and it is not. For an
    ordinary user the ids stay the same, and setgroups is denied. So ask setgroups, not the ids: an
    id without a mapping shows as 65534, and the workspace's owner may have that id too.
    """
    if read_text("/proc/self/setgroups").strip() == "allow":
        os.setgroups([])
    os.setresgid(identity.inside_gid, identity.inside_gid, identity.inside_gid)
    os.setresuid(identity.inside_uid, identity.inside_uid, identity.inside_uid)


def limit_the_namespace() -> None:
    """Forbid user namespaces, in which a tool would have capabilities and could mount. Leave the
    starter at least half of what inotify gives to a user.

    The limits hold for the writer's namespace. namespaces(7), /proc/sys/user, inotify(7).
    """
    write_text("/proc/sys/user/max_user_namespaces", "0")
    for name in ("instances", "watches"):
        with suppress(FileNotFoundError):  # a kernel without inotify
            most = int(read_text(f"/proc/sys/fs/inotify/max_user_{name}"))
            write_text(f"/proc/sys/user/max_inotify_{name}", str(most // 2))
