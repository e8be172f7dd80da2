"""What is mounted is what the plan named, whatever has been put in its place since."""

from __future__ import annotations

import pytest
from identity import BIN, Person

OPEN = """
import asyncio, os, sys
from pathlib import Path
from sandbox_agent_sandbox.errors import SandboxError
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts

top = Path(sys.argv[1])

def another(path):
    path.rename(f"{path}-before")

def link(path):
    another(path)
    path.symlink_to(f"{path.name}-before")

def folder(path):
    another(path)
    path.mkdir()

DEEDS = {
    "nothing": lambda case: None,
    "elsewhere": lambda case: folder(case / "work/free"),
    "a link above what is read": lambda case: link(case / "data"),
    "a link above what is hidden": lambda case: link(case / "work/a"),
    "a link above the workspace": lambda case: link(case),
    "another folder for the judge": lambda case: folder(case / "work/a/tests"),
    "a link for what is hidden": lambda case: link(case / "work/secret"),
    "nothing where the judge was": lambda case: another(case / "work/a/tests"),
}

async def build(case, deed):
    for name in ("data/inner", "work/a/tests", "work/a/keys", "work/free", "work/secret"):
        (case / name).mkdir(parents=True)
    policy = Policy(
        read=[case / "data/inner"], protect=["a/tests"], hide=["a/keys", "secret"]
    )
    plan = make_plan(policy, host_facts(), workspace=case / "work")
    deed(case)
    cell = Cell(plan, grace=0.1, term=0.1)
    try:
        await cell.open()
        return "open"
    except SandboxError as error:
        return str(error)
    finally:
        cell.close()

for number, (name, deed) in enumerate(DEEDS.items()):
    print(f"{name}: {asyncio.run(build(top / str(number) / 'case', deed))}")
"""


def test_what_was_exchanged_after_planning_is_not_mounted(person: Person) -> None:
    """Neither what is shown, nor the place that something is mounted over."""
    done = person.run([str(BIN / "python"), "-c", OPEN, str(person.work)])
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert said.pop("nothing") == said.pop("elsewhere") == "open", said
    assert "is now another file or folder" in said.pop("another folder for the judge")
    assert "No such file" in (gone := said.pop("nothing where the judge was"))
    assert "run again" in gone
    for name, text in said.items():
        assert "is now a link, or lies below one; hint: " in text, name
        assert "run again, or look for it" in text, name


RACE = """
import ctypes, os, sys
os.mkdir("bin"); os.symlink(sys.argv[1], "other")
libc, exchange = ctypes.CDLL(None), 2
print("go", flush=True)
while True:
    libc.renameat2(-100, b"bin", -100, b"other", exchange)
"""
LOOK = "cat bin/key 2>/dev/null; true"


@pytest.mark.as_user
def test_no_race_for_a_folder_of_path_shows_what_a_link_leads_to(person: Person) -> None:
    """As a dev server does that an earlier call has started outside: it goes on and on."""
    secret = person.home / ".ssh"
    secret.mkdir()
    person.own(secret)
    person.write(secret / "key", "SECRET")
    racer = person.start([str(BIN / "python"), "-c", RACE, str(secret)])
    try:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "go\n"
        path = f"{person.work}/bin:{person.environment()['PATH']}"
        ends = set()
        for _ in range(4):
            argv = [str(BIN / "sandbox-agent"), "exec", "--", "sh", "-c", LOOK]
            done = person.run(argv, env={"PATH": path})
            assert "SECRET" not in done.stdout
            ends.add(done.returncode)
        assert ends <= {0, 2, 5}
    finally:
        racer.kill()
        racer.communicate()
