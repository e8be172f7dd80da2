"""The filter in the kernel: what it refuses, and that it is the filter that refuses it."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys

import pytest
from sandbox_agent_sandbox.import_roots import import_roots
from sandbox_agent_sandbox.policy.rules.numbers import NUMBERS
from sandbox_agent_sandbox.policy.rules.seccomp import compile_filter, refusals

PROGRAM = """
import ctypes, json, os, sys
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.walls.seccomp import filter_system_calls

calls, program = json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)
os.setsid()
if program:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    filter_system_calls(bytes.fromhex(program))
found = {}
for name, (number, *arguments) in calls.items():
    done = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    found[name] = ctypes.get_errno() if done < 0 else 0
os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
print(json.dumps(found))
"""

ODD = {
    # (0) would be about this process, or unload what is loaded.
    "kexec_load": (0, 0, 0, -1),
    "swapon": (1, -1),
    "io_uring_setup": (1, 1),
    "iopl": (99,),
    "keyctl": (-1,),
    "io_setup": (0, 1),
    "perf_event_open": (1, 0, -1, -1, 0),
}
"""Arguments that the kernel refuses with another error than the filter does."""
USUAL = (-1, 1, -1, -1, -1)
"""A descriptor, address, number or flags that there are none of."""
NOT_TRIED = {"vhangup"}
"""As root it does what it says."""


def attempts() -> dict[str, tuple[tuple[int, ...], int]]:
    """Of each call that is always refused: (its number and arguments, the filter's error)."""
    numbers = NUMBERS[platform.machine()]
    first = dict.fromkeys(("acct", "chroot", "mount", "umount2", "settimeofday"), (1, *USUAL))
    return {
        name: ((numbers[name], *ODD.get(name, first.get(name, USUAL))), one.error)
        for one in refusals(owner_is_root=True)
        if not one.when and not one.unless
        for name in one.names.split()
        if name in numbers and name not in NOT_TRIED
    }


def answers(program: bytes) -> dict[str, int]:
    """The errno of each attempt in a throwaway process with this filter."""
    calls = {name: words for name, (words, _) in attempts().items()}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([calls, program.hex()]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(import_roots())},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(platform.machine() not in NUMBERS, reason="needs a machine with a filter")
def test_each_refusal_is_the_filters_own() -> None:
    filtered = answers(compile_filter(platform.machine(), owner_is_root=True))
    wrong = {name: found for name, found in filtered.items() if found != attempts()[name][1]}
    assert wrong == {}
    if os.geteuid() == 0:  # nobody else gets so far that the kernel looks at the arguments
        free = answers(b"")
        alike = {name for name, found in free.items() if found == filtered[name]}
        assert all(filtered[name] == errno.ENOSYS for name in alike), alike
        assert len(alike) < 12, "what the kernel itself has no more"
