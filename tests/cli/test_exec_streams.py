"""What `exec` passes through, and to where."""

from __future__ import annotations

from pathlib import Path

from identity import BIN, Person

# Pipes are the same for every user.
PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")


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
