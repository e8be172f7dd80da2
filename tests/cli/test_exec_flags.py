"""The flags of `exec` that have bwrap's names, with the real command."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import identity
import pytest
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def test_binds_give_what_they_say_and_win_over_the_policy(me: Person) -> None:
    names = ("data", "notes", "work/tests")
    for name in names:
        (me.folder / name).mkdir()
        me.own(me.folder / name)
        me.write(me.folder / name / "file", name)
    data, notes, tests = (str(me.folder / name) for name in names)
    me.write(me.folder / "p.yaml", "write: [data]\nprotect: [work/tests]\n")
    touch = f"for d in {data} {notes} {tests} .; do touch $d/new 2>/dev/null; echo $?; done"
    policy = ["--policy", str(me.folder / "p.yaml")]

    def made(*flags: str) -> list[str]:
        done = me.run([AGENT, "exec", *policy, *flags, "--", "sh", "-c", touch])
        assert done.returncode == 0, done.stderr
        for name in names:
            (me.folder / name / "new").unlink(missing_ok=True)
        return done.stdout.split()

    assert made() == ["0", "1", "1", "0"]
    binds = ["--ro-bind", data, data, "--bind", notes, notes, "--bind", "tests", "tests"]
    assert made(*binds) == ["1", "0", "0", "0"]
    assert made("--ro-bind", ".", ".") == ["0", "1", "1", "1"]


def test_variables_folder_and_values_with_a_dash(me: Person) -> None:
    (me.work / "src").mkdir()
    me.own(me.work / "src")
    flags = ["--setenv", "OPTIONS", "-Xmx1g", "--setenv", "LANG", "C", "--chdir", "src"]
    done = me.run([AGENT, "exec", *flags, "--", "sh", "-c", "pwd; echo $OPTIONS $LANG; touch made"])
    assert done.stdout == f"{me.work}/src\n-Xmx1g C\n", done.stderr
    assert (me.work / "src" / "made").exists()
    done = me.run([AGENT, "exec", "--chdir", "/tmp", "--", "pwd"])
    assert done.stdout == "/tmp\n"
    done = me.run([AGENT, "exec", "--chdir", "/root/not", "--", "true"])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "sandbox-agent: cannot enter '/root/not': No such file or directory; /root/not is not shown"
        " inside\n  hint: name it in sandbox.read, or in sandbox.write if tools may change it\n"
    )


def test_the_hosts_network_is_shared_where_asked_for(me: Person) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
        for flags, connected in ([], False), (["--share-net"], True):
            done = me.run([AGENT, "exec", *flags, "--", "bash", "-c", f"exec 3<>{address}"])
            assert (done.returncode == 0) == connected, done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bind", "/usr", "/opt"], "--bind: SRC /usr and DEST /opt differ"),
        (["--ro-bind", "/usr", "/usr/lib"], "--ro-bind: SRC /usr and DEST /usr/lib differ"),
        (["--bind", "/not/there", "/not/there"], "--bind: /not/there does not exist"),
        (["--setenv", "A=B", "c"], "--setenv: 'A=B' cannot be the name"),
    ],
)
def test_what_cannot_be_bound_or_set_is_2(me: Person, flags: list[str], message: str) -> None:
    done = me.run([AGENT, "exec", *flags, "--", "touch", "made"])
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr and "  hint: " in done.stderr
    assert not (me.work / "made").exists()


@pytest.mark.parametrize("flags", [["--bind", "/usr"], ["--setenv", "A"], ["--bind=/usr", "/usr"]])
def test_a_flag_without_its_two_values_is_a_usage_error(me: Person, flags: list[str]) -> None:
    done = me.run([AGENT, "exec", *flags, "--", "true"])
    assert (done.returncode, done.stdout) == (125, "")
    assert "  hint: " in done.stderr


def test_the_root_folder_cannot_be_bound(me: Person) -> None:
    done = me.run([AGENT, "exec", "--ro-bind", "/", "/", "--", "true"])
    assert done.returncode == 125
    assert "read: / cannot be shared" in done.stderr


def test_a_denied_command_says_why_once(me: Person) -> None:
    outside, runs = "/var/log", me.folder / "runs"
    done = me.run([AGENT, "exec", "--out", str(runs), "--", "cat", outside])
    assert done.returncode == 1
    assert done.stderr.count("hint:") == 1
    assert f"sandbox-agent: {outside} is not shown inside\n  hint: name it in sandbox.read" in (
        done.stderr
    )
    (folder,) = runs.iterdir()
    lines = (folder / "journal.jsonl").read_text().splitlines()
    (ended,) = (event for event in map(json.loads, lines) if event["event"] == "ended")
    assert "is not shown inside" in ended["detail"]
    done = me.run([AGENT, "exec", "--", "cat", "not-there"])
    assert "hint:" not in done.stderr
