"""Each environment refuses what it says, to root and to an ordinary user, and nothing else."""

from __future__ import annotations

import contextlib
import os

import observer
from environments import ENVIRONMENTS, Environment
from identity import Person

PERSONS = [
    f"{kind} in {one.name}"
    for one in ENVIRONMENTS.values()
    for kind in ("root", "user")
    if one.plan(root=kind == "root")
]

TRY = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def attempt(*steps):
    child = os.fork()
    if child == 0:
        for step in steps:
            if isinstance(step, int):
                failed = libc.unshare(step)
            elif callable(step):
                try:
                    failed = step()
                except OSError:
                    failed = True
            if failed:
                os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
def write_map():
    with open("/proc/self/uid_map", "w") as file:
        file.write(f"{uid} {uid} 1")
def fresh_proc():
    if os.fork():
        return os.wait()[1]
    libc.mount(b"none", b"/", None, 0x4000 | 1 << 18, None)
    os._exit(libc.mount(b"proc", b"/proc", b"proc", 0, None) != 0)
uid = os.getuid()
USER, MOUNT, PID = 0x10000000, 0x20000, 0x20000000
mapped = attempt(USER, write_map)
print(attempt(USER), mapped, mapped and attempt(USER | MOUNT | PID, fresh_proc))
"""
"""Prints whether a user namespace, its id map and a fresh /proc can be had."""

CAN = {
    "no-user-namespaces": "False False False",
    "docker-filter": "False False False",
    "no-id-maps": "True False False",
    "no-map-capabilities": "True False False",
    "masked-proc": "True True False",
    "no-sys-admin": "True True True",
    "runc": "True True False",
    "runc-docker": "False False False",
    "runc-restricted": "False False False",
    "runc-stranger": "True True False",
}


def test_an_environment_refuses_what_it_says(person: Person) -> None:
    ran = person.run(["python3", "-c", TRY])
    assert person.place is not None
    expected = CAN[person.place.name]
    if person.place.name == "runc" and person.uid == 0:
        expected = "True False False"  # uid 0 can be mapped with CAP_SETFCAP only
    assert ran.stdout.strip() == expected, ran.stderr


def test_an_environment_runs_the_command_as_its_own_process(person: Person) -> None:
    mark = observer.new_mark()
    with person.start(["sleep", f"300.{mark}"]) as process:
        try:
            [sleeps] = observer.eventually(lambda: asleep(mark), 10)
            assert sleeps.pid == person.pid_of(process)
            assert person.place is not None
            assert person.place.in_container or sleeps.pid == process.pid
        finally:
            for one in observer.marked(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, 9)


def asleep(mark: str) -> list[observer.Process]:
    return [one for one in observer.marked(mark) if one.command.startswith("sleep")]


def test_a_machine_is_named_for_what_it_cannot_make() -> None:
    broken = Environment("no such one", "nothing", "", "")
    assert broken.missing().startswith("usage:")
