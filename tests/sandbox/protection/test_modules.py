"""Which files Python would take for modules of some names."""

from __future__ import annotations

from pathlib import Path

from sandbox_agent_sandbox.protection.modules import modules_in


def test_modules_are_found_by_what_python_would_import(tmp_path: Path) -> None:
    for name in ("json.py", "types.cpython-311-x86_64-linux-gnu.so", "json.txt", "other.py"):
        (tmp_path / name).touch()
    for name in ("queue", "email"):
        (tmp_path / name).mkdir()
    (tmp_path / "queue/__init__.py").touch()
    names = {"json", "types", "queue", "email"}
    found = modules_in([str(tmp_path), str(tmp_path / "missing")], names)
    assert {Path(path).relative_to(tmp_path).as_posix() for path in found} == {
        "json.py", "types.cpython-311-x86_64-linux-gnu.so", "queue/__init__.py",
    }  # fmt: skip
    (tmp_path / "queue/__init__.py").write_text("changed")
    now = modules_in([str(tmp_path)], names)
    assert {path for path in found if now[path] != found[path]} == {
        str(tmp_path / "queue/__init__.py")
    }
