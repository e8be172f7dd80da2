"""The steps of building a sandbox and of making a call, as an error names them."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """In the order in which they are done."""

    START = "start the spawner"
    KEYRING = "make a session keyring"
    PRIVATE = "make the folder for the tools' /tmp"
    NAMESPACES = "make the namespaces"
    MAPS = "map the user into its namespace"
    INIT = "start init"
    NO_NESTING = "forbid nested user namespaces"
    COPY = "copy the mounts of the plan"
    VIEW = "build the mount view"
    NAME = "name the sandbox"
    LOOPBACK = "bring up loopback"
    GROUPS = "make the sandbox's control groups"
    CALL = "start the call's processes"
    CALL_GROUPS = "put the call into its control groups"
    CALL_NAMESPACES = "make the call's namespaces"
    CALL_PROC = "mount the call's /proc"
    CALL_VIEW = "make the call's home folder and /tmp"
