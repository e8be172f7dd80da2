"""The plan of one sandbox: data that the host decides and that the processes inside carry out.

`policy.make_plan` is the only maker. The spawner and init read a plan and decide nothing.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class PlanKind(StrEnum):
    """By what a sandbox keeps its tools inside. The strongest first."""

    FULL = "full"
    """Namespaces, with a fresh /proc."""
    SHARED_PROC = "shared_proc"
    """Namespaces, where no fresh /proc can be mounted."""
    NO_NAMESPACES = "no_namespaces"
    """Landlock, seccomp and a supervisor for each call."""


class Identity(msgspec.Struct, frozen=True):
    """The user and group that tools run as. The ids inside are never 0; user_namespaces(7)."""

    inside_uid: int
    inside_gid: int
    outside_uid: int
    outside_gid: int


class Bind(msgspec.Struct, frozen=True):
    """A file or folder of the host that is visible inside, at the same absolute path.

    idmapped: `owner_uid` and `owner_gid` own it on disk, and inside it appears as the sandbox
    user's own (an idmapped mount, mount_setattr(2)). What tools create there gets that owner on
    disk.
    """

    path: str
    writable: bool = False
    idmapped: bool = False
    owner_uid: int = 0
    owner_gid: int = 0


class Symlink(msgspec.Struct, frozen=True):
    """A symbolic link of the new root."""

    path: str
    target: str


class MaskedFor(StrEnum):
    """Why a path is hidden."""

    POLICY = "policy"
    """`hide` names it."""
    RECORDS = "records"
    """Records of runs lie there."""
    SECRETS = "secrets"
    """Its name says that it holds some, or not every account of the host may read it."""
    PRIVATE = "private"
    """What sandboxes keep on the disk lies there."""
    NO_NETWORK = "no network"
    """It says how to reach a network, and tools have none."""


class Mask(msgspec.Struct, frozen=True):
    """A path inside a bind that is hidden: an empty folder or file is mounted over it.

    unreadable: the file cannot be read, the folder can be listed and not searched. So git, which
    keeps what is there, fails, and commits neither a deletion nor that a file is empty.
    """

    path: str
    folder: bool
    unreadable: bool = False
    reason: MaskedFor = MaskedFor.POLICY


class File(msgspec.Struct, frozen=True):
    """A file of the sandbox's own. Where the host has one too, it is mounted over that, read-only.

    appended: the text comes after that of the host's file.
    """

    path: str
    text: str
    appended: bool = False


class Access(msgspec.Struct, frozen=True):
    """Rights for a file, or for a folder and all below it: LANDLOCK_ACCESS_FS_*, landlock(7)."""

    path: str
    rights: int


class Landlock(msgspec.Struct, frozen=True):
    """What is allowed once more, apart from the mounts. tcp: the rights LANDLOCK_ACCESS_NET_* that
    nobody has."""

    files: tuple[Access, ...] = ()
    tcp: int = 0


class Protected(msgspec.Struct, frozen=True):
    """A path that is readable and not writable; the host notices when it is replaced outside."""

    path: str
    device: int
    inode: int


class PrivateKind(StrEnum):
    """Where the tools' /tmp and home folder lie."""

    MEMORY = "memory"
    """A file system in memory (tmpfs(5)) of a fixed size."""
    IMAGE = "image"
    """A file system of a fixed size on the disk, in a file without a name. Needs root, a loop
    device (loop(4)) and mkfs.ext4(8)."""
    FOLDER = "folder"
    """A folder on the disk. The host watches how much is in it."""


class Private(msgspec.Struct, frozen=True):
    """The tools' own /tmp, with their home folder in it, and /dev/shm.

    size: of /tmp in bytes; None for no limit. base: the folder on the disk that holds what
    sandboxes keep there; "" in memory. maker: the path of mkfs.ext4. shared_memory: the size of
    /dev/shm in bytes, which is in memory; None for no limit. why: /tmp cannot be a file system of a
    fixed size on the disk.
    """

    kind: PrivateKind = PrivateKind.MEMORY
    size: int | None = 256 * 2**20
    base: str = ""
    maker: str = ""
    shared_memory: int | None = 256 * 2**20
    why: str = ""


