"""What will be done to build one sandbox: data that is decided in the host and carried out inside.

`make_plan` (in `planning`) is the only maker; the spawner and init read it and decide nothing.
"""

from __future__ import annotations

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """Who the tools are. The ids inside are never 0; user_namespaces(7)."""

    inside_uid: int
    inside_gid: int
    outside_uid: int
    outside_gid: int


class Bind(msgspec.Struct, frozen=True):
    """Something of the host's that is visible inside, at the same absolute path.

    own: on disk it belongs to `owner_uid` and `owner_gid`, and appears inside as the sandbox's own
    (an idmapped mount, mount_setattr(2)); what is created there belongs to them on disk.
    """

    path: str
    writable: bool = False
    own: bool = False
    owner_uid: int = 0
    owner_gid: int = 0


class Symlink(msgspec.Struct, frozen=True):
    """A symbolic link of the new root."""

    path: str
    target: str


class Mask(msgspec.Struct, frozen=True):
    """A path inside a bind that tools must not see: an empty folder or file lies over it."""

    path: str
    folder: bool


class Protected(msgspec.Struct, frozen=True):
    """A path that is readable and not writable; the host notices when it is replaced outside."""

    path: str
    device: int
    inode: int


class Ceilings(msgspec.Struct, frozen=True):
    """Resource limits, as setrlimit(2) takes them, and the size of /tmp. Bytes and seconds."""

    memory: int
    processes: int
    cpu_time: int
    open_files: int
    file_size: int
    tmp: int


class Plan(msgspec.Struct, frozen=True):
    """Everything that the spawner and init need to know.

    binds: outermost first. import_path: where workers find modules. network: whether the
    sandbox has a network namespace of its own with loopback only ("none") or the host's ("host").
    """

    workspace: str
    identity: Identity
    binds: tuple[Bind, ...]
    symlinks: tuple[Symlink, ...]
    masks: tuple[Mask, ...]
    protected: tuple[Protected, ...]
    network: str
    ceilings: Ceilings
    environment: dict[str, str]
    import_path: tuple[str, ...]
