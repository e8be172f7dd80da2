"""What this host can do: cheap facts for every plan, and thorough checks for `doctor`.

Each check *does* in a throwaway child what a sandbox needs. Version numbers and configuration files
lie: distributions patch, containers mask, and the host may permit an unshare and then refuse the id
map.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from sandbox_agent_ipc.shortage import shortage_in

from sandbox_agent_sandbox import privileges
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.interpreter import interpreter, is_program, parent_death_prefix
from sandbox_agent_sandbox.limits.places import find_places
from sandbox_agent_sandbox.plan import ControlGroups, Unshared

if TYPE_CHECKING:
    import subprocess

T = TypeVar("T")


class HostFacts(msgspec.Struct, frozen=True):
    """What a plan depends on, apart from the policy and the file system.

    uid, gid: of the agent. path: the entries of $PATH. prefix, base_prefix: this interpreter's
    environment and installation, as in `sys`. code: the folders that our own packages are imported
    from. import_path: `sys.path`. user: the name that tools see as their own. environment: what
    `env.pass` reads. root: the folder that holds the system's `usr`, `etc` and so on. machine: as
    uname(2) names it; "" where it is not that of this process. can_mount, can_map: whether root may
    show files of others as the tools' own, and give tools another id (in a container it may not
    be). groups: where control groups can be
    made; None for nowhere. unshared: what can be had without namespaces, for a plan that has none.
    """

    uid: int
    gid: int
    home: Path
    path: tuple[str, ...]
    prefix: Path
    base_prefix: Path
    code: tuple[Path, ...]
    import_path: tuple[str, ...]
    user: str = "agent"
    environment: Mapping[str, str] = {}
    root: Path = Path("/")
    machine: str = ""
    disks: tuple[Path, ...] = ()
    maker: str = ""
    can_mount: bool = True
    can_map: bool = True
    groups: ControlGroups | None = None
    unshared: Unshared | None = None


def host_facts() -> HostFacts:
    """The facts of this process, now."""
    environment = dict(os.environ)
    return HostFacts(
        uid=os.geteuid(),
        gid=os.getegid(),
        home=Path("/" if (home := os.path.expanduser("~")) == "~" else os.path.abspath(home)),
        path=tuple(entry for entry in environment.get("PATH", "").split(":") if entry),
        prefix=Path(sys.prefix),
        base_prefix=Path(sys.base_prefix),
        code=tuple(map(Path, import_roots())),
        import_path=tuple(sys.path),
        environment=environment,
        machine=os.uname().machine if sys.maxsize > 2**32 else "",
        disks=disks(environment),
        maker=image_maker(),
        can_mount=privileges.has(privileges.SYS_ADMIN),
        can_map=privileges.has(privileges.SETUID, privileges.SETGID),
        groups=find_places(),
    )


def disks(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Folders for what sandboxes keep on the disk, the best one first. Beside the folder of the
    runs, never in it: a run's folder is a record that people copy."""
    state = Path(environment.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path(os.path.expanduser("~"), ".local", "state")
    found = [state / "sandbox-agent-tmp", Path(f"/var/tmp/sandbox-agent-tmp-{os.geteuid()}")]
    return tuple(path for path in found if path.is_absolute())


def image_maker() -> str:
    """The path of mkfs.ext4, where this process can make a file system in a file: root with a loop
    device. "" otherwise."""
    if os.geteuid() != 0 or not privileges.has(privileges.SYS_ADMIN):
        return ""
    if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        return ""
    candidates = (f"{folder}/mkfs.ext4" for folder in ("/usr/sbin", "/sbin", "/usr/bin", "/bin"))
    return next(filter(is_program, candidates), "")


class Check(msgspec.Struct, frozen=True):
    """One thing that a sandbox needs, and whether this host grants it.

    detail: what was found. needed: False when this version works without it.
    """

    name: str
    ok: bool
    detail: str
    hint: str
    needed: bool = True


_CHECKS = {
    "user namespaces": (
        "unshare(s.CLONE_NEWUSER)",
        "sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1",
        True,
    ),
    "id maps": (
        "unshare(s.CLONE_NEWUSER); "
        "put('/proc/self/setgroups', 'deny'); "
        "put('/proc/self/uid_map', f'{uid} {uid} 1'); "
        "put('/proc/self/gid_map', f'{gid} {gid} 1')",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04 and later)",
        True,
    ),
    "mount, pid, net, ipc, uts and cgroup namespaces": (
        "unshare(s.CLONE_NEWUSER | s.CLONE_NEWNS | s.CLONE_NEWPID | s.CLONE_NEWNET "
        "| s.CLONE_NEWIPC | s.CLONE_NEWUTS | s.CLONE_NEWCGROUP)",
        "a kernel with these namespaces; in a container, a seccomp profile that allows unshare",
        True,
    ),
    "a fresh /proc": (
        "unshare(s.CLONE_NEWUSER | s.CLONE_NEWNS | s.CLONE_NEWPID); "
        "child = os.fork(); "
        "child or (s.mount(None, '/', None, s.MS_REC | s.MS_PRIVATE), "
        "s.mount('proc', '/proc', 'proc', 0), os._exit(0)); "
        "os.waitpid(child, 0)[1] and sys.exit('mount refused')",
        "in a container, unmask /proc (docker: --security-opt systempaths=unconfined)",
        True,
    ),
    "detached mounts (open_tree, mount_setattr)": (
        "unshare(s.CLONE_NEWUSER | s.CLONE_NEWNS); fd = s.open_tree('/usr'); "
        "s.mount_setattr(fd, '', s.AT_EMPTY_PATH | s.AT_RECURSIVE, s.MOUNT_ATTR_RDONLY)",
        "Linux 5.12 or newer",
        True,
    ),
    "sealed shared memory": (
        "import fcntl; fd = os.memfd_create('probe', os.MFD_ALLOW_SEALING); "
        "os.ftruncate(fd, 4096); fcntl.fcntl(fd, 1033, 0x10 | 2 | 4 | 1)",
        "Linux 5.1 or newer",
        True,
    ),
    "pidfds": (
        "os.close(os.pidfd_open(os.getpid()))",
        "Linux 5.3 or newer; in a container, a seccomp profile that allows pidfd_open",
        True,
    ),
    "idmapped mounts (only for a workspace that root owns)": (
        "from sandbox_agent_sandbox.inside.walls.idmap import map_owner; "
        "from sandbox_agent_sandbox.plan import Bind, Identity; "
        "path = os.environ['WORKSPACE']; fd = s.open_tree(path); "
        "map_owner(fd, Bind(path, True, True, 0, 0), Identity(1000, 1000, 1000, 1000))",
        "run as an ordinary user, or give the workspace to one (chown)",
        False,
    ),
}
"""Name -> (the program of a throwaway child, the hint, whether this version needs it)."""

