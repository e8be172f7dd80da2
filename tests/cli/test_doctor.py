"""`doctor`: what it prints, why a path is not there, and that it agrees with `run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from identity import BIN, CHECKOUT, Person

AGENT = str(BIN / "sandbox-agent")
REFUSE = [str(BIN / "python"), "-I", str(CHECKOUT / "tests" / "support" / "refuse.py")]


def doctor(person: Person, *words: str, before: list[str] | None = None) -> tuple[int, Any]:
    done = person.run([*(before or []), AGENT, "doctor", "--json", *words])
    assert done.stderr == "", done.stderr
    return done.returncode, json.loads(done.stdout)


_PLAIN: dict[bool, tuple[int, Any]] = {}


def plain(person: Person) -> tuple[int, Any]:
    """What `doctor` says with no words more. Its trials take two seconds of processor time, so it
    is asked once as root and once as an ordinary user."""
    kind = person.uid == 0
    if kind not in _PLAIN:
        _PLAIN[kind] = doctor(person)
    return _PLAIN[kind]


def test_it_names_a_level_for_every_field_and_layer(person: Person) -> None:
    code, found = plain(person)
    assert (code, found["works"], found["error"]) == (0, True, None)
    levels = {fact["name"]: fact["level"] for fact in (*found["fields"], *found["layers"])}
    assert {"read", "protect", "network", "env.set", "limits.memory", "system calls"} <= set(levels)
    assert set(levels.values()) <= {"enforced", "restored"}
    assert all(check["ok"] for check in found["checks"] if check["needed"])
    done = person.run([AGENT, "doctor"])
    assert done.returncode == 0
    for name, level in levels.items():
        assert any(
            line.split()[:1] == [level] and name in line for line in done.stdout.splitlines()
        )
    assert "This host can enforce every field of a policy." in done.stdout


def test_the_record_of_a_run_has_the_levels_that_doctor_names(person: Person) -> None:
    _, found = plain(person)
    runs = person.folder / "runs"
    assert person.run([AGENT, "exec", "--out", str(runs), "--", "true"]).returncode == 0
    (record,) = runs.glob("*/result.json")
    levels = json.loads(record.read_text())["plan"]["levels"]
    assert levels == {fact["name"]: fact["level"] for fact in found["fields"]}


def test_run_and_doctor_agree_where_the_host_refuses(person: Person) -> None:
    code, found = doctor(person, before=REFUSE)
    assert (code, found["works"]) == (5, False)
    assert {fact["level"] for fact in (*found["fields"], *found["layers"])} == {"missing"}
    ran = person.run([*REFUSE, AGENT, "exec", "--", "true"])
    assert ran.returncode == 125
    assert found["error"] and found["error"] in ran.stderr


def test_in_a_home_folder_doctor_is_about_the_host(tmp_path: Path) -> None:
    """A run is refused there. Where the folder is named, so is this."""
    (tmp_path / "home").mkdir()
    for home in (tmp_path, tmp_path / "home"):
        environ = {**os.environ, "HOME": str(home)}
        argv = [AGENT, "doctor", "--json"]
        found, named = (
            subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True)
            for words in (argv, [*argv, "--workspace", "."])
        )
        assert found.returncode == 0, found.stderr
        told = json.loads(found.stdout)
        assert told["works"]
        assert any("this one is refused" in note and str(home) in note for note in told["notes"])
        assert not any(fact["level"] == "missing" for fact in told["fields"])
        assert (named.returncode, json.loads(named.stdout)["works"]) == (2, False)


def test_root_without_capabilities_has_the_weakest_plan(tmp_path: Path) -> None:
    """Every check of a single step may work for it, and building a sandbox of namespaces does not.
    Nothing but a look now and then limits its processes: no RLIMIT_NPROC binds root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    work = tmp_path / "work"
    work.mkdir()
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", AGENT]
    doctored, ran = (
        subprocess.run([*powerless, *words], cwd=work, capture_output=True, text=True)
        for words in (["doctor", "--json"], ["exec", "--out", str(tmp_path / "runs"), "--", "true"])
    )
    assert (doctored.returncode, ran.returncode) == (0, 0), doctored.stderr + ran.stderr
    found = json.loads(doctored.stdout)
    assert (found["works"], found["plan"]) == (True, "no_namespaces")
    levels = {fact["name"]: fact["level"] for fact in found["fields"]}
    assert levels["limits.processes"] == "restored"
    assert "no_namespaces" in ran.stderr


