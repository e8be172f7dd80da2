"""The checks of `doctor`, and which Python starts sandboxes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from identity import BIN, CHECKOUT, Person
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.interpreter import interpreter
from sandbox_agent_sandbox.policy.probe import probe

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
INSTALLED = f"{sys.base_prefix}/bin/{VERSION}"


def test_every_check_works_where_sandboxes_work(tmp_path: Path) -> None:
    checks = probe(tmp_path)
    assert len(checks) >= 8
    failed = {check.name: check.detail for check in checks if not check.ok}
    assert failed == {}


def is_python(program: str) -> bool:
    done = subprocess.run([program, "-I", "-c", "print(6 * 7)"], capture_output=True, check=True)
    return done.stdout == b"42\n"


def test_a_program_that_python_runs_is_started_with_its_python() -> None:
    assert interpreter() == sys.executable


def uwsgi(folder: Path) -> str:
    program = folder / "uwsgi"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    return str(program)


def deleted(folder: Path) -> str:
    return str(folder / "python3")


def no_program(folder: Path) -> str:
    (folder / "python3").write_text("")
    return str(folder / "python3")


@pytest.mark.parametrize("given", [uwsgi, deleted, no_program, "", None, "python3"])
def test_where_the_interpreter_is_embedded_or_gone_the_installed_one_is_taken(
    given: Callable[[Path], str] | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable = given(tmp_path) if callable(given) else given
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", executable)
    found = interpreter()
    assert found != executable
    assert found.endswith(f"/bin/{VERSION}")
    assert is_python(found)


def test_a_relative_name_is_that_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(INSTALLED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", "bin/python3")
    assert interpreter() == str(tmp_path / "bin" / "python3")


def test_a_frozen_program_is_refused_with_the_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", uwsgi(tmp_path))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(SandboxUnavailable, match=r"frozen.*hint: .*pip"):
        interpreter()


def test_without_any_python_the_refusal_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", uwsgi(tmp_path))
    for name in ("prefix", "exec_prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=r"hint: set sys\.executable"):
        interpreter()


IGNORES = """
import signal, sys
from sandbox_agent_sandbox.policy.probe import probe
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(*(check.name for check in probe() if not check.ok), sep="\\n")
"""


@pytest.mark.parametrize("refused", [False, True], ids=["able", "refused"])
def test_a_program_that_ignores_sigchld_gets_true_answers(person: Person, refused: bool) -> None:
    """The kernel keeps no exit status for it, and `subprocess` then says 0."""
    refuse = [str(BIN / "python"), "-I", str(CHECKOUT / "tests" / "support" / "refuse.py")]
    done = person.run([*(refuse if refused else []), str(BIN / "python"), "-c", IGNORES])
    assert done.returncode == 0, done.stderr
    assert ("user namespaces" in done.stdout.splitlines()) == refused
    assert refused or done.stdout.strip() == ""
