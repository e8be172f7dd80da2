"""How signals reach the command: inherited dispositions, whole process groups, too early."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import identity
import observer
import pytest
import struck
from identity import BIN, Person
from sources import OURS, Module


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def ignore(*numbers: int) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_int_and_term_interrupt_even_when_inherited_as_ignored(
    me: Person, number: int, code: int
) -> None:
    """As in `sandbox-agent run &` of a script, whose background jobs have INT ignored."""
    options = {"preexec_fn": lambda: ignore(signal.SIGINT, signal.SIGTERM)}
    with struck.task_at_work(me, **options) as run:
        after = run.strike(number)
    assert after.code == code, after.stderr
    assert after.left == after.lasting == []


def test_int_and_term_interrupt_even_when_inherited_as_blocked(me: Person) -> None:
    blocked = {signal.SIGINT, signal.SIGTERM}
    options = {"preexec_fn": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked)}
    with struck.task_at_work(me, **options) as run:
        after = run.strike(signal.SIGTERM)
    assert after.code == 143, after.stderr
    assert after.left == after.lasting == []


def test_an_ignored_hup_stays_ignored(me: Person) -> None:
    """As under nohup: the INT that follows decides, so the HUP was none."""
    with struck.task_at_work(me, preexec_fn=lambda: ignore(signal.SIGHUP)) as run:
        after = run.strike(signal.SIGHUP, signal.SIGINT)
    assert after.code == 130, after.stderr
    assert after.left == after.lasting == []


def test_a_terminals_ctrl_c_strikes_the_whole_group_and_changes_nothing(me: Person) -> None:
    with struck.task_at_work(me, start_new_session=True) as run:
        everyone = observer.descendants(run.agent.pid)
        with observer.watching(everyone) as handles:
            os.killpg(run.agent.pid, signal.SIGINT)
            _, err = run.agent.communicate(timeout=30)
            assert observer.wait_gone(handles, 10)[1] == []
    assert run.agent.returncode == 130, err
    assert run.result()["status"] == "interrupted"
    assert observer.marked(run.marks[0]) == []


def test_what_ends_the_group_and_so_the_parent_leaves_the_tools_their_grace(me: Person) -> None:
    """As a CI system does: the shell that started us dies of the same signal."""
    tidy = (
        "trap 'sleep 0.3; echo saved > saved; exit 3' INT; echo > up; while :; do sleep 0.01; done"
    )
    task = struck.write_task(
        me, [{"calls": [{"shell": {"command": tidy}}]}, {"final": "never"}], interrupt={"grace": 20}
    )
    up = me.work / "up"
    os.mkfifo(up)
    me.own(up)
    line = f"{BIN / 'sandbox-agent'} run {task}; echo after"
    with me.start(["sh", "-c", line], start_new_session=True, env={"CI": "true"}) as shell:
        with open(up) as opened:
            assert opened.readline() == "\n"
        everyone = observer.descendants(shell.pid)
        with observer.watching(everyone) as handles:
            os.killpg(shell.pid, signal.SIGTERM)
            assert shell.wait(10) == -signal.SIGTERM
            assert observer.wait_gone(handles, 30)[1] == []
    assert (me.work / "saved").read_text() == "saved\n"
    (folder,) = (me.folder / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], [call["rung"] for call in result["calls"]]) == (
        "interrupted",
        ["flag"],
    )


@pytest.mark.parametrize("moment", [0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
def test_a_signal_at_any_moment_of_the_start_leaves_nothing(me: Person, moment: float) -> None:
    """Seconds after the exec. They pick an instant; nothing is synchronised by them."""
    mark = observer.new_mark()
    turns = [{"calls": [{"shell": {"command": f"sleep 300.{mark}"}}]}, {"final": "never"}]
    task = struck.write_task(me, turns)
    with me.start([str(BIN / "sandbox-agent"), "run", str(task)]) as agent:
        with contextlib.suppress(subprocess.TimeoutExpired):
            agent.wait(moment)
        with observer.watching(observer.descendants(agent.pid)) as handles:
            agent.terminate()
            out, err = agent.communicate(timeout=30)
            assert observer.wait_gone(handles, 10)[1] == []
    # Before Python has come to our first line, SIGTERM does what it does to any program.
    assert agent.returncode in (143, -signal.SIGTERM), err
    assert out == ""
    assert "Traceback" not in err
    assert observer.marked(mark) == []
    runs = me.folder / "runs"
    for folder in runs.iterdir() if runs.is_dir() else []:
        if (folder / "result.json").exists():
            result = json.loads((folder / "result.json").read_text())
            assert (result["status"], result["exit_code"]) == ("interrupted", 143)


@pytest.mark.as_user
@pytest.mark.parametrize(
    "hangs", ["an import", "the steps", "the workspace", "a prompt from standard input"]
)
def test_a_signal_ends_a_command_that_hangs_before_its_run(person: Person, hangs: str) -> None:
    """On a disk that hangs, for instance. One signal is enough, and nothing is left behind."""
    task = struck.write_task(person, [{"final": "never"}])
    event, part = {
        "an import": ("import", "sandbox_agent.cli.verbs.run"),
        "the steps": ("open", "steps.yaml"),
        "the workspace": ("os.scandir", str(person.work)),
        "a prompt from standard input": ("open", "(0, 'r"),
    }[hangs]
    more = ["--prompt", "-"] if "standard input" in hangs else []
    with hanging(person, event, part, "run", str(task), *more) as agent:
        begun = time.monotonic()
        agent.terminate()
        out, err = agent.communicate(timeout=30)
        assert (agent.returncode, out, err) == (143, "", "")
        assert time.monotonic() - begun < 5
    assert not (person.folder / "runs").exists()


def test_a_signal_ends_a_resume_that_hangs_before_it_writes(me: Person) -> None:
    task = struck.write_task(me, [{"final": "one"}])
    assert me.run([str(BIN / "sandbox-agent"), "run", str(task)]).returncode == 0
    (folder,) = (me.folder / "runs").iterdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    argv = ["resume", str(folder), "--prompt", "Go on."]
    with hanging(me, "open", "steps.yaml", *argv) as agent:
        agent.terminate()
        out, err = agent.communicate(timeout=30)
        assert (agent.returncode, out, err) == (143, "", "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.as_user
def test_a_signal_ends_the_search_for_changes_and_nothing_else(person: Person) -> None:
    """After the run the workspace hangs: the message is said, and the exit code is the run's."""
    turns = [{"calls": [{"shell": {"command": "touch over"}}]}, {"final": "All is well."}]
    task = struck.write_task(person, turns)
    unless = str(person.work / "over")
    with hanging(person, "os.scandir", str(person.work), "run", str(task), when=unless) as agent:
        begun = time.monotonic()
        agent.send_signal(signal.SIGINT)
        out, err = agent.communicate(timeout=30)
        assert time.monotonic() - begun < 5
    assert (agent.returncode, out) == (0, "All is well.\n")
    assert "SIGINT ended the search for changes in the workspace; none are listed" in err
    (folder,) = (person.folder / "runs").iterdir()
    assert json.loads((folder / "result.json").read_text())["status"] == "done"


