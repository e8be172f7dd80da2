"""Commands: what they print and return, and what the flag and SIGTERM do to them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import observer
import pytest
from sandbox_agent_ipc.token import CallToken
from sandbox_agent_sandbox.inside.tools.shell import _run, _spawn, exec_argv, shell
from worker_child import Ended, WorkerChild


def run(function: Callable[[CallToken], object]) -> tuple[Ended, str]:
    with WorkerChild(function) as child:
        return child.ended(), child.output.decode()


def run_shell(command: str, stdin: str | None = None) -> tuple[Ended, str]:
    return run(lambda token: shell(command, stdin=stdin, token=token))


def status(ended: Ended) -> int:
    assert not ended.raised, ended.message
    assert ended.value["content"] == ""
    assert ended.value["is_error"] == (ended.value["exit_status"] != 0)
    return int(ended.value["exit_status"])


def test_a_command_prints_to_the_workers_own_descriptors_and_returns_its_status() -> None:
    ended, output = run_shell("echo out; echo err >&2; exit 3")
    assert status(ended) == 3
    assert sorted(output.split()) == ["err", "out"]
    assert status(run_shell("true")[0]) == 0


def test_a_command_that_a_signal_ends_says_which() -> None:
    assert status(run_shell("kill -KILL $$")[0]) == -signal.SIGKILL


def test_stdin_is_the_given_text_and_empty_otherwise() -> None:
    text = "é\n" * 200_000  # more than a pipe holds: so no process may be writing it
    ended, output = run_shell("wc -c", stdin=text)
    assert (status(ended), output.strip()) == (0, str(len(text.encode())))
    ended, output = run_shell("cat; echo end")
    assert (status(ended), output) == (0, "end\n")


def test_the_call_returns_while_the_background_still_holds_the_output_open() -> None:
    ended, output = run_shell("sleep 1000 & echo done")
    assert (status(ended), output) == (0, "done\n")


def test_a_command_gets_its_own_process_group_default_signals_and_an_empty_mask() -> None:
    def function(token: CallToken) -> object:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        return shell(
            "grep -E '^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f5 /proc/$$/stat; echo $$",
            token=token,
        )

    ended, output = run(function)
    assert status(ended) == 0
    group, leader = output.split()[-2:]
    assert group == leader
    masks = dict(line.split(":\t") for line in output.splitlines() if line.startswith("Sig"))
    assert int(masks["SigBlk"], 16) == 0
    # 32 and 33 belong to the C library, which never resets them.
    assert int(masks["SigIgn"], 16) & 0x7FFFFFFF == 0


def test_a_closed_pipe_ends_a_command_in_silence() -> None:
    ended, output = run_shell("yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert (status(ended), output) == (0, "y\n141\n")


def test_no_descriptor_of_the_worker_reaches_a_command() -> None:
    def function(token: CallToken) -> object:
        for fd in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):  # the listing's own
                if fd > 2 and os.get_inheritable(fd):  # the tests inherited it
                    os.close(fd)
        return shell("ls /proc/self/fd", token=token)

    assert run(function)[1].split() == ["0", "1", "2", "3"]  # 3: the listing itself


def test_at_the_flag_the_process_group_gets_sigint_and_the_command_may_tidy_up() -> None:
    command = "trap 'echo tidy; exit 5' INT; echo ready; sleep 1000; echo not this"
    with WorkerChild(lambda token: shell(command, token=token)) as child:
        child.until(b"ready")
        child.until_running("sleep")
        child.cancel()
        ended = child.ended()
    assert status(ended) == 5
    assert child.output == b"ready\ntidy\n"


def test_a_wake_up_for_nothing_changes_nothing_and_the_flag_is_still_seen() -> None:
    command = "trap 'echo tidy; exit 5' INT; echo ready; sleep 1000; echo not this"
    with WorkerChild(lambda token: shell(command, token=token)) as child:
        child.until(b"ready")
        child.until_running("sleep")
        child.wake_for_nothing()
        child.cancel()
        assert status(child.ended()) == 5
    assert child.output == b"ready\ntidy\n"


def test_a_flag_that_is_up_already_is_seen() -> None:
    with WorkerChild(lambda token: token.wait() and shell("sleep 1000", token=token)) as child:
        child.cancel()
        assert status(child.ended()) == -signal.SIGINT


_DESCRIPTORS_TAKEN = "prlimit --pid $PPID --nofile=0:0 && echo ready"
"""A worker's limit may be taken down by each process of its user. prlimit(2)"""


@pytest.mark.parametrize("when", ["before the worker waits", "while it waits"])
def test_without_descriptors_the_flag_and_the_end_are_seen(when: str) -> None:
    script = f"trap 'echo tidy; exit 5' INT; {_DESCRIPTORS_TAKEN}; sleep 1000; echo not this"

    def function(token: CallToken) -> object:
        if when == "while it waits":
            return shell(script, token=token)

        def start() -> int:
            pid = _spawn([b"bash", b"-c", script.encode()], {})
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
            return pid

        return _run(start, token)

    with WorkerChild(function) as child:
        child.until(b"ready")
        child.until_running("sleep")
        child.cancel()
        assert status(child.ended()) == 5
    assert child.output == b"ready\ntidy\n"


