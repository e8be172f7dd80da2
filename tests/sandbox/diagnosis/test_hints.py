"""The hint for a call that failed: in what real programs print, and in hostile text."""

from __future__ import annotations

import msgspec
import pytest
from a_plan import plan
from sandbox_agent_sandbox.diagnosis.hints import hint_for
from sandbox_agent_sandbox.plan import Identity, PlanKind, Unshared

WORK = "/home/you/project"


@pytest.mark.parametrize(
    ("printed", "hint"),
    [
        ("cat: /opt/data: No such file or directory", "/opt/data is not shown inside"),
        ("bash: line 1: /opt/run.sh: No such file or directory", "/opt/run.sh is not shown"),
        ("ls: cannot access '../other': No such file or directory", "../other is not shown"),
        ("cat: secret/key: No such file or directory", "secret/key is hidden"),
        ("cat: /etc/shadow: Permission denied", "/etc/shadow is hidden"),
        ("touch: cannot touch 'tests/x': Read-only file system", "sandbox.protect names"),
        ("rm: cannot remove \u2018tests/x\u2019: Permission denied", "sandbox.protect names"),
        ("mkdir: cannot create directory '/srv': Read-only file system", "/srv is not shown"),
        ("cp: cannot create regular file '/usr/x': Read-only file system", "is shown read-only"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/home/you/.netrc'",
            "/home/you/.netrc is not shown inside; hint: name it in sandbox.read",
        ),
        (
            "OSError: [Errno 30] Read-only file system: b'/usr/lib/x'",
            "/usr/lib/x is shown read-only",
        ),
        ("Error: ENOENT: no such file or directory, open '/opt/a.json'", "/opt/a.json is not"),
        ("Error: EROFS: read-only file system, open '/etc/x'", "/etc/x is shown read-only"),
        ("curl: (6) Could not resolve host: example.com", "network: none"),
        ("OSError: [Errno 101] Network is unreachable", "network: none"),
        ("ping: example.com: Temporary failure in name resolution", "network: none"),
        ("chmod: changing permissions of 'x': Operation not permitted", "setuid bit"),
        ("tar: x: Cannot change mode to rwsr-xr-x: Operation not permitted", "setuid bit"),
        (
            "ls: cannot access '/opt/a': No such file or directory\nmake: *** [all] Error 2",
            "/opt/a",
        ),
    ],
    ids=lambda text: text[:30],
)
def test_what_the_sandbox_denied_is_explained(printed: str, hint: str) -> None:
    assert hint in hint_for(plan(), WORK, printed)


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "all good",
        "cat: missing: No such file or directory",
        "bash: line 1: report.txt: Permission denied",
        "cat: /usr/nothing: No such file or directory",
        "E   assert 1 == 2",
        "make: *** No rule to make target 'x'.  Stop.",
        "touch: cannot touch '/tmp/x': Permission denied",
        "rm: cannot remove 'mnt': Device or resource busy",
        "cat: mount.txt: Permission denied",
    ],
)
def test_what_is_the_tools_own_business_has_no_hint(printed: str) -> None:
    assert hint_for(plan(), WORK, printed) == ""


def test_with_the_hosts_network_the_network_is_not_blamed() -> None:
    line = "curl: (6) Could not resolve host: example.com"
    assert hint_for(plan("host"), WORK, line) == ""
    assert hint_for(plan("none"), WORK, line)


def test_the_last_complaint_counts_and_there_is_one_hint() -> None:
    lines = "".join(f"cat: /opt/{n}: No such file or directory\n" for n in range(9))
    found = hint_for(plan(), WORK, lines)
    assert found.startswith("/opt/8 ") and found.count("hint:") == 1


@pytest.mark.parametrize(
    "path", ["/opt/\x1b[2J", "/opt/" + "x" * 5000, "/opt/a\x00b", "/opt/\u202egnp"]
)
def test_hostile_paths_are_not_repeated(path: str) -> None:
    assert hint_for(plan(), WORK, f"cat: '{path}': No such file or directory") == ""
    assert hint_for(plan(), WORK, f"cat: {path}: No such file or directory") == ""


def test_what_exists_outside_does_not_change_the_hint(tmp_path: object) -> None:
    """Else a tool could ask for the files of the host, one name after the other."""
    there, not_there = f"{tmp_path}", f"{tmp_path}-not-there"
    hints = {
        hint_for(plan(), WORK, f"cat: {path}: No such file or directory").replace(path, "")
        for path in (there, not_there)
    }
    assert len(hints) == 1


def test_a_flood_of_text_takes_no_time() -> None:
    for text in ("a: " * 400_000, "'" * 1_000_000, "no such file or directory: '" * 40_000):
        hint_for(plan(), WORK, text)


@pytest.mark.parametrize(
    ("printed", "hint"),
    [
        ("cat: /opt/data: Permission denied", "/opt/data cannot be opened: the policy does not"),
        ("cat: /opt/data: No such file or directory", ""),
        ("touch: cannot touch '/tmp/x': Permission denied", "use $TMPDIR"),
        ("OSError: [Errno 97] Address family not supported by protocol", "network: loopback"),
        ("Error: socket EAFNOSUPPORT", "network: loopback"),
        (
            "    sl = self._semlock = _multiprocessing.SemLock(\n"
            "PermissionError: [Errno 13] Permission denied",
            "locks between processes lie in /dev/shm",
        ),
    ],
    ids=lambda text: text[:30],
)
def test_without_mounts_what_is_closed_is_explained(printed: str, hint: str) -> None:
    without = msgspec.structs.replace(plan(), kind=PlanKind.NO_NAMESPACES, unshared=Unshared(abi=7))
    found = hint_for(without, WORK, printed)
    assert hint in found if hint else not found


def test_what_refuses_to_run_as_root_is_explained_where_tools_are_root() -> None:
    without = msgspec.structs.replace(plan(), kind=PlanKind.NO_NAMESPACES, unshared=Unshared(abi=7))
    root = msgspec.structs.replace(without, identity=Identity(0, 0, 0, 0))
    for printed in (
        "initdb: error: cannot be run as root",
        '"root" execution of the PostgreSQL server is not permitted.',
        "[ERROR] mysqld must not be run as root!",
        "Refusing to run as root",
    ):
        assert "hint: give the workspace to an ordinary user" in hint_for(root, WORK, printed)
        assert not hint_for(without, WORK, printed)
    assert not hint_for(root, WORK, "running as root")
