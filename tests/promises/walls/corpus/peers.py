"""Other sandboxes, each with the strictest flags that let the neighbours of the corpus work.

What a policy says and a sandbox cannot be told (a hidden file, a limit) is left out.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .trial import Request, Sandbox, filled, ours

_PATH = "/usr/local/bin:/usr/bin:/bin"


def _interpreters() -> list[str]:
    return sorted({sys.prefix, sys.base_prefix})


def program(name: str) -> str:
    """Its path, since the starter's $PATH is short."""
    return shutil.which(name) or name


def _shown(request: Request) -> list[str]:
    """Paths of the policy's `read` that are there."""
    return [path for path in filled(request).get("read", []) if os.path.exists(path)]


def bubblewrap(request: Request, argv: Sequence[str]) -> list[str]:
    """A system that is read-only, folders of its own for the rest, no namespace that stays open."""
    policy = filled(request)
    words = [
        program("bwrap"),
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--die-with-parent",
    ]
    words += ["--new-session", "--cap-drop", "ALL", "--clearenv", "--hostname", "sandbox"]
    for name in ("usr", "bin", "sbin", "lib", "lib32", "lib64", "etc"):
        if Path("/", name).is_symlink():
            words += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif Path("/", name).exists():
            words += ["--ro-bind", f"/{name}", f"/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/tmp/home"]
    for path in [*_interpreters(), *_shown(request)]:
        words += ["--ro-bind", path, path]
    words += ["--bind", str(request.work), str(request.work)]
    for path in policy.get("protect", []):
        words += ["--ro-bind", path, path]
    for path in policy.get("hide", []):
        words += ["--ro-bind", "/dev/null", path]
    path = f"{request.work / request.path}:{_PATH}" if request.path else _PATH
    words += ["--setenv", "PATH", path, "--setenv", "HOME", "/tmp/home"]
    words += ["--chdir", str(request.work)]
    limits = policy.get("limits", {})
    return [*(["prlimit", *_rlimits(limits)] if limits else []), *words, "--", *argv]


def _rlimits(limits: dict[str, Any]) -> list[str]:
    """What prlimit(1) can do of the limits."""
    words = [f"--nproc={limits['processes']}", f"--nofile={limits['open_files']}"]
    words += ["--fsize=8388608", "--cpu=1", "--core=0"]
    return [*words, "--data=100663296"] if "memory" in limits else words


def firejail(request: Request, argv: Sequence[str]) -> list[str]:
    policy = filled(request)
    words = [
        program("firejail"),
        "--quiet",
        "--noprofile",
        "--caps.drop=all",
        "--nonewprivs",
        "--noroot",
    ]
    words += ["--seccomp", "--net=none", "--ipc-namespace", "--private-dev", "--disable-mnt"]
    words += ["--nodbus", "--nogroups", "--rmenv=SERVICE_API_KEY", f"--env=HOME={request.work}"]
    words += [f"--blacklist={request.home}", f"--blacklist={request.work.parent}/other"]
    words += [f"--read-only={path}" for path in [*_shown(request), *policy.get("protect", [])]]
    words += [f"--blacklist={path}" for path in policy.get("hide", [])]
    limits = policy.get("limits", {})
    if limits:
        words += [f"--rlimit-nproc={limits['processes']}", "--rlimit-fsize=8388608"]
        words += [f"--rlimit-nofile={limits['open_files']}", "--rlimit-cpu=1"]
    return [*words, "--", *argv]


_CODEX = """
CODEX_HOME=$(mktemp -d /var/tmp/walls-codex-XXXXXX)
export CODEX_HOME
exec "$@"
"""
"""codex wants a folder of its own that is not below /tmp."""


@functools.cache
def _remove_codex_homes() -> None:
    def remove() -> None:
        for folder in Path("/var/tmp").glob("walls-codex-*"):
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


def codex(request: Request, argv: Sequence[str]) -> list[str]:
    """The sandbox of `codex exec`, with a writable workspace, and without a writable /tmp."""
    _remove_codex_homes()
    settings = [
        'sandbox_mode="workspace-write"',
        "sandbox_workspace_write.exclude_slash_tmp=true",
        "sandbox_workspace_write.exclude_tmpdir_env_var=true",
    ]
    words = [word for one in settings for word in ("-c", one)]
    return ["sh", "-c", _CODEX, "sh", program("codex"), "sandbox", *words, "--", *argv]


def sandbox_runtime(request: Request, argv: Sequence[str]) -> list[str]:
    policy = filled(request)
    hidden = [str(request.home), str(request.work.parent / "other"), *policy.get("hide", [])]
    settings = {
        "network": {"allowedDomains": [], "deniedDomains": []},
        "filesystem": {
            "denyRead": hidden,
            "allowWrite": [str(request.work)],
            "denyWrite": policy.get("protect", []),
        },
    }
    path = request.work.parent / "srt.json"
    path.write_text(json.dumps(settings))
    path.chmod(0o644)
    return [program("srt"), "--settings", str(path), *argv]


PEERS: dict[str, tuple[str, Sandbox]] = {
    "sandbox-agent": (sys.executable, ours),
    "bubblewrap, hardened": ("bwrap", bubblewrap),
    "firejail, hardened": ("firejail", firejail),
    "codex, workspace-write": ("codex", codex),
    "Anthropic sandbox-runtime": ("srt", sandbox_runtime),
}
"""Each by its name, with the program that must be there."""


def found() -> dict[str, Sandbox]:
    """Those that are installed here."""
    return {name: box for name, (command, box) in PEERS.items() if shutil.which(command)}