def test_a_tmp_that_is_only_watched_after_all_is_named_so(tmp_path: Path) -> None:
    """The plan has a file system of a fixed size, and this host makes none when it comes to it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    fails = "mount --bind /bin/false /usr/sbin/mkfs.ext4 && exec"
    asked = (f"{AGENT} exec --out {tmp_path}/runs -- true", f"{AGENT} doctor --json")
    done = [
        subprocess.run(
            ["unshare", "-m", "sh", "-c", f"{fails} {words}"],
            cwd=BIN,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        for words in asked
    ]
    assert [one.returncode for one in done] == [0, 0], done
    assert "the tools' /tmp is watched only" in done[0].stderr
    (record,) = (tmp_path / "runs").glob("*/result.json")
    recorded = json.loads(record.read_text())["plan"]["levels"]["limits.tmp"]
    (said,) = (one for one in json.loads(done[1].stdout)["fields"] if one["name"] == "limits.tmp")
    assert (recorded, said["level"]) == ("restored", "restored")
    assert "mkfs.ext4 ended with 1" in said["why"]


@pytest.mark.as_user
def test_run_and_doctor_agree_about_a_folder(person: Person) -> None:
    code, found = doctor(person, "--workspace", "/")
    assert (code, found["works"]) == (2, False)
    assert {fact["level"] for fact in found["fields"]} <= {"enforced", "restored"}
    ran = person.run([AGENT, "exec", "--workspace", "/", "--", "true"])
    assert found["error"] and found["error"] in ran.stderr


def why(person: Person, path: str | Path, *words: str) -> Any:
    code, found = doctor(person, "--why", str(path), *words)
    assert code == 0
    return found


def test_why_a_path_is_not_there_or_denied(person: Person) -> None:
    (person.work / "tests").mkdir()
    for name in ("outside", "work/secret", "work/file", "work/tests/t", "p.yaml"):
        person.write(person.folder / name, "content")
    person.write(person.folder / "p.yaml", "hide: [work/secret]\nprotect: [work/tests]\n")
    policy = ["--policy", str(person.folder / "p.yaml")]
    expected = {
        "outside": ("own", "what is there outside is not shown", "sandbox.read", "---"),
        "work/secret": ("hidden", "is hidden", "sandbox.hide", None),
        "work/file": ("writable", "can be written", "", "rw-"),
        "work/tests/t": ("protected", "sandbox.protect names", "sandbox.protect", "r--"),
        "/etc/shadow": ("hidden", "may hold secrets", "sandbox.read", "---"),
        "nowhere": ("own", "does not exist outside either", "", "---"),
    }
    for name, (access, text, hint, ways) in expected.items():
        found = why(person, person.folder / name, *policy)
        assert found["access"] == access, (name, found)
        assert text in found["why"] and hint in found["hint"], (name, found)
        assert bool(hint) == bool(found["hint"])
        inside = found["inside"]
        if ways is not None:
            assert [inside["read"], inside["write"]] == [ways[0] == "r", ways[1] == "w"], name
    done = person.run([AGENT, "doctor", "--why", "/var/log"])
    assert done.stdout.splitlines() == [
        "/var/log is not shown inside",
        "  inside: not there",
        "  hint: name it in sandbox.read, or in sandbox.write if tools may change it",
    ]


@pytest.mark.as_user
def test_a_link_of_the_workspace_that_leads_out_is_named(person: Person) -> None:
    person.write(person.folder / "outside", "content")
    (person.work / "link").symlink_to(person.folder / "outside")
    found = why(person, person.work / "link")
    assert found["real"] == f"{person.folder}/outside"
    assert "is, or lies below, a link in" in found["why"]
    assert f"name {person.folder}/outside itself in sandbox.read" in found["hint"]


@pytest.mark.as_user
def test_a_wrong_policy_ends_with_2(person: Person) -> None:
    policy = person.write(person.folder / "p.yaml", "network: everything\n")
    done = person.run([AGENT, "doctor", "--policy", str(policy)])
    assert (done.returncode, done.stdout) == (2, "")
    assert "network" in done.stderr and "hint: " in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_doctor_that_is_ended_leaves_nothing(person: Person, signum: signal.Signals) -> None:
    """After SIGKILL, what it left is gone when `doctor` has run again."""
    place = person.folder / "tmp"
    place.mkdir()
    person.own(place)
    env = {"TMPDIR": str(place)}
    with person.start([AGENT, "doctor"], env=env) as doctor:
        deadline = time.monotonic() + 50
        while not list(place.glob("*/work/plain")) and time.monotonic() < deadline:
            time.sleep(0.01)
        doctor.send_signal(signum)
        assert doctor.wait(30) == (-signum if signum == signal.SIGKILL else 128 + signum)
    if signum == signal.SIGKILL:
        assert list(place.iterdir())
        assert person.run([AGENT, "doctor"], env=env).returncode == 0
    assert list(place.iterdir()) == []
