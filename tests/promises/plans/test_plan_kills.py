"""The table of kills and the daemonisers, where no full plan can be had: the tests of
tests/promises/kills, run as a whole in a host that refuses it."""

from __future__ import annotations

import sys

import environments
import pytest
import skips
from identity import Person
from paths import CHECKOUT

PERSONS = environments.persons(everywhere=skips.is_soak())

WITHOUT_INIT = ("test_worker", "test_agent", "test_daemonisers")
"""Without namespaces there is no init. tests/sandbox/inside/unshared has the deaths of those who
are in its place."""
FILES = {
    "shared_proc": (*WITHOUT_INIT, "test_handshake", "test_outside"),
    "no_namespaces": WITHOUT_INIT,
}
LIMIT = 1500
"""Seconds. The whole table takes two minutes on two processors with nothing else to do."""
SAMPLE = "SIGKILL or SIGSTOP or natural"
"""What CI has time for."""
TRACED = "handshake"
"""These cases trace a spawner, which shuts itself: for root without CAP_SYS_PTRACE a refused act.
ptrace(2)"""
NOT_TRACED = ("docker-filter", "masked-proc")
"""Environments whose root has no CAP_SYS_PTRACE, as in Docker's containers."""


@pytest.mark.timeout(LIMIT)
def test_the_table_of_kills_holds(person: Person) -> None:
    assert person.place is not None
    files = FILES[person.place.plan(root=person.uid == 0)]
    argv = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"]
    argv += [f"tests/promises/kills/{name}.py" for name in files]
    chosen = "" if skips.is_soak() else f"({SAMPLE})"
    if person.uid == 0 and person.place.name in NOT_TRACED:
        chosen = f"{chosen} and not {TRACED}" if chosen else f"not {TRACED}"
    argv += ["-k", chosen] if chosen else []
    ran = person.run(argv, cwd=CHECKOUT, timeout=LIMIT - 30)
    assert ran.returncode == 0, ran.stdout[-10_000:]
