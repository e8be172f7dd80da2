"""Help is quick because it imports next to nothing, and wrong usage is one short message."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_agent.cli.argument_parser import UsageError
from sandbox_agent.cli.parser import OTHER_NAMES, list_verbs, parse

LOOK = """
import json, sys
from sandbox_agent.cli import main
code = main(sys.argv[1:])
print("\\n", json.dumps([code, sorted(sys.modules)]), file=sys.stderr, sep="")
"""


def look(*argv: str, **more: str) -> tuple[int, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *argv],
        capture_output=True,
        text=True,
        env={**os.environ, **more},
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["exec", "--help"]])
def test_help_imports_nothing_but_argparse_and_its_like(argv: list[str]) -> None:
    code, modules = look(*argv)
    assert code == 0
    heavy = {"asyncio", "pydantic", "psutil", "yaml", "rich", "msgspec", "litellm", "subprocess"}
    heavy |= {"dataclasses", "inspect", "gettext", "locale"}  # 4 ms
    assert not heavy & modules
    ours = {name for name in modules if name.startswith("sandbox_agent")}
    assert ours == {
        "sandbox_agent",
        "sandbox_agent_ipc",
        "sandbox_agent_sandbox.put_off",
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
        "sandbox_agent.cli.templates",
        "sandbox_agent.cli.verb_arguments",
        "sandbox_agent.exit_codes",
        "sandbox_agent.first_imports",
        "sandbox_agent.lean_imports",
    }


def test_help_in_the_log_of_a_ci_job_imports_one_module_more() -> None:
    code, modules = look("run", "--help", CI="true")
    assert code == 0
    more = modules - look("run", "--help")[1]
    assert more == {"sandbox_agent.reports.ci", "sandbox_agent.reports.ci.log_commands"}


def agent(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox_agent", *argv], capture_output=True, text=True
    )


VERBS = list_verbs("").names


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples_and_exit_codes(verb: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse([verb, "--help"])
    assert raised.value.code == 0
    assert raised.value.text.startswith(f"usage: sandbox-agent {verb}")
    assert "\nexit codes:\n  0 " in raised.value.text or verb == "exec"
    assert examples(raised.value.text)


def examples(text: str) -> list[str]:
    """The commands that a help shows, each parsed."""
    _, _, below = text.partition("\nexamples:\n")
    shown = below.partition("\n\n")[0].splitlines()
    for line in shown:
        program, *words = shlex.split(line.partition(" > ")[0])
        assert program == "sandbox-agent"
        parse(words)
    return shown


def test_the_help_lists_every_verb_in_a_group_and_shows_examples() -> None:
    done = agent("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for title, group in list_verbs("").groups.items():
        listed = done.stdout.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in listed] == list(group)
    assert examples(done.stdout)
    assert "\nexit codes:\n  0 " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("columns", [60, 100])
def test_help_is_as_wide_as_the_terminal_says(columns: int) -> None:
    argv = [Path(sys.executable).with_name("sandbox-agent"), "run", "--help"]
    env = {**os.environ, "COLUMNS": str(columns)}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=True)
    longest = max(len(line) for line in done.stdout.splitlines() if line.startswith("  -"))
    assert columns - 20 < longest < columns


@pytest.mark.parametrize(("words", "same"), [(["help"], []), (["help", "run"], ["run"])])
def test_help_is_a_word_too(words: list[str], same: list[str]) -> None:
    texts = []
    for argv in (words, [*same, "--help"]):
        with pytest.raises(UsageError) as raised:
            parse(argv)
        texts.append((raised.value.code, raised.value.text))
    assert texts[0] == texts[1]


def test_without_a_verb_the_help_is_an_error() -> None:
    """So a script whose variable is empty does not succeed."""
    bare = agent()
    assert (bare.returncode, bare.stdout) == (2, "")
    assert bare.stderr == agent("--help").stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rnu"], "sandbox-agent: rnu: there is no such verb\n  hint: did you mean run?"),
        (["RESUME"], "sandbox-agent: RESUME: there is no such verb\n  hint: did you mean resume?"),
        (
            ["help", "vadilate"],
            "sandbox-agent: vadilate: there is no such verb\n  hint: did you mean validate?",
        ),
        (["remove"], "sandbox-agent: remove: there is no such verb\n  hint: did you mean rm?"),
        (["stop"], "sandbox-agent: stop: there is no such verb\n  hint: did you mean cancel?"),
        (
            ["version"],
            "sandbox-agent: version: there is no such verb\n  hint: did you mean --version?",
        ),
        (
            ["zzz"],
            "sandbox-agent: zzz: there is no such verb\n  hint: the verbs are " + ", ".join(VERBS),
        ),
        (
            ["Fix the tests.", "--model", "m"],
            "sandbox-agent: Fix the tests.: there is no such verb\n"
            "  hint: did you mean sandbox-agent run 'Fix the tests.'?",
        ),
        (
            ["/etc/passwd"],
            "sandbox-agent: /etc/passwd: there is no such verb\n"
            "  hint: did you mean sandbox-agent run /etc/passwd?",
        ),
        (
            ["--hlep"],
            "sandbox-agent: --hlep: there is no such option\n  hint: did you mean --help?",
        ),
        (
            ["--prompt", "x"],
            "sandbox-agent: --prompt: the verb is missing\n"
            "  hint: did you mean sandbox-agent run --prompt?",
        ),
        (
            ["--json", "doctor"],
            "sandbox-agent: --json: there is no such option before the verb\n"
            "  hint: options come after the verb; see sandbox-agent doctor --help",
        ),
        (
            ["run", "--promt", "x"],
            "sandbox-agent run: --promt: there is no such option\n  hint: did you mean --prompt?",
        ),
        (
            ["run", "--promt=Fix the tests."],
            "sandbox-agent run: --promt: there is no such option\n  hint: did you mean --prompt?",
        ),
        (
            ["run", "t.yaml", "-out", "runs"],
            "sandbox-agent run: -out: there is no such option\n  hint: did you mean --out?",
        ),
        (
            ["cancel", "--wiat", "5s"],
            "sandbox-agent cancel: --wiat: there is no such option\n  hint: did you mean --wait?",
        ),
        (
            ["cancel", "--json"],
            "sandbox-agent cancel: --json: there is no such option\n"
            "  hint: see sandbox-agent cancel --help",
        ),
        (
            ["cancel"],
            "sandbox-agent cancel: the following arguments are required: RUN\n"
            "  hint: see sandbox-agent cancel --help",
        ),
        (
            ["run", "fix", "the", "tests"],
            "sandbox-agent run: the: there is nothing that this word could be\n"
            "  hint: remove it, or put a text with spaces in quotes",
        ),
        (
            ["run", "--prompt", "-x"],
            "sandbox-agent run: argument --prompt: expected one argument\n"
            "  hint: write --option=VALUE where the value begins with a dash; "
            "see sandbox-agent run --help",
        ),
        (
            ["rn\x1b[2J\n  hint: rm -rf"],
            "sandbox-agent: rn\\x1b[2J hint: rm -rf: there is no such verb\n"
            "  hint: did you mean sandbox-agent run 'rn\\x1b[2J hint: rm -rf'?",
        ),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else "",
)
def test_a_mistyped_word_is_one_message_with_a_guess(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(argv)
    assert (raised.value.code, raised.value.text) == (2, f"{message}\n")


def test_the_names_of_other_programs_lead_to_verbs_and_are_none() -> None:
    others = [name for names in OTHER_NAMES.values() for name in names]
    assert set(OTHER_NAMES) <= set(VERBS)
    assert len(set(others)) == len(others) and not set(others) & set(VERBS)


def test_wrong_usage_of_exec_has_its_own_code_and_its_command_is_not_looked_at() -> None:
    done = agent("exec", "--gracee", "2s", "--", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "sandbox-agent exec: --gracee: there is no such option\n  hint: did you mean --grace?\n"
    )
    assert parse(["exec", "make", "--gracee"]).values.command == ["make", "--gracee"]
    assert parse(["exec", "--grace", "2s", "--", "-out"]).values.command == ["--", "-out"]


def test_difflib_is_imported_only_for_a_guess(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("version: 1\nprompt: x\nmodel: scripted:steps.yaml\n")
    (tmp_path / "steps.yaml").write_text("- final: Done.\n")
    for argv in (["--help"], ["run", "--help"], ["schema"], ["validate", str(tmp_path)]):
        code, modules = look(*argv)
        assert code == 0 and "difflib" not in modules
    code, modules = look("rnu")
    assert code == 2
    assert "difflib" in modules and not {"pydantic", "msgspec", "asyncio"} & modules


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