_PRELUDE = (
    "import os, sys; sys.path[:0] = sys.argv[1].split(':'); "
    "from sandbox_agent_sandbox.inside.kernel import syscalls as s; unshare = s.unshare; "
    "from sandbox_agent_sandbox.inside.kernel.dispositions import reset_signals; reset_signals(); "
    "uid, gid = os.geteuid(), os.getegid(); "
    # Not by a file object: what a buffer cannot write when it is collected is no error to anybody.
    "put = lambda path, text: os.write(os.open(path, os.O_WRONLY), text.encode()); "
)
_LAST = "\nprint('works')"
"""The end of a check that works. Its exit status says nothing where the calling program ignores
SIGCHLD: the kernel keeps no status then, and `subprocess` makes it 0. waitpid(2)"""


def probe(workspace: Path | None = None) -> list[Check]:
    """Try everything that a sandbox on this host needs, each in a child of its own.

    workspace: the folder whose file system must do idmapped mounts; None for the current folder.
    Raises SandboxUnavailable where there is no Python to start a sandbox with.
    """
    return list(checks(workspace))


def checks(workspace: Path | None = None) -> Iterator[Check]:
    """As `probe`, one after another: who knows enough need not wait for the rest."""
    yield Check(
        "Linux",
        sys.platform == "linux" and _release() >= (5, 12),
        os.uname().release,
        "Linux 5.12 or newer",
    )
    for name, (code, hint, needed) in _CHECKS.items():
        if "idmapped" in name and os.geteuid() != 0:
            continue
        why = try_in_child(code, {"WORKSPACE": str(workspace or Path.cwd())})
        yield Check(name, not why, why or "works", hint, needed)


def try_in_child(code: str, environment: Mapping[str, str]) -> str:
    """Run a program of Python's in a child. Returns the last line of its errors; "" if it works.

    code: it finds `os`, `sys`, `unshare`, and our system calls as `s`. Raises SandboxUnavailable
    where there is no Python to start a sandbox with.
    """
    out, errors = run_child(_PRELUDE + code + _LAST, dict(environment))
    lines = errors.decode(errors="replace").strip().splitlines()
    return "" if out.strip() == b"works" else (lines or ["died"])[-1]