def test_a_signal_ends_a_command_that_hangs_after_its_run(me: Person) -> None:
    """The folder of `-o` hangs. The message is said, and its loss is no success."""
    task = struck.write_task(me, [{"final": "All is well."}])
    folder = me.folder / "answers"
    folder.mkdir()
    me.own(folder)
    argv = ["run", str(task), "-o", str(folder / "answer.txt")]
    with hanging(me, "open", str(folder), *argv) as agent:
        begun = time.monotonic()
        agent.send_signal(signal.SIGINT)
        out, err = agent.communicate(timeout=30)
        assert time.monotonic() - begun < 10
    assert (agent.returncode, out) == (130, "All is well.\n")
    assert "SIGINT ended the command before all was said" in err
    assert os.listdir(folder) == []


HANGS = """
import os, sys
pipe, event, part, when = sys.argv[1:5]
def hook(name, arguments):
    if name == event and part in str(arguments) and (not when or os.path.exists(when)):
        os.write(int(pipe), b"hangs")
        os.read(os.pipe()[0], 1)
sys.addaudithook(hook)
sys.argv[1:5] = []
from sandbox_agent.cli import main
sys.exit(main())
"""
"""A command that hangs as soon as it is about to do something. Signals are blocked where it hangs,
as for a thread in uninterruptible sleep."""


