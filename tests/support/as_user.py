"""Runs a command as an ordinary user, from root, by exec: the pid stays the command's own.

    python as_user.py UID HOME CHECKOUT[:FOLDER...] -- COMMAND...

The interpreter, the checkout and the folders may lie below folders that this user cannot enter
(/root is 0700). Then the command gets a mount namespace of its own in which those are covered by
an empty tmpfs, with only the interpreter, the environment, the checkout and the folders bound back
at their places. Nothing changes for anybody else. Standard library only; run with any Python 3.11.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # pathlib would be half of what each command costs
    from collections.abc import Sequence
    from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18


def some_uid() -> int:
    """A uid that belongs to nobody: RLIMIT_NPROC and the like then count this command alone.

    Below 65536, so that it exists in the user namespace of a container too.
    """
    import random

    return random.SystemRandom().randrange(20000, 60000)


def command(
    uid: int,
    home: Path,
    argv: list[str],
    *,
    checkout: Path,
    prefix: str = sys.prefix,
    also: Sequence[Path] = (),
) -> list[str]:
    """The command line that runs argv as uid. also: more folders that this user shall reach."""
    script = os.path.realpath(__file__)
    python = os.path.join(prefix, "bin", "python")
    shown = os.pathsep.join(map(str, (checkout, *also)))
    return [python, "-I", script, str(uid), str(home), shown, "--", *argv]


def _enterable(folder: str, uid: int) -> bool:
    info = os.stat(folder)
    bit = stat.S_IXUSR if info.st_uid == uid else stat.S_IXOTH
    return bool(info.st_mode & bit)


def _barrier(path: str, uid: int) -> str | None:
    """The outermost folder on the way to path that uid cannot enter."""
    names = path.strip("/").split("/")
    for folder in ("/" + "/".join(names[:count]) for count in range(len(names) + 1)):
        if os.path.isdir(folder) and not _enterable(folder, uid):
            return folder
    return None


def expose(paths: list[str], uid: int) -> None:
    """Makes paths reachable for uid, in a new mount namespace where that is needed."""
    hidden: dict[str, list[str]] = {}
    for path in paths:
        barrier = _barrier(path, uid)
        if barrier is not None and path != barrier:
            hidden.setdefault(barrier, []).append(path)
    if not hidden:
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def call(what: str, result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")

    def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
        arguments = (source.encode(), target.encode(), kind.encode(), flags, data.encode())
        call(f"mount {target}", libc.mount(*arguments))

    call("unshare", libc.unshare(CLONE_NEWNS))
    # Else the mounts below would spread to the host's own mount namespace.
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    for barrier, below in hidden.items():
        # Held open, since the tmpfs covers the way to them.
        handles = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY)) for path in below]
        mount("tmpfs", barrier, "tmpfs", 0, "mode=0755,size=1m")
        for path, handle in handles:
            os.makedirs(path, mode=0o755, exist_ok=True)
            mount(f"/proc/self/fd/{handle}", path, "", MS_BIND | MS_REC)
            os.close(handle)


def main() -> None:
    uid, home = int(sys.argv[1]), sys.argv[2]
    shown = sys.argv[3].split(os.pathsep)
    argv = sys.argv[5:]
    needed = {sys.base_prefix, sys.prefix, home, *shown}
    expose(sorted(map(os.path.realpath, needed), key=lambda path: path.split("/")), uid)
    folder = os.getcwd()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(0o022)
    environ = dict(os.environ, HOME=home, USER=f"user{uid}", LOGNAME=f"user{uid}")
    # Again, since the one that we hold may lie beneath a cover, or out of this user's reach.
    os.chdir(folder)
    os.execvpe(argv[0], argv, environ)


if __name__ == "__main__":
    main()
