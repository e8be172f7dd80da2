"""Real programs that need no registry, inside the walls with the default policy.

`scripts/real` also shows that they work outside here, and has the programs that need more.
"""

from __future__ import annotations

import os

import pytest
from identity import someone

from real.programs import Program, Verdict, inside, load

BOTH = ["root", "user"]
CASES = [
    pytest.param(program, kind, id=f"{program.name}, {kind}")
    for program in load()
    for kind in BOTH
    if program.ci in ("both", kind)
]


@pytest.mark.parametrize(("program", "kind"), CASES)
def test_it_works_inside_the_walls(program: Program, kind: str) -> None:
    if program.missing:
        pytest.skip(f"needs {', '.join(program.missing)}")
    if kind == "root" and os.geteuid() != 0:
        pytest.skip("needs root")
    for person in someone(kind):
        seen = inside(person, program)
    assert seen.verdict is (Verdict.REFUSED if program.refused else Verdict.WORKS), seen.why


def test_a_program_that_fails_inside_is_seen() -> None:
    fails = Program("asks for what is not there", "ls /home/no-such-folder", says="^$")
    says_nothing = Program("does not say what it should", "echo other", says="^words$")
    not_refused = Program("is not refused", "echo words", says="^words$", refused=True)
    for person in someone("user"):
        for program in (fails, says_nothing, not_refused):
            assert inside(person, program).verdict is Verdict.BROKEN
