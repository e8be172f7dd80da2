"""Refuse, never weaken: a host without namespaces runs no tool, and the message says the hint."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import struck
from identity import BIN, CHECKOUT, Person

AGENT = str(BIN / "sandbox-agent")
REFUSE = [str(BIN / "python"), "-I", str(CHECKOUT / "tests" / "support" / "refuse.py")]


def test_the_refusing_host_does_refuse(person: Person) -> None:
    """The control: without this, the tests below would prove nothing."""
    done = person.run([*REFUSE, "unshare", "--user", "true"])
    assert done.returncode != 0
    assert "unshare failed" in done.stderr
    assert person.run([*REFUSE, "true"]).returncode == 0


def test_run_ends_5_and_no_tool_has_run(person: Person) -> None:
    marker = person.work / "marker"
    steps = [{"calls": [{"shell": {"command": f"touch {marker}"}}]}, {"final": "never"}]
    task = struck.write_task(person, steps)
    done = person.run([*REFUSE, AGENT, "run", str(task)])
    assert done.returncode == 5, done.stderr
    assert not marker.exists()
    assert done.stdout == ""
    assert "namespace" in done.stderr
    assert_says_the_mend(done.stderr)

    runs = [path for path in (person.folder / "runs").iterdir() if path.is_dir()]
    for run in runs:  # a run that was begun is recorded as ended
        result = json.loads((run / "result.json").read_text())
        assert (result["status"], result["exit_code"]) == ("error", 5)


def test_exec_ends_125_and_the_command_has_not_run(person: Person) -> None:
    marker = person.work / "marker"
    done = person.run([*REFUSE, AGENT, "exec", "--", "touch", str(marker)])
    assert done.returncode == 125, done.stderr
    assert not marker.exists()
    assert_says_the_mend(done.stderr)


def test_doctor_says_what_is_missing(person: Person) -> None:
    done = person.run([*REFUSE, AGENT, "doctor"])
    assert done.returncode == 5, done.stdout + done.stderr
    assert "namespace" in done.stdout + done.stderr


def test_a_workspace_on_overlayfs_works_or_is_named(person: Person) -> None:
    """Root's files on it cannot be shown as another user's; an ordinary user's need not be."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    disk = person.folder / "disk"
    view = person.folder / "view"
    for folder in (disk, view):
        folder.mkdir()
    script = f"""
        mount -t tmpfs disk {disk} && mkdir {disk}/l {disk}/u {disk}/w || exit 99
        mount -t overlay -o lowerdir={disk}/l,upperdir={disk}/u,workdir={disk}/w o {view} || exit 99
        mkdir {view}/ws; chown {person.uid} {view} {view}/ws; shift 0; exec "$@"
    """
    agent = [AGENT, "exec", "--workspace", f"{view}/ws", "--out", str(person.folder / "runs")]
    argv = person.command([*agent, "--", "sh", "-c", "exit 5"])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *argv],
        env=person.environment(), cwd=person.folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode == 99:
        pytest.skip("needs a kernel with overlayfs")
    if person.uid != 0:
        assert (done.returncode, done.stderr) == (5, "")
        return
    assert done.returncode == 125
    assert f"{view}/ws is on overlay, which cannot show root's files" in done.stderr
    assert "hint: run as an ordinary user, or give the folder to one (chown -R)" in done.stderr
    assert done.stderr.count("hint:") == 1


def assert_says_the_mend(text: str) -> None:
    assert "Traceback" not in text
    mends = (
        "sysctl",
        "max_user_namespaces",
        "apparmor_restrict_unprivileged_userns",
        "--privileged",
    )
    assert any(hint in text for hint in mends), text
