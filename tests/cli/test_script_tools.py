"""Functions of the program that is run, as tools: they work, or are refused before any request."""

from __future__ import annotations

import json
import sys
import zipapp
from pathlib import Path

import pytest
from identity import BIN, Person

PERSONS = ["user"]  # what it shows does not depend on who runs the command

PYTHON = str(BIN / "python")

ADD = '''
def add(a: int, b: int) -> int:
    """Add."""
    return a + b
'''

MAIN = """
from sandbox_agent import Conversation, load_script

def main(*tools):
    with Conversation(
        model=load_script("{folder}/steps.yaml"),
        tools=list(tools),
        workspace="{folder}/work",
        output_dir="{folder}/runs",
    ) as conversation:
        conversation.send_message("go")
        result = conversation.run()
        print(result.status, result.reason)
        raise SystemExit(result.exit_code)
"""

STEPS = '- calls: [{add: {a: 1, b: 2}}]\n  expect: ["^3$"]\n- final: done\n'


def program(person: Person, body: str) -> str:
    person.write(person.folder / "steps.yaml", STEPS)
    return MAIN.replace("{folder}", str(person.folder)) + body


def turns(person: Person) -> int:
    journals = (person.folder / "runs").glob("2*/journal.jsonl")
    events = [json.loads(line) for path in journals for line in path.read_text().splitlines()]
    return sum(event["event"] == "model_turn" for event in events)


def test_a_script_in_the_home_folder_itself(person: Person) -> None:
    """Tools never see the home folder, so they see the script alone."""
    body = f"{ADD}\nif __name__ == '__main__':\n    main(add)\n"
    script = person.write(person.home / "agent.py", program(person, body))
    (person.home / "secret").write_text("secret")
    done = person.run([PYTHON, str(script)])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done the agent is done\n"


def test_a_module_in_the_home_folder_itself_is_refused_with_the_reason(person: Person) -> None:
    person.write(person.home / "mine.py", ADD)
    body = "\nif __name__ == '__main__':\n    import mine\n    main(mine.add)\n"
    script = person.write(person.home / "agent.py", program(person, body))
    done = person.run([PYTHON, str(script)])
    assert done.returncode == 1
    assert f"hint: tools do not see {person.home}, which is or holds your home" in done.stderr
    assert turns(person) == 0


def test_a_module_of_a_package_that_is_run_by_its_name(person: Person) -> None:
    """Its relative imports work: workers import it under its own name."""
    package = person.folder / "code" / "agents"
    package.mkdir(parents=True)
    person.own(package, package.parent)
    person.write(package / "__init__.py", "")
    person.write(package / "three.py", "THREE = 3\n")
    body = (
        "\nfrom .three import THREE\n"
        + ADD.replace("a + b", "THREE * a * b // 2")
        + "\nif __name__ == '__main__':\n    main(add)\n"
    )
    person.write(package / "adding.py", program(person, body))
    done = person.run([PYTHON, "-m", "agents.adding"], cwd=package.parent)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_a_program_without_a_file_is_refused(person: Person, how: str) -> None:
    text = program(person, f"{ADD}\nmain(add)\n")
    script = person.write(person.folder / "text", text)
    given = ["-c", text] if how == "-c" else ["-"]
    with script.open() as file:
        done = person.run([PYTHON, *given], stdin=file)
    assert done.returncode == 1
    assert "cannot be a tool: it was not read from a file" in done.stderr
    assert turns(person) == 0


def test_a_zip_file_that_is_run(person: Person) -> None:
    """A function of a module in it works; one of its main program has no file."""
    source = person.folder / "source"
    source.mkdir()
    (source / "mine.py").write_text(ADD)
    (source / "__main__.py").write_text(program(person, "\nimport mine\nmain(mine.add)\n"))
    archive = person.folder / "agent.pyz"
    zipapp.create_archive(source, archive)
    person.own(archive)
    done = person.run([PYTHON, str(archive)])
    assert done.returncode == 0, done.stderr


METHODS = """
class Base:
    def add(self, a: int, b: int) -> int:
        "Add."
        return a + b

    @classmethod
    def made(cls, a: int, b: int) -> int:
        "Add."
        return a + b

    @staticmethod
    def plain(a: int, b: int) -> int:
        "Add."
        return a + b

class Store(Base):
    pass

store = Store()
"""


@pytest.mark.parametrize(
    ("name", "works"),
    [
        ("mine:Store.add", False),  # inherited
        ("mine:Base.add", False),
        ("builtins:str.upper", False),
        ("builtins:int.__add__", False),
        ("mine:Store.made", True),
        ("mine:Store.plain", True),
        ("mine:store.add", True),  # the object is in the module, so a worker has it too
    ],
)
def test_no_model_is_asked_for_self(person: Person, name: str, works: bool) -> None:
    person.write(person.work / "mine.py", METHODS)
    tool = name.rpartition(".")[2]
    steps = STEPS.replace("add:", f"{tool}:")
    text = program(person, f"\nif __name__ == '__main__':\n    main({name!r})\n")
    person.write(person.folder / "steps.yaml", steps)
    script = person.write(person.folder / "agent.py", text)
    done = person.run([PYTHON, str(script)])
    if works:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert "and needs an object of that class" in done.stderr
    assert turns(person) == 0


def test_a_frozen_program_is_started_once_and_refused(person: Person) -> None:
    """As PyInstaller makes them: whatever its arguments, it runs its main program."""
    starts = person.folder / "starts"
    body = f"""
import sys
with open("{starts}", "a") as file:
    file.write("x")
assert open("{starts}").read() == "x", "started again"
sys.frozen, sys.executable = True, "{person.folder}/app"
main("shell")
"""
    main = person.write(person.folder / "main.py", program(person, body))
    app = person.write(person.folder / "app", f'#!/bin/sh\nexec "{PYTHON}" "{main}" "$@"\n')
    app.chmod(0o755)
    done = person.run([str(app)])
    assert done.returncode == 5, done.stderr
    assert "this program is frozen" in done.stdout
    assert starts.read_text() == "x"
    assert turns(person) == 0


def test_a_program_whose_interpreter_is_not_python_by_name(person: Person) -> None:
    """As where uwsgi embeds it: the installed one starts the sandbox."""
    assert Path(sys.base_prefix).is_dir()
    body = (
        f"{ADD}\nif __name__ == '__main__':\n    import sys\n"
        "    sys.executable = '/usr/bin/env'\n    main(add)\n"
    )
    script = person.write(person.folder / "agent.py", program(person, body))
    done = person.run([PYTHON, str(script)])
    assert done.returncode == 0, done.stderr
