"""Help is quick because it imports next to nothing, and wrong usage is one short message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

LOOK = """
import json, sys
from sandbox_agent.cli import main
code = main(sys.argv[1:])
json.dump([code, sorted(sys.modules)], sys.stderr)
"""


def look(*argv: str) -> tuple[int, set[str]]:
    done = subprocess.run([sys.executable, "-c", LOOK, *argv], capture_output=True, text=True)
    code, modules = json.loads(done.stderr)
    return code, set(modules)


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["exec", "--help"]])
def test_help_imports_nothing_but_argparse_and_its_like(argv: list[str]) -> None:
    code, modules = look(*argv)
    assert code == 0
    heavy = {"asyncio", "pydantic", "psutil", "yaml", "rich", "msgspec", "litellm", "subprocess"}
    heavy |= {"dataclasses", "inspect"}  # 4 ms
    assert not heavy & modules
    ours = {name for name in modules if name.startswith("sandbox_agent")}
    assert ours == {
        "sandbox_agent",
        "sandbox_agent_ipc",
        "sandbox_agent_ipc.shortage",
        "sandbox_agent_sandbox",
        "sandbox_agent_sandbox.capture",
        "sandbox_agent.cli",
        "sandbox_agent.cli.console",
        "sandbox_agent.cli.find_arguments",
        "sandbox_agent.reports",
        "sandbox_agent.reports.escape",
        "sandbox_agent.cli.argument_parser",
        "sandbox_agent.cli.parser",
        "sandbox_agent.cli.signals",
        "sandbox_agent.cli.stream",
        "sandbox_agent.cli.verb_arguments",
        "sandbox_agent.exit_codes",
    }


def agent(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox_agent", *argv], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "verb",
    [
        *("run", "resume", "cancel", "exec", "validate", "schema", "init", "doctor"),
        *("ls", "show", "logs", "compare", "rm", "prune"),
    ],
)
def test_every_verb_has_help(verb: str) -> None:
    done = agent(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: sandbox-agent {verb}")


@pytest.mark.parametrize(
    ("argv", "code"),
    [([], 2), (["fly"], 2), (["run", "--fly"], 2), (["exec", "--fly", "--", "true"], 125)],
)
def test_wrong_usage_is_reported_with_the_hint(argv: list[str], code: int) -> None:
    done = agent(*argv)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("usage: sandbox-agent")
    assert done.stderr.rstrip().endswith("--help")


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["schema"], ["doctor"]])
def test_what_could_not_be_printed_is_an_error(argv: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sandbox_agent", *argv],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    message = "sandbox-agent: standard output could not be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (74, message)


def test_a_reader_that_has_closed_ends_a_listing_as_sigpipe_would() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sandbox_agent", "schema"],
            stdout=write_end,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_slow_reader_is_waited_for_until_a_signal_comes() -> None:
    read_end, write_end = os.pipe()
    try:
        os.set_blocking(write_end, False)
        with open(write_end, "wb", buffering=0, closefd=False) as pipe:
            filled = sum(iter(lambda: pipe.write(b"x" * 4096) or 0, 0))
        os.set_blocking(write_end, True)
        command = [sys.executable, "-m", "sandbox_agent", "schema"]
        with subprocess.Popen(command, stdout=write_end) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(3)
            waiting.terminate()
            assert waiting.wait(20) == 128 + signal.SIGTERM
        with subprocess.Popen(command, stdout=write_end) as waiting:
            os.close(write_end)
            with open(read_end, "rb", closefd=False) as reader:
                assert len(reader.read()) > filled + 1000
            assert waiting.wait(20) == 0
    finally:
        os.close(read_end)


def test_closed_standard_descriptors_do_no_harm() -> None:
    """A closed descriptor is an error only for what is written to it."""
    script = 'exec "$0" -m sandbox_agent "$@" <&- >&-'
    done = subprocess.run(["sh", "-c", f"{script} 2>&-", sys.executable, "fly"], timeout=20)
    assert done.returncode == 2
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, "schema"], stderr=subprocess.PIPE, timeout=20
    )
    assert (done.returncode, done.stderr) == (
        74,
        b"sandbox-agent: standard output could not be written: Bad file descriptor\n",
    )
