"""What tools create has the umask of whoever started the command, and the view does not."""

from __future__ import annotations

import json
import stat

import pytest
import struck
from identity import BIN, Person

STEPS = [
    {
        "calls": [
            {"shell": {"command": "echo x > by_shell; mkdir folder; umask; ls -d /etc /usr /tmp"}},
            {"write_file": {"path": "by_tool", "content": "x"}},
        ],
        "expect": ["(?s)/etc.*/tmp.*/usr"],
    },
    {"final": "Done."},
]


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_files_have_the_starters_umask(person: Person, umask: int) -> None:
    task = struck.write_task(person, STEPS, tools=["shell", "files"])
    command = [str(BIN / "sandbox-agent"), "run", str(task), "-o", "message"]
    done = person.run(["sh", "-c", f'umask {umask:03o}; exec "$@"', "sh", *command])
    assert done.returncode == 0, done.stderr
    for name, mode in {
        "by_shell": 0o666,
        "folder": 0o777,
        "by_tool": 0o666,
        "message": 0o666,
    }.items():
        found = stat.S_IMODE((person.work / name).stat().st_mode)
        assert found == mode & ~umask, name
    [journal] = (person.folder / "runs").glob("*/journal.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    said = [event["content"] for event in events if event["event"] == "ended"]
    assert any(text.startswith(f"{umask:04o}\n") for text in said)
    assert not stat.S_IMODE(journal.stat().st_mode) & 0o077
    script = "umask; touch by_exec; python3 -c 'import os; os.mkdir(\"by_python\")'"
    started = f'umask {umask:03o}; exec {command[0]} exec -- sh -c "$1"'
    done = person.run(["sh", "-c", started, "sh", script])
    assert done.stdout == f"{umask:04o}\n"
    for name, mode in {"by_exec": 0o666, "by_python": 0o777}.items():
        assert stat.S_IMODE((person.work / name).stat().st_mode) == mode & ~umask, name
