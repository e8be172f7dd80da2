"""Screens of a run, as tmux shows them, at 80 and 40 columns. They are kept in `screens/`.

A screen that is not kept yet is written there, and its test fails once: look at it, and commit it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import struck
from identity import BIN, Person

PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")
SCREENS = Path(__file__).with_name("screens")
HANGS = "trap '' INT TERM; echo Ich prüfe 日本語; while :; do sleep 1; done"
STEPS = [
    {
        "say": "I run the tests first, to see what fails.",
        "calls": [{"shell": {"command": "for n in $(seq 30); do echo test $n ok; done; exit 1"}}],
    },
    {
        "say": "One test hangs. I look at it while the build runs.",
        "calls": [
            {"shell": {"command": "echo compiling; echo 40%; cat build"}},
            {"shell": {"command": HANGS}},
        ],
    },
    {"final": "Done."},
]  # fmt: skip


class Tmux:
    """A tmux server with one window, in which a command runs."""

    def __init__(self, person: Person, columns: int) -> None:
        self._person = person
        self._tmux = ["tmux", "-u", "-f", "/dev/null", "-S", str(person.folder / "tmux")]
        self._size = ["-x", str(columns), "-y", "30"]

    def run(self, *arguments: str) -> str:
        done = self._person.run([*self._tmux, *arguments])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, command: str) -> None:
        self.run("new-session", "-d", *self._size, command)

    def screen(self) -> str:
        """All that was shown, without what differs from run to run."""
        text = self.run("capture-pane", "-p", "-J", "-S", "-")
        text = text.replace(str(self._person.folder), "/home/you")
        text = re.sub(r"\d{8}T\d{9}-[0-9a-f]{6}", "RUN", text)
        text = re.sub(r" *\d+(\.\d)? s\b", " N s", text)
        text = re.sub(r"\d+ ms", "N ms", text)
        return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n") + "\n"

    def wait_for(self, what: str | Callable[[str], bool], limit: float = 60) -> str:
        """Looks often for what no event announces."""
        deadline = time.monotonic() + limit
        seen = what if callable(what) else lambda text: what in text
        while not seen(text := self.screen()):
            assert time.monotonic() < deadline, f"no {what!r} in:\n{text}"
            time.sleep(0.05)
        return text

    def resize(self, columns: int) -> None:
        """tmux breaks lines anew, and the view is drawn again in its place.

        The agent stands still meanwhile. What is on its way to the terminal at this moment was made
        for the old size: no program without the whole screen can know which rows that takes.
        """
        agent = self._agent()
        os.kill(agent, signal.SIGSTOP)
        try:
            self._wait_quiet()
            self.run("resize-window", "-x", str(columns))
            self._wait_quiet()
        finally:
            os.kill(agent, signal.SIGCONT)

        def is_redrawn(text: str) -> bool:
            [line] = [one for one in text.splitlines() if one.startswith("• shell trap")] or [""]
            return columns - 8 <= len(line) < columns

        self.wait_for(is_redrawn)

    def _agent(self) -> int:
        """The pid of the one child of the shell in the window."""
        shell = int(self.run("list-panes", "-F", "#{pane_pid}"))
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text())

    def _wait_quiet(self) -> None:
        """Until tmux shows all that was written."""
        seen: list[str] = []

        def is_quiet(text: str) -> bool:
            seen.append(text)
            return len(seen) >= 5 and len(set(seen[-5:])) == 1

        self.wait_for(is_quiet)


@contextmanager
def tmux(person: Person, columns: int) -> Iterator[Tmux]:
    server = Tmux(person, columns)
    try:
        yield server
    finally:
        person.run([*server._tmux, "kill-server"])


def is_kept(screen: str, name: str) -> None:
    path = SCREENS / f"{name}.txt"
    if not path.exists():
        path.write_text(screen)
        pytest.fail(f"{path} was not there; look at it, and commit it")
    assert screen == path.read_text()


@pytest.mark.parametrize("columns", [80, 40])
def test_the_screens_of_a_run(person: Person, columns: int) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    os.mkfifo(person.work / "build")
    person.own(person.work / "build")
    task = struck.write_task(
        person, STEPS, interrupt={"grace": "60s", "term": "300ms"}, budgets={"turns": 40}
    )
    agent = f"{shlex.quote(AGENT)} run {shlex.quote(str(task))}"
    # Ctrl-C reaches the shell too.
    command = f"trap : INT; {agent}; echo exit $?; read -r _"
    with tmux(person, columns) as terminal:
        terminal.start(command)
        terminal.wait_for("40%")
        is_kept(terminal.wait_for("│ Ich"), f"working-{columns}")
        terminal.resize(columns + 8)
        terminal.resize(columns)
        (person.work / "build").write_text("")
        terminal.wait_for("call_2_1" if columns == 80 else "✓ shell")
        terminal.run("send-keys", "C-c")
        is_kept(terminal.wait_for("skips it"), f"interrupting-{columns}")
        terminal.run("send-keys", "C-c")
        is_kept(terminal.wait_for("exit 130"), f"end-{columns}")
