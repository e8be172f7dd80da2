"""The live view of real runs at a real terminal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import observer
import pytest
import struck
from identity import BIN, Person
from terminals import Terminal, at_terminal

# Terminals are the same for every user.
PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")
SLOW = "echo begun; sleep 300.{mark}"
STUBBORN = "trap '' INT TERM; echo begun; while :; do sleep 0.1; done"


def run_of(person: Person, steps: list[Any], *flags: str, **more: Any) -> list[str]:
    """The command that runs these steps."""
    shutil.rmtree(person.folder / "task", ignore_errors=True)
    return [AGENT, "run", str(struck.write_task(person, steps, **more)), *flags]


def calling(command: str) -> list[Any]:
    return [{"say": "I try.", "calls": [{"shell": {"command": command}}]}, {"final": "All\ndone."}]


def frame_is_gone(terminal: Terminal) -> bool:
    return not [line for line in terminal.lines() if line.startswith(("•", "turn 1 "))]


def test_a_run_is_watched_and_its_end_says_what_to_do_next(person: Person) -> None:
    os.mkfifo(person.work / "go")
    person.own(person.work / "go")
    command = "echo hi > made; echo first; echo second; cat go; exit 3"
    with at_terminal(person, run_of(person, calling(command))) as terminal:
        terminal.wait_for("  │ second")
        assert "• shell echo hi > made; echo first;" in terminal.text()
        assert "I try." in terminal.lines()
        assert "turn 1" in terminal.lines()[-1]
        (person.work / "go").write_text("third\n")
        assert terminal.end() == 0
        lines = terminal.lines()
        assert frame_is_gone(terminal)
    assert lines[0].startswith("run ")
    [at] = [n for n, line in enumerate(lines) if line.startswith("✗ call_1_1 shell echo hi")]
    assert "exit status 3" in lines[at]
    assert lines[at + 1 : at + 4] == ["  │ first", "  │ second", "  │ third"]
    assert [line for line in lines if line.startswith("record: ")]
    assert "  A made  3 bytes" in lines
    assert [line for line in lines if line.startswith("next: sandbox-agent show ")]
    assert lines[-2:] == ["All", "done."]


def test_an_interrupt_shows_the_ladder_and_a_second_one_skips_the_grace(person: Person) -> None:
    argv = run_of(person, calling(STUBBORN), interrupt={"grace": "60s", "term": "300ms"})
    with at_terminal(person, argv) as terminal:
        terminal.wait_for("│ begun")
        terminal.type(b"\x03")
        terminal.wait_for("s of grace left; Ctrl-C again skips it")
        begin = time.monotonic()
        terminal.type(b"\x03")
        assert terminal.end() == 130
        assert time.monotonic() - begin < 20
        assert frame_is_gone(terminal)
        assert "■ stopping the run (interrupt)" in terminal.text()
        assert [line for line in terminal.lines() if line.startswith("next: sandbox-agent resume ")]


def test_the_view_fits_into_forty_columns_and_follows_the_size(person: Person) -> None:
    mark = observer.new_mark()
    argv = run_of(person, calling(SLOW.format(mark=mark)))
    with at_terminal(person, argv, columns=80) as terminal:
        terminal.wait_for("│ begun")
        assert "sleep 300" in terminal.text()
        terminal.resize(40, 12)
        terminal.wait_for("• shell echo begun; sle")
        terminal.wait_for(lambda: all(len(line) < 40 for line in terminal.lines()[-3:]))
        terminal.type(b"\x03")
        assert terminal.end() == 130
    assert observer.marked(mark) == []


def test_ctrl_z_takes_the_view_away_and_fg_brings_it_back(person: Person) -> None:
    mark = observer.new_mark()
    # A shell with jobs, as a person has.
    argv = run_of(person, calling(SLOW.format(mark=mark)))
    with at_terminal(person, ["bash", "--norc", "-i"], env={"PS1": "shell> "}) as terminal:
        terminal.wait_for("shell>")
        terminal.type(" ".join(argv).encode() + b"\n")
        terminal.wait_for("│ begun")
        terminal.type(b"\x1a")
        terminal.wait_for("Stopped")
        terminal.wait_for(lambda: terminal.lines()[-1].startswith("shell>"))
        assert "│ begun" not in terminal.text() and "\n• " not in terminal.text()
        terminal.type(b"fg\n")
        terminal.wait_for("│ begun")
        terminal.type(b"\x03")
        terminal.wait_for("next: ")
        terminal.type(b"exit\n")
        terminal.end()
    assert observer.marked(mark) == []


def test_in_the_background_nothing_is_drawn_over_the_shell(person: Person) -> None:
    argv = run_of(person, calling("exit 1"))
    with at_terminal(person, ["bash", "--norc", "-i"], env={"PS1": "shell> "}) as terminal:
        terminal.wait_for("shell>")
        terminal.raw.clear()
        terminal.type(" ".join(argv).encode() + b" &\n")
        terminal.wait_for("next: ")
        assert "✗ call_1_1 shell exit 1" in terminal.text()
        assert b"\x1b[2K" not in terminal.raw and "• " not in terminal.text()
        terminal.type(b"exit\n")
        terminal.end()


def test_a_stopped_terminal_delays_no_interrupt(person: Person) -> None:
    """Ctrl-S, and a flood of output that the terminal would have to take."""
    mark = observer.new_mark()
    command = f"sleep 300.{mark} & while :; do echo {'x' * 70}; done"
    argv = run_of(person, calling(command), interrupt={"grace": "300ms", "term": "300ms"})
    with at_terminal(person, argv) as terminal:
        terminal.wait_for("│ xxx")
        terminal.type(b"\x13")
        with observer.watching(observer.marked(mark)) as watched:
            assert len(watched) >= 1
            begin = time.monotonic()
            os.kill(terminal.command.pid, signal.SIGINT)
            assert observer.wait_gone(watched, 20)[1] == []
            assert time.monotonic() - begin < 5
        # The end of the run waits a second for this reader, and is not said.
        assert terminal.command.wait(20) == 130
        assert time.monotonic() - begin < 10


def test_a_terminal_that_goes_away_interrupts_the_run_and_costs_no_record(person: Person) -> None:
    mark = observer.new_mark()
    argv = run_of(person, calling(SLOW.format(mark=mark)))
    with at_terminal(person, argv) as terminal:
        terminal.wait_for("│ begun")
        # Without another end of the terminal, writing gives EIO; its session gets SIGHUP.
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, terminal.fd)
        os.close(nothing)
        assert terminal.command.wait(20) == 129
    assert observer.marked(mark) == []
    [record] = (person.folder / "runs").glob("*/result.json")
    assert json.loads(record.read_text())["exit_code"] == 129


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_command_the_terminal_is_as_before(person: Person, number: int) -> None:
    mark = observer.new_mark()
    argv = run_of(person, calling(SLOW.format(mark=mark)))
    with at_terminal(person, ["bash", "--norc", "-i"], env={"PS1": "shell> "}) as terminal:
        terminal.wait_for("shell>")
        terminal.type(b"stty -g > before\n" + " ".join(argv).encode() + b"\n")
        terminal.wait_for("│ begun")
        [agent] = [p for p in children(terminal.command.pid) if "sandbox-agent" in command_of(p)]
        os.kill(agent, number)
        terminal.wait_for(lambda: terminal.lines()[-1].startswith("shell>"))
        terminal.type(b"stty -g > after; exit\n")
        terminal.end()
        # Nothing but colours, and moves of the cursor within the view: no mode was changed.
        ours = bytes(terminal.raw)
        for mode in (b"\x1b[?25l", b"\x1b[?1049h", b"\x1b[?7l", b"\x1b="):
            assert mode not in ours
    assert (person.work / "before").read_text() == (person.work / "after").read_text()


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def test_hostile_output_reaches_no_terminal(person: Person) -> None:
    command = r"printf '\033]52;c;aGk=\007\033[2J\033[6n\302\233[2J\n'; exit 1"
    with at_terminal(person, run_of(person, calling(command))) as terminal:
        assert terminal.end() == 0
        assert b"\x1b]52" not in terminal.raw and b"\x1b[2J" not in terminal.raw
        assert b"\x1b[6n" not in terminal.raw and b"\xc2\x9b" not in terminal.raw
        assert "\\x1b]52;c;aGk=\\x07\\x1b[2J" in terminal.text()


def test_eight_megabytes_of_escapes_do_not_hold_the_run_up(person: Person) -> None:
    code = "import sys; sys.stdout.write('\\x1b[31m\\x1b]0;x\\x07' * 762600)"
    with at_terminal(person, run_of(person, calling(f'python3 -c "{code}"'))) as terminal:
        assert terminal.end() == 0
        assert "✓ call_1_1 shell python3" in terminal.text()
        assert len(terminal.raw) < 200_000


@pytest.mark.parametrize(
    ("flags", "env", "coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"NO_COLOR": ""}, True),
        (["--color", "never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color=auto"], {"NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_as_wanted(
    person: Person, flags: list[str], env: dict[str, str], coloured: bool
) -> None:
    with at_terminal(person, run_of(person, calling("exit 1"), *flags), env=env) as terminal:
        assert terminal.end() == 0
        assert (b"\x1b[31m" in terminal.raw) is coloured
        assert "✗ call_1_1 shell exit 1" in terminal.text()


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"CI": "true"}])
def test_a_terminal_that_keeps_a_log_gets_plain_lines(person: Person, env: dict[str, str]) -> None:
    with at_terminal(person, run_of(person, calling("exit 1")), env=env) as terminal:
        assert terminal.end() == 0
        assert b"\x1b[2K" not in terminal.raw
        assert "  call_1_1 shell command='exit 1'" in terminal.lines()


def test_a_locale_without_utf8_gets_ascii(person: Person) -> None:
    steps = [
        {"say": "Grüße", "calls": [{"shell": {"command": "exit 1"}}]},
        {"calls": [{"shell": {"command": "touch Grüße.txt"}}]},
        {"final": "Done."},
    ]
    with at_terminal(person, run_of(person, steps), env={"LC_ALL": "C"}) as terminal:
        assert terminal.end() == 0
        assert bytes(terminal.raw).isascii()
        assert "x call_1_1 shell exit 1" in terminal.text()
        assert "Gr\\xfc\\xdfe" in terminal.text()
        assert "  A Gr\\xfc\\xdfe.txt  0 bytes" in terminal.lines()


def test_quiet_says_only_what_went_wrong(person: Person) -> None:
    argv = run_of(person, calling("exit 1"), "--quiet")
    with at_terminal(person, argv) as terminal:
        assert terminal.end() == 0
        assert terminal.lines() == ["All", "done."]
    done = person.run(argv)
    assert (done.stdout, done.stderr) == ("All\ndone.\n", "")
    done = person.run(run_of(person, calling("true"), "--quiet", verify=["echo no; exit 1"]))
    assert (done.returncode, done.stderr) == (1, "failed: verify failed: echo no; exit 1\n")


def test_verbose_shows_what_calls_print(person: Person) -> None:
    for flag in ("-v", "--verbose"):
        argv = run_of(person, calling("echo one; echo two"), flag)
        done = person.run(argv)
        assert "  call_1_1 ok\n    | one\n    | two\n" in done.stderr
        with at_terminal(person, argv) as terminal:
            assert terminal.end() == 0
            assert "  │ one\n  │ two" in terminal.text()
    done = person.run([*argv, "--quiet"])
    assert done.returncode == 2 and "not allowed with" in done.stderr


def test_secrets_are_masked_where_output_is_shown(person: Person) -> None:
    env = {"PASSED": "a-value-of-the-job", "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwxyz"}
    command = f"echo one; echo $PASSED; echo {env['OPENAI_API_KEY']} >&2; cat go; exit 1"
    argv = run_of(person, calling(command), sandbox={"env": {"pass": ["PASSED"]}})
    os.mkfifo(person.work / "go")
    person.own(person.work / "go")
    with at_terminal(person, argv, env=env) as terminal:
        terminal.wait_for("│ ***")
        (person.work / "go").write_text("")
        assert terminal.end() == 0
        shown = bytes(terminal.raw)
    (person.work / "go").unlink()
    (person.work / "go").touch()
    said = person.run(argv, env=env).stderr
    assert "    | one\n    | ***\n    | ***\n" in said
    assert env["PASSED"].encode() not in shown
    assert b"sk-abc" not in shown


def test_a_resumed_run_takes_the_same_options(person: Person) -> None:
    steps = [{"calls": [{"shell": {"command": "echo one; echo two; exit 1"}}]}] * 4 + [
        {"final": "Done."}
    ]
    assert person.run(run_of(person, steps, budgets={"turns": 1})).returncode == 3
    [folder] = (person.folder / "runs").glob("2*")
    resume = [AGENT, "resume", str(folder)]
    done = person.run([*resume, "--quiet"])
    assert (done.returncode, done.stderr) == (3, "budget: the budget of 1 turns is spent\n")
    done = person.run([*resume, "-v", "--color", "always"])
    assert "\x1b[31m  call_3_1 error, exit status 1\n    | one" in done.stderr
    with at_terminal(person, resume) as terminal:
        assert terminal.end() == 3
        assert "✗ call_4_1 shell echo one; echo two; exit 1" in terminal.text()
        assert b"\x1b[2K" in terminal.raw
    done = person.run([*resume, "--verbose", "--set", "budgets.turns=9"])
    assert (done.returncode, done.stdout) == (0, "Done.\n")


def test_without_a_terminal_colours_are_given_on_demand(person: Person) -> None:
    argv = run_of(person, calling("exit 1"))
    assert "\x1b" not in person.run(argv).stderr
    done = person.run([*argv, "--color", "always"])
    assert "\x1b[31m  call_1_1 error, exit status 1\x1b[0m\n" in done.stderr


def test_events_on_the_same_terminal_are_lines(person: Person) -> None:
    with at_terminal(person, run_of(person, calling("true"), "--json")) as terminal:
        assert terminal.end() == 0
        found = [line for line in terminal.raw.splitlines() if line.startswith(b"{")]
        assert [json.loads(line)["event"] for line in found][-1] == "segment_ended"