class Abandoned(Exception):
    """Nobody waits any more for what was being tried."""


class Trials:
    """What threads try in children, in `during`. Another one may `abandon` it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._is_abandoned = False

    def during(self, work: Callable[..., T], *arguments: object) -> T:
        """Do the work in this thread. What it tries meanwhile belongs to these trials."""
        before, _thread.trials = _thread.trials, self
        try:
            return work(*arguments)
        finally:
            _thread.trials = before

    def abandon(self) -> None:
        """End the children of now. No other one is started, and the work gets Abandoned."""
        with self._lock:
            self._is_abandoned = True
            for child in self._children:
                _end(child)

    def run(self, argv: list[str], environment: dict[str, str]) -> tuple[bytes, bytes]:
        """Start a child and wait for its end. Returns what it wrote. Where somebody has ended it,
        that says nothing of this host: it is started again. Raises SandboxUnavailable in the end.
        """
        for _ in range(_ATTEMPTS):
            written, status = self._run_once(argv, environment)
            if -status not in _BY_OTHERS:
                return written
        name = signal.Signals(-status).name
        raise SandboxUnavailable(f"{_UNKNOWN} was ended by {name}, {_ATTEMPTS} times{_HINT}")

    def _run_once(
        self, argv: list[str], environment: dict[str, str]
    ) -> tuple[tuple[bytes, bytes], int]:
        import subprocess

        with self._lock:
            if self._is_abandoned:
                raise Abandoned
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                process_group=0,  # what it has forked may be stopped, and hold its output open
            )
            self._children.add(child)
        with child:
            try:
                written = child.communicate(timeout=_TRIAL_SECONDS)
            except BaseException as error:
                _end(child)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise SandboxUnavailable(f"{_UNKNOWN} took over 20 s{_HINT}") from None
                raise
            finally:
                with self._lock:
                    self._children.discard(child)
                    is_abandoned = self._is_abandoned
        if is_abandoned:
            raise Abandoned
        return written, child.returncode


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is None:  # else its number may be another's
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


class _Thread(threading.local):
    """Of each thread."""

    trials: Trials | None = None


_thread = _Thread()


def trials_of_thread() -> Trials:
    """What this thread is trying: new ones, if it is not in `Trials.during`."""
    return _thread.trials or Trials()


_TRIAL_SECONDS = 20.0
_ATTEMPTS = 3
_BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_UNKNOWN = "what this host can do is not known: the process that tries it"
_HINT = "; hint: something ends or stops processes here, perhaps since memory is short; run again"


_TIED = (
    # PR_SET_PDEATHSIG comes first: until then the child would outlive its parent.
    "import ctypes; ctypes.CDLL(None).prctl(1, 9); "
    # A parent that died before that sends no signal any more.
    "import os, sys; os.getppid() == int(sys.argv.pop()) or sys.exit(); "
)


def run_child(code: str, environment: dict[str, str]) -> tuple[bytes, bytes]:
    """Run a program of Python's in a child that ends with this thread, with the folders of our
    packages as its argument.

    Returns what it wrote to standard output and error. Raises SandboxUnavailable where there is no
    Python to start a sandbox with, as `Trials.run`, and Abandoned where this thread's `Trials` are.
    """
    python = [*parent_death_prefix(), interpreter(), "-I", "-S", "-B", "-c", _TIED + code]
    argv = [*python, ":".join(import_roots()), str(os.getpid())]
    return trials_of_thread().run(argv, environment)


def _release() -> tuple[int, ...]:
    parts = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())


_TRIAL = (
    "import sys; sys.path[:0] = sys.argv[1].split(':'); "
    "from sandbox_agent_sandbox.inside.kernel.dispositions import reset_signals; reset_signals(); "
    "from sandbox_agent_sandbox.inside.unshared.trial import main; main()"
)


@cache
def host_can() -> Unshared:
    """What this host can do without namespaces, as a child tries it, once in a process. `abi` is 0
    where it can have no Landlock.

    Raises SandboxUnavailable where there is no Python to start a child with, and where something
    has run out for the child: that says nothing of the host.
    """
    try:
        found, errors = run_child(_TRIAL, {})
    except OSError:
        return Unshared()
    try:
        return msgspec.json.decode(found, type=Unshared)
    except msgspec.DecodeError:
        short = shortage_in(errors.decode(errors="replace").strip().rpartition("\n")[2])
        if short is not None:
            raise SandboxUnavailable(f"what this host can do is not known: {short}") from None
        return Unshared()