@contextlib.contextmanager
def hanging(
    me: Person, event: str, part: str, *argv: str, when: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A command that hangs at the audit event `event` with `part` among its arguments, once the
    file `when` is there. It hangs already."""
    read, write = os.pipe()
    command = [str(BIN / "python"), "-c", HANGS, str(write), event, part, when, *argv]
    try:
        with me.start(command, pass_fds=[write]) as agent:
            try:
                assert select.select([read], [], [], 60)[0], "it does not hang"
                yield agent
            finally:
                agent.kill()
    finally:
        os.close(read)
        os.close(write)


def test_a_signal_stops_the_work_while_the_disk_hangs(me: Person) -> None:
    """The main thread is inside write(2), uninterruptible: the file system is frozen."""
    with frozen_disk() as (folder, freeze, thaw):
        mark = observer.new_mark()
        turns = [
            {
                "calls": [
                    {"shell": {"command": f"touch up; exec sleep 300.{mark}"}},
                    {"shell": {"command": "while [ ! -e go ]; do sleep 0.05; done"}},
                ]
            },
            {"final": "never"},
        ]
        task = struck.write_task(me, turns)
        argv = [str(BIN / "sandbox-agent"), "run", str(task), "--out", str(folder / "runs")]
        with me.start(argv) as agent:
            try:
                observer.eventually((me.work / "up").exists, 60)
                freeze()
                (me.work / "go").touch()
                stat = Path(f"/proc/{agent.pid}/stat")
                observer.eventually(lambda: stat.read_text().rpartition(") ")[2][0] == "D", 30)
                agent.send_signal(signal.SIGINT)
                with observer.watching(observer.marked(mark)) as handles:
                    took, left = observer.wait_gone(handles, 30)
                assert left == []
                assert took < struck.GRACE + struck.TERM + 5  # a busy machine
                assert agent.poll() is None  # the record waits for the disk
                thaw()
                assert agent.wait(30) == 130
            finally:
                thaw()
                agent.kill()
        (run,) = (folder / "runs").iterdir()
        assert json.loads((run / "result.json").read_text())["status"] == "interrupted"


@contextlib.contextmanager
def frozen_disk() -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    """An ext4 file system of its own, and what freezes and thaws it. fsfreeze(8)"""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for tool in ("fsfreeze", "mkfs.ext4"):
        if shutil.which(tool) is None:
            pytest.skip("needs fsfreeze and mkfs.ext4")
    with tempfile.TemporaryDirectory() as name:
        image, folder = Path(name, "image"), Path(name, "disk")
        folder.mkdir()
        with open(image, "wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        mounted = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True)
        if mounted.returncode:
            pytest.skip("needs a loop device")

        def freeze() -> None:
            subprocess.run(["fsfreeze", "-f", folder], check=True)

        def thaw() -> None:
            subprocess.run(["fsfreeze", "-u", folder], capture_output=True)

        try:
            yield folder, freeze, thaw
        finally:
            thaw()
            subprocess.run(["umount", "-l", folder], check=True)


def test_every_thread_blocks_the_signals_and_no_child_does(person: Person) -> None:
    """But for a call's init, which waits for two signals as our thread does, and for the worker of
    a shell command, which shields itself from the command."""
    with struck.task_at_work(person) as run:
        handled = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP}
        ours = list(Path(f"/proc/{run.agent.pid}/task").iterdir())
        assert len(ours) > 3
        # sigtimedwait(2) unblocks what it waits for.
        waiting = [one for one in ours if not signals_of(one / "status", "SigBlk") >= handled]
        assert len(waiting) <= 1
        seen = set()
        for process in observer.descendants(run.agent.pid):
            status = Path(f"/proc/{process.pid}/status")
            name = status.read_text().split()[1]
            if name in ("sandbox-spawner", "sandbox-init", "sleep"):
                seen.add(name)
                assert signals_of(status, "SigBlk") == set(), process
                assert signal.SIGCHLD not in signals_of(status, "SigIgn"), process
        assert seen == {"sandbox-spawner", "sandbox-init", "sleep"}
        run.strike(signal.SIGTERM)


STARTS = re.compile(
    r"subprocess\.\w+|os\.(fork|forkpty|posix_spawnp?|exec\w+|spawn\w+|system|popen)"
)


def starts_programs(module: Module) -> bool:
    calls = (node.func for node in module.nodes() if isinstance(node, ast.Call))
    return any(STARTS.fullmatch(ast.unparse(function)) for function in calls)


def test_whoever_starts_a_program_outside_the_walls_is_known() -> None:
    """A program inherits what the thread that starts it blocks. Each of these looks after that: the
    spawner and the checks of `doctor` reset everything themselves, git starts with nothing
    blocked, and the command starts itself anew, for UTF-8, before it blocks anything."""
    outside = {name: one for name, one in OURS.items() if ".inside" not in name}
    assert {name for name, one in outside.items() if starts_programs(one)} == {
        "sandbox_agent.command",
        "sandbox_agent.cli.verbs.init",
        "sandbox_agent_sandbox.diagnosis.attempts",
        "sandbox_agent_sandbox.host.launch",
        "sandbox_agent_sandbox.host.spawner.early",
        "sandbox_agent_sandbox.policy.probe",
    }


def signals_of(status: Path, name: str) -> set[int]:
    """A set of signals in /proc/PID/status. proc(5)"""
    for line in status.read_text().splitlines():
        if line.startswith(name + ":"):
            bits = int(line.split()[1], 16)
            # Not 32 and 33, which glibc keeps for itself.
            return {number for number in signal.valid_signals() if bits >> (number - 1) & 1}
    raise AssertionError(f"no {name} in {status}")


def become_subreaper() -> None:
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def is_sleep(process: observer.Process) -> bool:
    return process.command.startswith("sleep ")


INHERITED: dict[str, Callable[[], object]] = {
    "SIGCHLD ignored": lambda: ignore(signal.SIGCHLD),
    "all ignored": lambda: ignore(*(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})),
    "all blocked": lambda: signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals()),
    "no room for queued signals": lambda: resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0)),
    "a subreaper": become_subreaper,
    "nice": lambda: os.nice(5),
    "no standard descriptors": lambda: os.closerange(0, 3),
}


@pytest.mark.as_user
@pytest.mark.parametrize("what", INHERITED)
def test_what_a_parent_leaves_to_the_command_changes_nothing(person: Person, what: str) -> None:
    """The command's status, its signals inside, and an interrupt are as ever."""
    text = "grep -e SigBlk -e SigIgn /proc/self/status > seen; exit 5"
    argv = [str(BIN / "sandbox-agent"), "exec", "--out", "runs", "--", "sh", "-c", text]
    done = person.run(argv, preexec_fn=INHERITED[what])
    assert done.returncode == 5, done.stderr
    seen = person.work / "seen"
    assert signals_of(seen, "SigBlk") == signals_of(seen, "SigIgn") == set()
    mark = observer.new_mark()
    argv[-3:] = ["sleep", f"300.{mark}"]
    with person.start(argv, preexec_fn=INHERITED[what]) as agent:
        observer.eventually(lambda: any(map(is_sleep, observer.marked(mark))), 60)
        agent.send_signal(signal.SIGINT)
        assert agent.wait(30) == 130
    assert observer.marked(mark) == []
