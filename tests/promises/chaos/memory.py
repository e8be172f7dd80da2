"""Memory that runs out in the control group of a sandbox: the kernel ends what is largest there.

Needs root, and groups of version 1 that the sandbox has made. cgroups(7),
Documentation/admin-guide/cgroup-v1/memory.rst
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

_ROOM = 2 << 20
"""Bytes between what is used and the limit."""
_PATIENCE = 5.0


def group_of(pid: int) -> Path | None:
    """The group of its call that a process is in, below its sandbox's; None if there is none."""
    own, theirs = _memory_of(os.getpid()), _memory_of(pid)
    top = _mounted()
    if top is None or not theirs or theirs == own:
        return None
    found = Path(f"{top}{theirs}")
    return found if found.parent.name.startswith("sandbox-agent-") else None


def run_out(calls: set[Path]) -> bool:
    """Take memory of a sandbox until the kernel has ended a process in it. Returns whether it was
    one in these groups of calls: a spare has such a group, too."""
    group = next(iter(calls)).parent
    file = group / "memory.limit_in_bytes"
    before, killed, of_calls = file.read_text(), _killed(group), _ended(calls)
    used = int((group / "memory.usage_in_bytes").read_text())
    eater = None
    try:
        file.write_text(str(used + _ROOM))
        # It waits for the end of a line that has none. What it holds, and so its score, is small.
        eat = 'echo 0 > "$0/tasks"; exec tail /dev/zero'
        eater = subprocess.Popen(["sh", "-c", eat, str(group)], stderr=subprocess.DEVNULL)
        end = time.monotonic() + _PATIENCE
        while eater.poll() is None and _killed(group) == killed and time.monotonic() < end:
            time.sleep(0.001)  # between looks: nothing announces it to a process outside
    except FileNotFoundError:  # the sandbox was closed meanwhile
        return False
    finally:
        if eater is not None:
            eater.kill()
            eater.wait()
        with contextlib.suppress(FileNotFoundError):
            file.write_text(before)
    return _ended(calls) > of_calls


def _killed(group: Path) -> int:
    """How many processes in a sandbox the kernel has ended."""
    return _ended(set(group.glob("call-*")))


def _ended(groups: set[Path]) -> int:
    """How many processes the kernel has ended in these. Version 1 counts for each group apart."""
    found = 0
    for file in (group / "memory.oom_control" for group in groups):
        with contextlib.suppress(FileNotFoundError):  # the sandbox was closed meanwhile
            words = file.read_text().split()
            found += int(words[words.index("oom_kill") + 1])
    return found


def _memory_of(pid: int) -> str:
    """The path of a process's group in the hierarchy for memory; "" if there is none."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return path
    return ""


def _mounted() -> str | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        kind, _, options = words[words.index("-") + 1 :][:3]
        if kind == "cgroup" and "memory" in options.split(",") and words[3] == "/":
            return words[4]
    return None
