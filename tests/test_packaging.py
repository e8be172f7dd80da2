"""What is shipped, and that the one dependency with sharp edges keeps working."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "sandbox_agent": CHECKOUT / "runtime",
    "sandbox_agent_sandbox": CHECKOUT / "sandbox",
    "sandbox_agent_ipc": CHECKOUT / "ipc",
}

MOCKED_COMPLETION = """
import sys

class NoMcp:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mcp":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoMcp())
import litellm

schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
tool = {"type": "function", "function": {"name": "shell", "description": "d", "parameters": schema}}
answer = litellm.completion(
    model="openai/gpt-4o",
    messages=[{"role": "user", "content": "hello"}],
    tools=[tool],
    mock_response="mocked",
)
assert answer.choices[0].message.content == "mocked", answer
"""


def project() -> dict:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def requirement(name: str) -> Requirement:
    found = [Requirement(text) for text in project()["project"]["dependencies"]]
    return next(one for one in found if one.name.lower() == name)


def test_the_installed_litellm_is_inside_the_declared_range() -> None:
    declared = requirement("litellm").specifier
    assert declared.contains(metadata.version("litellm"))
    # From 1.106 on, `tools=` fails unless the package `mcp` is installed too.
    assert not declared.contains("1.106.0")


def test_litellm_takes_tools_without_mcp_and_without_the_network(tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        # Else it fetches a price list while it is imported.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run(
        [sys.executable, "-c", MOCKED_COMPLETION],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist): `scripts/wheel` builds one, pyproject.toml's back end the other."""
    folder = tmp_path_factory.mktemp("archives")
    built = subprocess.run(
        [CHECKOUT / "scripts" / "wheel", folder / "wheel"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=100,
    )
    wheel = Path(built.stdout.removesuffix("\n"))
    backend = folder / "backend"
    requires = project()["build-system"]["requires"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(backend), *requires], check=True, timeout=100)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(backend)},
        check=True,
        timeout=100,
    )
    (sdist,) = folder.glob("*.tar.gz")
    return wheel, sdist


def sources() -> set[str]:
    """All files of the three packages, as the wheel names them."""
    return {
        str(path.relative_to(root))
        for package, root in PACKAGES.items()
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_three_packages_whole_and_nothing_else(
    archives: tuple[Path, Path],
) -> None:
    assert [path.name for path in archives[0].parent.iterdir()] == [archives[0].name]
    with zipfile.ZipFile(archives[0]) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == sources()
    assert {f"{package}/py.typed" for package in PACKAGES} <= packaged


def test_the_wheel_says_what_it_is(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[0]) as wheel:
        by_name = {name.rpartition("/")[2]: name for name in wheel.namelist()}
        fields = Parser().parsestr(wheel.read(by_name["METADATA"]).decode())
        scripts = wheel.read(by_name["entry_points.txt"]).decode()
        assert "LICENSE" in by_name
    assert fields["Name"] == "sandbox-agent-runtime"
    assert fields["Version"] == project()["project"]["version"]
    assert fields["License-Expression"] == "MIT"
    assert "sandbox-agent = sandbox_agent.command:command" in scripts
    assert "sandbox_agent = sandbox_agent.testing.plugin" in scripts


def test_the_source_archive_can_be_tested_and_built(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[1]) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers()}
    expected = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"}
    scripts = filter(Path.is_file, (CHECKOUT / "scripts").rglob("*"))
    expected |= {str(path.relative_to(CHECKOUT)) for path in scripts if path.suffix != ".pyc"}
    expected |= {f"{root.name}/README.md" for root in PACKAGES.values()}
    expected |= {"tests/conftest.py", "tests/skips.toml", "tests/test_packaging.py"}
    expected |= {"tests/api/python.json", "tests/api/released.json"}
    expected |= {f"{PACKAGES[name.partition('/')[0]].name}/{name}" for name in sources()}
    assert expected <= names, sorted(expected - names)
    assert not {name for name in names if "__pycache__" in name or name.startswith(".venv")}
