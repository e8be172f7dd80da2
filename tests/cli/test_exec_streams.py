"""What `exec` passes through, and to where."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from identity import BIN, Person
from observer import eventually

# Pipes are the same for every user.
PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")


@contextmanager
def started(person: Person, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command that is ended by force where the test fails: it may wait for a reader for ever."""
    with person.start(argv) as command:
        try:
            yield command
        finally:
            command.kill()


def test_the_commands_standard_error_is_no_part_of_its_output(person: Person) -> None:
    ran = person.run([AGENT, "exec", "--", "sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (ran.stdout, ran.stderr, ran.returncode) == ("out\n", "err\n", 3)


def test_a_reader_that_leaves_ends_the_writer_as_in_any_pipeline(person: Person) -> None:
    """`exec -- yes | head -1` ends, and the command's shell sees SIGPIPE's status."""
    text = f"{AGENT} exec -- sh -c 'yes; echo status $? >&2' | head -1"
    ran = person.run(["sh", "-c", text])
    assert (ran.stdout, ran.stderr) == ("y\n", "status 141\n")


def test_a_reader_that_does_not_read_slows_the_command_and_holds_no_interrupt(
    person: Person, tmp_path: Path
) -> None:
    command = person.start([AGENT, "exec", "--", "sh", "-c", "echo begun >&2; yes"], bufsize=0)
    with command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stderr.read(6) == "begun\n"
        command.terminate()
        assert command.wait(30) == 143
        command.stdout.close()


def test_large_output_arrives_whole(person: Person) -> None:
    ran = person.run([AGENT, "exec", "--", "head", "-c", "20000000", "/dev/zero"])
    assert len(ran.stdout) == 20_000_000


def test_a_slow_reader_gets_everything(person: Person) -> None:
    """It begins to read when the command has long ended."""
    script = "seq 1 20000; touch written"
    with started(person, [AGENT, "exec", "--", "sh", "-c", script]) as command:
        eventually((person.work / "written").exists, 30)
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(3)
        out, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (0, "")
    assert out.splitlines() == [str(number) for number in range(1, 20001)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait_for_a_reader_and_the_loss_is_said(
    person: Person, number: signal.Signals
) -> None:
    with started(
        person, [AGENT, "exec", "--", "sh", "-c", "seq 1 20000; touch written"]
    ) as command:
        eventually((person.work / "written").exists, 30)
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(1)
        command.send_signal(number)
        assert command.wait(30) == 128 + number
        assert command.stderr is not None
        said = command.stderr.read()
    assert re.fullmatch(
        r"sandbox-agent: \d+ bytes of standard output were lost: its reader does not read\n", said
    )


def test_the_time_limit_ends_the_wait_for_a_reader(person: Person) -> None:
    options = ["--timeout", "2s", "--grace", "100ms"]
    with started(person, [AGENT, "exec", *options, "--", "yes"]) as command:
        assert command.wait(30) == 124
        assert command.stderr is not None
        said = command.stderr.read()
    assert "the time limit of the command was reached" in said
    assert "bytes of standard output were lost" in said


ONE_BY_ONE = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done"
IN_ORDER = "".join(f"out {number}\nerr {number}\n" for number in range(1, 10))


@pytest.mark.parametrize("where", ["2>&1 | cat", ">both 2>&1; cat both", ">both 2>>both; cat both"])
def test_both_streams_keep_their_order_in_one_file(person: Person, where: str) -> None:
    done = person.run(["sh", "-c", f"{AGENT} exec -- sh -c '{ONE_BY_ONE}' {where}"])
    assert (done.stdout, done.stderr) == (IN_ORDER, "")


@pytest.mark.parametrize("redirection", ["2>&1", "2>/dev/tty"])
def test_both_streams_keep_their_order_on_one_terminal(person: Person, redirection: str) -> None:
    command = f"{AGENT} exec -- sh -c '{ONE_BY_ONE}' {redirection}"
    done = person.run(["script", "-qec", command, "/dev/null"])
    assert done.stdout.replace("\r", "") == IN_ORDER


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("echo hi", 125),
        ("echo hi; exit 3", 125),
        ("yes", 125),
        ("echo hi >&2", 0),
        ("true", 0),
    ],
)
def test_output_that_cannot_be_written_is_125(person: Person, command: str, code: int) -> None:
    with open("/dev/full", "wb") as full:
        done = person.run([AGENT, "exec", "--", "sh", "-c", command], stdout=full)
    assert done.returncode == code
    message = "sandbox-agent: standard output could not be written: No space left on device\n"
    assert done.stderr == (message if code else "hi\n" if "2" in command else "")


def test_errors_of_the_command_that_cannot_be_written_are_125(person: Person) -> None:
    with open("/dev/full", "wb") as full:
        done = person.run([AGENT, "exec", "--", "sh", "-c", "echo out; echo hi >&2"], stderr=full)
    assert (done.returncode, done.stdout) == (125, "out\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [("yes", 141), ("seq 1 20000", 141), ("seq 1 20000; exit 3", 3), ("echo 1", 0)],
)
def test_a_reader_that_closes_early(person: Person, command: str, code: int) -> None:
    text = f"{AGENT} exec -- sh -c '{command}' | head -1; echo ${{PIPESTATUS[0]}}"
    done = person.run(["bash", "-c", text])
    assert done.stdout.splitlines()[1:] == [str(code)]
    assert done.stderr == ""


def test_a_command_that_ends_in_time_is_not_hurried_by_its_time_limit(person: Person) -> None:
    """Its reader is slower than the time limit, and still gets everything: 1 MiB from the queue,
    and the rest from the pipes."""
    script = "head -c 1100000 /dev/zero; touch written"
    with started(person, [AGENT, "exec", "--timeout", "4s", "--", "sh", "-c", script]) as command:
        assert command.stdout is not None
        eventually((person.work / "written").exists, 30)
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(5)
        assert len(command.stdout.read()) == 1_100_000
        assert command.wait(30) == 0


def test_a_slow_reader_keeps_the_memory_flat(person: Person) -> None:
    """Half a gigabyte waits for a reader that begins after a while."""
    text = f"{AGENT} exec -- head -c 500000000 /dev/zero"
    measure = (
        "import resource, subprocess, sys\n"
        "with subprocess.Popen(sys.argv[1].split(), stdout=subprocess.PIPE) as command:\n"
        "    command.stdout.read(1)\n"
        "    try: command.wait(1)\n"
        "    except subprocess.TimeoutExpired: pass\n"
        "    count = 1\n"
        "    while data := command.stdout.read1(1 << 20): count += len(data)\n"
        "print(command.returncode, count)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = person.run([sys.executable, "-c", measure, text], timeout=100)
    told, peak = done.stdout.splitlines()
    assert told == "0 500000000", done.stderr
    assert int(peak) < 100_000, "KiB"


def test_the_last_bytes_arrive_on_a_terminal_too(person: Person) -> None:
    command = f"{AGENT} exec -- printf 'end\\303\\033[1;3'"
    done = person.run(["script", "-qec", command, "/dev/null"])
    assert done.stdout == "end\\xc3\\x1b[1;3"


@pytest.mark.parametrize(
    "command, closed, code",
    [
        ("echo out", "1", 125),
        ("echo out >&2", "2", 125),
        ("echo out", "2", 0),
        ("echo out >&2; exit 3", "2", 125),
    ],
)
def test_output_for_a_closed_descriptor_is_lost_and_no_success(
    person: Person, command: str, closed: str, code: int
) -> None:
    done = person.run(["bash", "-c", f"{AGENT} exec -- sh -c '{command}' {closed}>&-"])
    assert done.returncode == code, done
