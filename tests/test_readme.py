"""What the READMEs show works as it stands there: every command, every file, every output.

A block whose first line is `# NAME` is a file. A `console` block is a session: its commands run
in order, in a folder with the files of its README, and the output that it shows is compared.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import pty
import re
import select
import shlex
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import markdown
import observer
import pytest
import sandbox_agent
from identity import CHECKOUT, Person, someone
from markdown import Block, Command
from sandbox_agent.cli.argument_parser import UsageError
from sandbox_agent.cli.parser import parse
from sandbox_agent.config.task_file import load_task

README = CHECKOUT / "README.md"
READMES = [
    README,
    *(CHECKOUT / name / "README.md" for name in ("runtime", "sandbox", "ipc", "tests")),
]
EXCEPTIONS = {
    "scripts/demo": "tests/cli/test_demo.py runs it; .ci/run does in a fresh clone",
    "scripts/test": "would run itself; .ci/run runs it in a fresh clone",
    "wheel=$(scripts/wheel)": "installs from the network; .ci/run runs this block",
    'cd "$(mktemp -d)"': "as the line above",
    "python3 -m venv env": "as the line above",
    'env/bin/pip install "$wheel"': "as the line above",
    "env/bin/sandbox-agent init demo": "as the line above; tests/cli/test_demo.py runs it too",
    "env/bin/sandbox-agent run demo/task.yaml": "as the line above",
    "export OPENAI_API_KEY=...": "a real key",
    'sandbox-agent run --model openai/gpt-4o --prompt "Make pytest pass." --workspace .': (
        "a real provider, which costs money; tests/cli/test_provider.py runs it with a stand-in"
    ),
}
"""Commands that this file does not run, with the reason, and with what runs them instead."""

PARTS = {
    "In a notebook and in a web server": (
        "tests/runtime/embedding/test_notebook.py and test_web_server.py run its Python"
    ),
}
"""Sections whose Python is a part of a program, and the tests that run it."""

VARYING = (
    (re.compile(r"\d{8}T\d{9}-[0-9a-f]{6}"), "RUN"),
    (re.compile(r"\b\d+(\.\d+)? ms\b"), "N ms"),
    (re.compile(r"\b(pid|process) \d+"), r"\1 PID"),
    (re.compile(r"\bin \d+\.\d\ds\b"), "in N s"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "TIME"),
    (re.compile(r"\b\d+\.\d\d s\b"), "N s"),
    (re.compile(r"(?<=  )\d+s(?=  )"), "Ns"),
    (re.compile(r"\b\d+\.\d kB\b"), "N kB"),
)
AT_WORK = "sleep "
"""A command is at work when a process below it is called so."""
LIMIT = 60


def every_block() -> Iterator[Block]:
    for path in READMES:
        yield from markdown.blocks(path)


def sessions() -> list[pytest.ParameterSet]:
    """(README, section) of every section that has console blocks. They show nothing that
    depends on the user."""
    found = {(block.file, block.section) for block in every_block() if block.language == "console"}
    return [
        pytest.param(file, section, id=f"{file.parent.name}-{section}")
        for file, section in sorted(found)
    ]


@pytest.fixture
def reader() -> Iterator[Person]:
    """Who follows a README."""
    yield from someone("user")


class Session:
    """A person's terminal, in a folder with the files of a README."""

    def __init__(self, person: Person, readme: Path) -> None:
        self.person = person
        self._code = 0
        self._background: list[subprocess.Popen[str]] = []
        for block in markdown.blocks(readme):
            if block.name is not None:
                person.write(person.work / block.name, block.text)

    def run(self, command: Command, *, compare: bool) -> None:
        """Runs a command as typed. compare: with the output that the README shows."""
        if command.text.endswith("&"):
            self._start(command.text.removesuffix("&"))
            return
        if any(line.startswith("^C") for line in command.output):
            self._code, output = self._until_ctrl_c(command)
        else:
            # $? is that of the command before.
            line = f"(exit {self._code}); {command.text}"
            done = self.person.run(["sh", "-c", line], timeout=LIMIT)
            self._code, output = done.returncode, done.stderr + done.stdout
        if compare:
            expected, actual = self._same("\n".join(command.output)), self._same(output)
            diff = difflib.unified_diff(expected, actual, "README", "actual", lineterm="")
            assert expected == actual, "\n".join([f"$ {command.text}", *diff])

    def _same(self, text: str) -> list[str]:
        """Lines, without what differs from run to run and from machine to machine."""
        text = text.replace(str(self.person.work), "/home/you/project")
        text = text.replace(str(self.person.home), "/home/you")
        for pattern, replacement in VARYING:
            text = pattern.sub(replacement, text)
        return text.splitlines()

    def _start(self, line: str) -> None:
        process = self.person.start(["sh", "-c", f"exec {line}"])
        self._background.append(process)
        self._wait_until_at_work(process.pid)

    def _until_ctrl_c(self, command: Command) -> tuple[int, str]:
        """Types Ctrl-C on a real terminal, when the command has printed what the README shows above
        it, and the command's tools are at work."""
        above = next(n for n, line in enumerate(command.output) if line.startswith("^C"))
        master, slave = pty.openpty()
        try:
            process = self.person.start(
                ["sh", "-c", f"exec {command.text}"],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
            os.close(slave)
            try:
                output = _read(master, lines=above)
                self._wait_until_at_work(process.pid)
                with observer.watching(observer.descendants(process.pid)) as handles:
                    os.write(master, b"\x03")
                    output += _read(master)
                    code = process.wait(LIMIT)
                    assert observer.wait_gone(handles, LIMIT)[1] == []
            finally:
                process.kill()
        finally:
            os.close(master)
        return code, output.replace("\r\n", "\n")

    def _wait_until_at_work(self, pid: int) -> None:
        def at_work() -> bool:
            return any(one.command.startswith(AT_WORK) for one in observer.descendants(pid))

        assert observer.eventually(at_work, LIMIT)

    def close(self) -> None:
        """What was started in the background has ended by now."""
        for process in self._background:
            try:
                process.communicate(timeout=LIMIT)
            finally:
                process.kill()


def _read(master: int, lines: int | None = None) -> str:
    """What comes on a terminal: so many lines, or all until nobody has it any more."""
    data, deadline = b"", time.monotonic() + LIMIT
    while lines is None or data.count(b"\n") < lines:
        left = max(0, deadline - time.monotonic())
        assert select.select([master], [], [], left)[0], f"nothing more came: {data.decode()}"
        try:
            data += os.read(master, 65536)
        except OSError:  # EIO: the last process that had the terminal is gone
            break
    return data.decode()


@pytest.mark.parametrize(("readme", "section"), sessions())
def test_the_session_prints_what_the_readme_shows(
    readme: Path, section: str, reader: Person
) -> None:
    session = Session(reader, readme)
    try:
        for block in markdown.blocks(readme):
            if block.language != "console" or block.section != section:
                continue
            steps = markdown.commands(block)
            shown = any(step.output for step in steps)
            for step in steps:
                if step.text not in EXCEPTIONS:
                    session.run(step, compare=shown)
    finally:
        session.close()


def test_every_block_is_run_or_read_by_a_test() -> None:
    """A block of a kind that no test looks at would be free to say anything."""
    strange = [
        block.place
        for block in every_block()
        if block.language not in ("console", "sh", "yaml", "python", "")
        or (block.language == "python" and block.name is None and block.section not in PARTS)
        or (block.language == "" and re.search(r"^(\$|scripts/|sandbox-agent )", block.text, re.M))
    ]
    assert not strange


def test_every_file_is_used_by_a_command() -> None:
    for readme in READMES:
        named = [block for block in markdown.blocks(readme) if block.name is not None]
        names = [block.name for block in named]
        assert len(set(names)) == len(names), f"{readme}: two blocks are one file"
        used = "\n".join(
            [b.text for b in markdown.blocks(readme) if b.language == "console"]
            + [block.text.partition("\n")[2] for block in named]
        )
        assert not [name for name in names if name and name not in used]


def test_commands_of_shell_blocks_are_run_somewhere() -> None:
    """`sh` blocks are for a checkout. Each line has its place among the exceptions."""
    lines = {
        command.text
        for block in every_block()
        if block.language == "sh"
        for command in markdown.commands(block)
    }
    assert lines <= EXCEPTIONS.keys()


def test_the_exceptions_are_needed_and_name_what_is_there() -> None:
    shown = {command.text for block in every_block() for command in _commands(block)}
    assert EXCEPTIONS.keys() <= shown
    for reason in EXCEPTIONS.values():
        for path in re.findall(r"\S+\.py\b|\.ci/run", reason):
            assert (CHECKOUT / path).exists(), reason


def _commands(block: Block) -> list[Command]:
    return markdown.commands(block) if block.language in ("sh", "console") else []


def test_parts_of_task_files_are_valid(tmp_path: Path) -> None:
    """A YAML block without a name is a part of a task file."""
    parts = [b for b in every_block() if b.language == "yaml" and b.name is None]
    for block in parts:
        text = "" if "\nmodel:" in f"\n{block.text}" else "model: scripted:steps.yaml\n"
        (tmp_path / "task.yaml").write_text(f"version: 1\nprompt: x\n{text}{block.text}")
        (tmp_path / "steps.yaml").write_text("- final: x\n")
        load_task(tmp_path / "task.yaml")


def inline(pattern: str) -> list[tuple[Path, re.Match[str]]]:
    """Code in running text that matches as a whole."""
    found = [(path, re.fullmatch(pattern, code)) for path in READMES for code in _code(path)]
    return [(path, match) for path, match in found if match is not None]


def _code(path: Path) -> list[str]:
    return markdown.inline_code(path)


def test_commands_in_running_text_are_known() -> None:
    found = inline(r"sandbox-agent ((?:[a-z]|--).*)")
    assert found
    for path, match in found:
        words = shlex.split(match[1])
        try:
            parse(words if len(words) > 1 else [*words, "--help"])
        except UsageError as error:
            assert error.code == 0, f"{path}: `{match[0]}`: {error.text}"


def test_scripts_in_running_text_are_there_and_have_these_options() -> None:
    found = inline(r"(scripts/\w+|\.ci/run)((?: .*)?)")
    assert found
    for path, match in found:
        script = CHECKOUT / match[1]
        assert script.stat().st_mode & 0o111, f"{path}: {match[0]}"
        for option in re.findall(r"--[a-z-]+", match[2]):
            assert option in script.read_text(), f"{path}: {match[0]}"


def test_paths_in_running_text_and_links_are_there() -> None:
    for path in READMES:
        for target in markdown.links(path):
            assert (path.parent / target).exists(), f"{path}: {target}"
    for path, match in inline(r"((?:runtime|sandbox|ipc|tests)/[\w./-]+)(?:::\w+)?"):
        assert (CHECKOUT / match[1]).exists(), f"{path}: {match[0]}"


def test_names_of_the_library_in_running_text_are_there() -> None:
    for path, match in inline(r"[cC]onversation\.(?!py\b)(\w+).*"):
        assert hasattr(sandbox_agent.Conversation, match[1]), f"{path}: {match[0]}"


def test_users_import_only_the_one_package() -> None:
    text = "\n".join(block.text for block in every_block() if block.language == "python")
    named = set(re.findall(r"^(?:from|import) (sandbox_agent\S*)", text, re.M))
    assert named == {"sandbox_agent", "sandbox_agent.testing"}


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 1000


def test_the_two_commands_are_the_first_block_and_are_there() -> None:
    block = next(b for b in markdown.blocks(README) if b.language == "sh")
    assert [command.text for command in markdown.commands(block)] == [
        "scripts/demo",
        "scripts/test",
    ]


def test_nobody_is_told_to_install_somebody_elses_program() -> None:
    """`sandbox-agent` on PyPI and npm is another project; ours is sandbox-agent-runtime."""
    foreign = re.compile(r"""install\b.*[\s'"]sandbox-agent(?![\w-])""")
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    names = done.stdout.splitlines() or [
        str(path.relative_to(CHECKOUT)) for path in CHECKOUT.rglob("*.*")
    ]
    told = [
        f"{name}: {line}"
        for name in names
        if (CHECKOUT / name).is_file()
        for line in (CHECKOUT / name).read_text(errors="replace").splitlines()
        if foreign.search(line)
    ]
    assert not told
