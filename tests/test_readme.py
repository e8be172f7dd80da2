"""The README's examples work as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

from identity import BIN, CHECKOUT, Person

README = (CHECKOUT / "README.md").read_text()


def examples() -> dict[str, str]:
    """The code blocks whose first line is `# NAME`, by that name."""
    blocks = re.findall(r"^```(?:yaml|python)\n# (\S+)\n(.*?)^```$", README, re.M | re.S)
    return dict(blocks)


def write_examples(person: Person) -> Path:
    for name, text in examples().items():
        person.write(person.work / name, text)
    return person.work


def test_the_two_commands_are_the_first_block_and_are_there() -> None:
    block = re.search(r"^```sh\n(.*?)^```$", README, re.M | re.S)
    assert block is not None
    assert block[1].splitlines() == ["scripts/demo", "scripts/test"]
    for line in block[1].splitlines():
        assert (CHECKOUT / line).stat().st_mode & 0o111


def test_the_task_runs(person: Person) -> None:
    write_examples(person)
    done = person.run([str(BIN / "sandbox-agent"), "run", "task.yaml"])
    assert (done.returncode, done.stdout) == (0, "Said.\n"), done.stderr


def test_the_library_example_runs(person: Person) -> None:
    write_examples(person)
    done = person.run(["python", "waiting.py"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done Both waited, at the same time.\n"


def test_users_import_only_the_one_package() -> None:
    text = "\n".join(examples().values())
    assert set(re.findall(r"^(?:from|import) (sandbox_agent\S*)", text, re.M)) == {"sandbox_agent"}