@pytest.mark.parametrize("begin", ["echo ready", _DESCRIPTORS_TAKEN])
def test_the_group_gets_sigint_once_also_after_sigterm(begin: str) -> None:
    """A second SIGINT could end a command that is tidying up."""
    script = (
        "trap 'echo int' INT; trap 'echo term; tidied=1' TERM; "
        # SIGTERM may come between a look at `tidied` and `wait`, which then waits for no signal.
        f"{begin}; until [ $tidied ]; do sleep 0.1 & wait; done; sleep 0.2; echo end"
    )
    with WorkerChild(lambda token: shell(script, token=token)) as child:
        child.until(b"ready")
        child.until_running("sleep")
        child.cancel()
        child.until(b"int")
        child.terminate()
        [bash] = [one for one in observer.descendants(child.pid) if one.parent == child.pid]
        os.kill(bash.pid, signal.SIGTERM)  # as the call's init does
        assert child.ended().raised == "CommandCancelled"
    assert child.output == b"ready\nint\nterm\nend\n"


def test_without_descriptors_sigterm_is_waited_out_too() -> None:
    script = (
        f"trap '' INT; trap 'echo tidy; exit 6' TERM; {_DESCRIPTORS_TAKEN}; "
        "while :; do sleep 1000 & wait; done"
    )
    with WorkerChild(lambda token: shell(script, token=token)) as child:
        child.until(b"ready")
        child.until_running("sleep")
        child.cancel()
        child.terminate()
        for process in observer.descendants(child.pid):
            if process.command.startswith("bash"):
                os.kill(process.pid, signal.SIGTERM)  # as the call's init does
        assert child.ended().raised == "CommandCancelled"
    assert child.output == b"ready\ntidy\n"


def test_a_command_that_ignores_sigint_is_still_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = f"trap '' INT; echo ready; read line < {fifo}; echo $line"
    with WorkerChild(lambda token: shell(command, token=token)) as child:
        child.until(b"ready")
        child.cancel()
        fifo.write_text("went on\n")
        assert status(child.ended()) == 0
    assert child.output == b"ready\nwent on\n"


def test_a_hung_up_wake_pipe_neither_cancels_nor_spins() -> None:
    def function(token: CallToken) -> object:
        before = os.times()
        result = shell("echo ready; sleep 0.5", token=token)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.2
        return result

    with WorkerChild(function) as child:
        child.until(b"ready")
        child.hang_up()
        assert status(child.ended()) == 0


def test_at_sigterm_the_commands_own_end_is_waited_for_and_then_cancelled_goes_on(
    tmp_path: Path,
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = f"""
        trap '' INT
        trap 'echo tidying; read line < {fifo}; echo $line; exit 0' TERM
        echo $$ ready
        while :; do sleep 1000 & wait; done
    """
    with WorkerChild(lambda token: shell(command, token=token)) as child:
        shell_pid = int(child.until(b"ready").split()[0])
        child.cancel()
        child.terminate()
        os.kill(shell_pid, signal.SIGTERM)  # as the call's init does, to every process
        child.until(b"tidying")
        fifo.write_text("tidied up\n")
        assert child.ended().raised == "CommandCancelled"
        assert child.output.endswith(b"tidied up\n")


def test_a_command_longer_than_an_argument_may_be_runs_all_the_same() -> None:
    for size in (131_071, 131_072, 3_000_000):
        command = f": {'x' * (size - 30)}\necho $0 end; exit 4"
        ended, output = run_shell(command, stdin="unused")
        assert (status(ended), output) == (4, "bash end\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "command is empty"),
        (" \n\t", "command is empty"),
        ("echo a\0b", "NUL byte at offset 6"),
        ("echo \ud800", "not valid Unicode at offset 5"),
    ],
)
def test_a_command_that_cannot_be_is_an_error_that_says_why(command: str, message: str) -> None:
    ended, _ = run_shell(command)
    assert ended.raised == "ToolError"
    assert message in ended.message


def test_a_working_folder_that_vanished_is_an_error_that_says_so(tmp_path: Path) -> None:
    def function(token: CallToken) -> object:
        gone = tmp_path / "gone"
        gone.mkdir()
        os.chdir(gone)
        gone.rmdir()
        return shell("pwd", token=token)

    ended, _ = run(function)
    assert ended.raised == "ToolError"
    assert "working folder does not exist" in ended.message


def test_without_bash_sh_runs_and_without_either_the_path_is_named(tmp_path: Path) -> None:
    def function(token: CallToken) -> object:
        os.environ["PATH"] = str(tmp_path)
        return shell("echo $0", token=token)

    ended, _ = run(function)
    assert ended.raised == "ToolError"
    assert str(tmp_path) in ended.message
    (tmp_path / "sh").symlink_to("/bin/sh")
    ended, output = run(function)
    assert (status(ended), output) == (0, "sh\n")


def test_exec_passes_arguments_untouched_and_has_the_statuses_of_sh(tmp_path: Path) -> None:
    ended, output = run(lambda token: exec_argv(["printf", "%s|", "a b", "$HOME", ""], token=token))
    assert (status(ended), output) == (0, "a b|$HOME||")
    ended, output = run(lambda token: exec_argv(["no-such-program"], token=token))
    assert (status(ended), output) == (127, "no-such-program: No such file or directory\n")
    plain = tmp_path / "plain"
    plain.write_text("text")
    ended, output = run(lambda token: exec_argv([str(plain)], token=token))
    assert (status(ended), output) == (126, f"{plain}: Permission denied\n")
    assert status(run(lambda token: exec_argv(["sh", "-c", "exit 9"], token=token))[0]) == 9


@pytest.mark.parametrize("argv", [[], [""], ["echo", "a\0b"]])
def test_an_argv_that_cannot_be_is_refused(argv: list[str]) -> None:
    assert run(lambda token: exec_argv(argv, token=token))[0].raised == "ToolError"
