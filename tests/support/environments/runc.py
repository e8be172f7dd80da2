"""Containers of runc, on the file system of this host: root makes them, for any user.

    python tests/support/environments runc... --as UID --own FOLDER [--first command] -- COMMAND...

The container has pids of its own. Its first process is `first.py`, as in `docker run --init`: the
command's end does not hide what the command leaves. With `--first command` the command itself is
the first process. FOLDER is writable.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import as_user

from environments import docker, kernel

HERE = Path(__file__).resolve().parent
MNT_DETACH = 2
_KERNELS = ("/proc", "/sys", "/dev")

Spec = dict[str, Any]


def default(spec: Spec) -> None:
    """As `runc spec` makes it: a read-only root, three capabilities, no_new_privs, no filter."""


def as_docker(spec: Spec) -> None:
    """Docker's filter and capabilities, a writable root."""
    spec["root"]["readonly"] = False
    spec["process"]["noNewPrivileges"] = False
    names = list(docker.CAPABILITIES)
    spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective"), names)
    spec["process"]["capabilities"]["permitted"] = names
    spec["linux"]["seccomp"] = docker.profile()


def restricted(spec: Spec) -> None:
    """Kubernetes' pod security standard `restricted`, with a read-only root."""
    spec["process"]["capabilities"] = {}
    spec["linux"]["seccomp"] = docker.profile()


def stranger(spec: Spec) -> None:
    """OpenShift's: a uid that no account has, with the group of root, at home in /."""
    spec["process"]["capabilities"] = {}
    spec["process"]["user"]["gid"] = 0
    spec["process"]["env"] = [
        one for one in spec["process"]["env"] if not one.startswith("HOME=")
    ] + ["HOME=/"]


SPECS: dict[str, Callable[[Spec], None]] = {
    "runc": default,
    "runc-docker": as_docker,
    "runc-restricted": restricted,
    "runc-stranger": stranger,
}


def run(name: str, uid: int, own: str, argv: list[str], *, is_first: bool = False) -> None:
    """Execute runc in the place of this process. is_first: the command is the first process."""
    bundle = tempfile.mkdtemp(prefix=".runc-", dir=own)
    subprocess.run(["runc", "spec", "--bundle", bundle], check=True)
    path = Path(bundle, "config.json")
    spec = json.loads(path.read_text())
    spec["root"]["path"] = _root(bundle, uid)
    process = spec["process"]
    process.update(terminal=False, cwd=os.getcwd(), user={"uid": uid, "gid": uid})
    first = [] if is_first else [sys.executable, "-I", str(HERE / "first.py")]
    process["args"] = [*first, *argv]
    process["env"] = [f"{key}={value}" for key, value in os.environ.items()]
    del process["rlimits"]
    spec["linux"].pop("resources", None)
    spec["mounts"].append(
        {"destination": own, "type": "bind", "source": own, "options": ["bind", "rw"]}
    )
    SPECS[name](spec)
    path.write_text(json.dumps(spec))
    state = os.path.join(bundle, "state")
    command = ["runc", "--root", state, "run", "--bundle", bundle, os.path.basename(bundle)[1:]]
    os.execvp("runc", command)


def _root(bundle: str, uid: int) -> str:
    """This host's files, as the user reaches them, without those of its kernel."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    needed = {sys.base_prefix, sys.prefix, str(HERE), bundle}
    as_user.expose(sorted(needed), uid)
    root = os.path.join(bundle, "root")
    os.mkdir(root)
    kernel.mount("/", root, "", kernel.MS_BIND | kernel.MS_REC)
    for folder in _KERNELS:
        kernel.umount(root + folder, MNT_DETACH)
    return root