class ResourceLimits(msgspec.Struct, frozen=True):
    """How much tools may use, in bytes, seconds and numbers; None for no limit.

    memory, processes: of all calls together. call_memory: of one call. process_memory, cpu_time,
    open_files, file_size: of one process, as setrlimit(2) takes them.
    """

    memory: int | None = None
    call_memory: int | None = None
    process_memory: int | None = None
    processes: int | None = None
    cpu_time: int | None = None
    open_files: int | None = None
    file_size: int | None = None


class Unshared(msgspec.Struct, frozen=True):
    """What a plan without namespaces goes by.

    abi: the version of Landlock. scopes: whether it keeps signals inside (Linux 6.12). listener:
    whether the supervisor of a call hears of its system calls; seccomp_unotify(2). broker: whether
    it can also copy an address out of a tool, and give it a socket. takes: whether it can take one;
    pidfd_getfd(2). other_user: whether
    tools can run as another user than the agent, and be ended; in a plan: whether they do.
    undone: paths that are put back after each call, because tools can write them. shown: paths that
    should be hidden and are not. owned, covered: paths that are protected and hidden because root
    owns them while the sandbox is there. sockets: paths of sockets, and folders of such, that tools
    may connect to. looked_at: numbers of system calls that the broker looks at.
    """

    abi: int = 0
    scopes: bool = False
    listener: bool = False
    broker: bool = False
    takes: bool = False
    other_user: bool = False
    owns: bool = False
    undone: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    owned: tuple[str, ...] = ()
    covered: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    looked_at: tuple[int, ...] = ()


class ControlGroups(msgspec.Struct, frozen=True):
    """The folders in which a sandbox's control groups are made, in a hierarchy of this version.

    memory, processes: where each is counted; the same folder in version 2. processes: "" where no
    group counts them.
    """

    version: int
    memory: str
    processes: str


class Plan(msgspec.Struct, frozen=True):
    """Everything that the spawner and init need to build a sandbox.

    binds: outermost first. network: "none" for a network namespace with loopback only, "host" for
    the host's network; without namespaces "none" for none at all, "loopback" for TCP on loopback.
    environment: what every tool gets. user, home: of the account inside; the
    environment may say otherwise. import_path: the workers' `sys.path`.
    notes: what the user is told before the start, because inside it is not as it is outside.
    pins: folders that no tool can rename or replace, outermost first: what is mounted below them
    would move with them. They are mounted onto themselves. guarded: those of the binds that are
    read-only because of `protect_defaults`; None where that is off. system_calls: the filter of
    seccomp(2), as `struct sock_filter`s; empty for none. landlock: the rules for each call; without
    files for none. private: /tmp, the home folder and /dev/shm. disk: how many bytes tools may add
    to the disks of what they can write; None for no limit. groups: where the kernel counts the
    memory and the processes of all calls; None where init looks at them from time to time. kind: by
    what all of this is kept. hidden: those of the masks that the policy asks for. unshared: what a
    plan without namespaces goes by; None for others.
    """

    workspace: str
    identity: Identity
    binds: tuple[Bind, ...]
    symlinks: tuple[Symlink, ...]
    masks: tuple[Mask, ...]
    protected: tuple[Protected, ...]
    network: str
    limits: ResourceLimits
    environment: dict[str, str]
    user: str
    home: str
    import_path: tuple[str, ...]
    files: tuple[File, ...] = ()
    notes: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    guarded: tuple[str, ...] | None = ()
    system_calls: bytes = b""
    landlock: Landlock = Landlock()
    private: Private = Private()
    disk: int | None = None
    groups: ControlGroups | None = None
    kind: PlanKind = PlanKind.FULL
    hidden: tuple[str, ...] = ()
    unshared: Unshared | None = None

    @property
    def counts_user(self) -> bool:
        """Whether all processes of the tools' user count for `limits.processes`, in the sandbox or
        not: RLIMIT_NPROC does so where no namespace keeps them apart. getrlimit(2)"""
        counted = self.groups is not None and bool(self.groups.processes)
        return self.unshared is not None and self.identity.outside_uid != 0 and not counted


def as_built(plan: Plan, no_image: str) -> Plan:
    """The plan of a sandbox that is built. no_image: why its /tmp is a folder after all, where an
    image was planned; "" if it is not. Whoever names levels reads this one."""
    if not no_image:
        return plan
    private = msgspec.structs.replace(plan.private, kind=PrivateKind.FOLDER, why=no_image)
    return msgspec.structs.replace(plan, private=private)
