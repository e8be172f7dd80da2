"""The tools' /tmp and home folder: on the disk, of a limited size, and gone in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import observer
import pytest
from identity import BIN, Person
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command, run

AGENT = str(BIN / "sandbox-agent")
MIB = 2**20
FILL = "n=0; while :; do n=$((n + 1)); head -c 2000000 /dev/zero > {}/$n || exit 9; done"
"""Fills a folder until it is stopped, or nothing goes in any more."""


def base_of(person: Person) -> Path:
    return person.home / ".local/state/sandbox-agent-tmp"


def left(person: Person) -> list[str]:
    """What sandboxes have left on the disk. An image has no name, but its loop device shows it."""
    base = base_of(person)
    found = [path.name for path in base.iterdir() if path.is_dir()] if base.exists() else []
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if str(base) in device.read_text():
                found.append(device.parts[3])
        except OSError:  # it went away meanwhile
            continue
    return found


def assert_gone(person: Person) -> None:
    base = base_of(person)
    assert not base.exists() or [path.name for path in base.iterdir() if path.is_dir()] == []
    # Some kernels free a loop device a moment after its last user.
    observer.eventually(lambda: left(person) == [], 5)


def execute(
    person: Person, text: str, limits: dict[str, object] | None = None
) -> subprocess.CompletedProcess[str]:
    policy = person.write(person.folder / "policy.yaml", json.dumps({"limits": limits or {}}))
    return person.run([AGENT, "exec", "--policy", str(policy), "--", "sh", "-c", text])


def test_they_are_on_the_disk_and_gone_afterwards(person: Person) -> None:
    text = """
    stat -f -c %T /tmp ~ /var/tmp; head -c 300000000 /dev/zero > ~/big && stat -c %s ~/big
    mkdir -p /tmp/a/b; chmod 0 /tmp/a; ln -s / ~/root; printf '#!/bin/sh\\necho runs' > ~/x
    chmod +x ~/x; ~/x; touch /var/tmp/same; ls /tmp/same
    """
    done = execute(person, text)
    assert done.returncode == 0, done.stderr
    assert "tmpfs" not in done.stdout
    assert "watched only" not in done.stderr
    assert done.stdout.split()[-3:] == ["300000000", "runs", "/tmp/same"]
    assert_gone(person)


def test_the_size_of_tmp_binds_or_is_watched(person: Person) -> None:
    small = {"tmp": 20 * MIB}
    assert execute(person, "head -c 20000000 /dev/zero > /tmp/fits", small).returncode == 0
    done = execute(person, FILL.format("/tmp"), small)
    assert done.returncode not in (0, 124), done.stderr
    assert "\nsandbox-agent: limit: /tmp" in f"\n{done.stderr}" and "limits.tmp" in done.stderr
    if person.uid == 0:  # a file system that is full is no reason to stop anybody
        assert (done.returncode, "No space left" in done.stderr) == (9, True)
    assert_gone(person)


def test_what_tools_add_to_the_disk_is_watched(person: Person) -> None:
    small = {"disk": 32 * MIB}
    person.write(person.work / "mine", "x" * 1000)
    assert execute(person, "head -c 20000000 /dev/zero > fits", small).returncode == 0
    done = execute(person, FILL.format("."), small)
    assert done.returncode not in (0, 9, 124), done.stderr
    assert "limits.disk" in done.stderr
    assert (person.work / "mine").stat().st_size == 1000


def test_a_file_without_a_name_is_seen_too(person: Person) -> None:
    text = "exec 5> gone; rm gone; while :; do head -c 2000000 /dev/zero >&5 || exit 9; done"
    done = execute(person, text, {"disk": 32 * MIB})
    assert "limits.disk" in done.stderr


def test_what_a_killed_agent_left_is_gone_at_the_next_start(person: Person) -> None:
    text = "mkdir -p /tmp/left/deep; chmod 0 /tmp/left; echo ready; exec sleep 600"
    with person.start([AGENT, "exec", "--", "sh", "-c", text]) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "ready\n"
        assert len(left(person)) == 1
        inside = observer.descendants(agent.pid)
        agent.send_signal(signal.SIGKILL)
        with observer.watching(inside) as handles:
            _, alive = observer.wait_gone(handles, 10)
        assert alive == []
    if person.uid != 0:
        assert len(left(person)) == 1
    assert execute(person, "ls -d /tmp/left").returncode == 2
    observer.eventually(lambda: left(person) == [], 10)


def test_without_a_loop_device_it_is_watched_and_this_is_said(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    text = "touch /tmp/x && stat -c %u /tmp/x"
    hide = f"mount --bind /dev/null /dev/loop-control && exec {AGENT} exec -- sh -c '{text}'"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", hide],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1000\n"), done.stderr
    assert "watched only" in done.stderr
    assert not (tmp_path / "sandbox-agent-tmp").exists()


def test_each_verify_has_a_new_one_and_the_old_ones_go(tmp_path: Path) -> None:
    workspace = tmp_path / "work"
    workspace.mkdir()
    plan = make_plan(Policy(), host_facts(), workspace=workspace)

    async def main() -> None:
        cell = Cell(plan, grace=0.1, term=0.1)
        await cell.open()
        try:
            await cell.call(command(workspace, "echo x > /tmp/of-a-call; echo x > ~/of-a-call"))
            for _ in range(3):
                look = command(
                    workspace, "ls -A /tmp ~; mkdir /tmp/shut; chmod 0 /tmp/shut", fresh_view=True
                )
                seen = await cell.call(look)
                assert "of-a-call" not in seen.output
                assert "shut" not in seen.output
            area = cell._supervisor._sandbox.disk._area
            assert area is not None
            there = os.open("shared", os.O_RDONLY, dir_fd=area.folder)
            assert {"home", "of-a-call"} <= set(os.listdir(there))
            os.close(there)
            observer.eventually(
                lambda: sorted(os.listdir(area.folder)) == ["fresh-3", "shared"], 30
            )
        finally:
            assert cell.close() == ()

    run(main)
