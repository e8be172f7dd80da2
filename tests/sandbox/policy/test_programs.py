"""What belongs to a folder of $PATH, as data: no program is run here. `tests/cli/test_exec_view.py`
runs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import HostFacts


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path.resolve()
    for name in ("root", "home", "python", "code", "work"):
        (folder / name).mkdir()
    return folder


def files(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)


def plan(top: Path, *path: str, **environment: str) -> Plan:
    facts = HostFacts(
        uid=1234,
        gid=1235,
        home=top / "home",
        path=tuple(str(top / name) for name in path),
        prefix=top / "python",
        base_prefix=top / "python",
        code=(top / "code",),
        import_path=(),
        environment=environment,
        root=top / "root",
    )
    return make_plan(Policy(), facts, workspace=top / "work")


def shown(top: Path, made: Plan) -> set[str]:
    """What is shown beside what every plan shows, by its name in `top`."""
    every = {top / name for name in ("python", "code", "work")}
    paths = {Path(bind.path) for bind in made.binds} - every
    assert not any(bind.writable for bind in made.binds if Path(bind.path) != top / "work")
    return {str(path.relative_to(top)) for path in paths}


@pytest.mark.parametrize(
    ("there", "path", "expected"),
    [
        (["home/.pyenv/shims/x"], "home/.pyenv/shims", {"home/.pyenv"}),
        (["home/.nvm/versions/node/v1/bin/node"], "home/.nvm/versions/node/v1/bin", {"home/.nvm"}),
        (["home/x/shims/y", "home/x/versions/z"], "home/x/shims", {"home/x"}),
        (["opt/conda/bin/x", "opt/conda/conda-meta/y"], "opt/conda/bin", {"opt/conda"}),
        (["opt/jdk/bin/java", "opt/jdk/lib/modules"], "opt/jdk/bin", {"opt/jdk"}),
        (["p/node_modules/.bin/x"], "p/node_modules/.bin", {"p/node_modules"}),
        (["opt/a/bin/x", "opt/a/lib/y", "opt/a/src/z"], "opt/a/bin", {"opt/a/bin", "opt/a/lib"}),
        (["home/.cargo/bin/x", "home/.cargo/credentials"], "home/.cargo/bin", {"home/.cargo/bin"}),
        (["home/.local/bin/x", "home/.local/share/y"], "home/.local/bin", {"home/.local/bin"}),
        (["home/go/bin/x", "home/go/src/y"], "home/go/bin", {"home/go/bin"}),
        (["home/.ssh/bin/x"], "home/.ssh/bin", set()),
        (["home/x"], "home", set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_belongs_to_it_is_shown_and_no_more(
    top: Path, there: list[str], path: str, expected: set[str]
) -> None:
    files(top, *there)
    made = plan(top, path)
    assert shown(top, made) == expected
    assert made.notes == ()


def test_rustup_is_shown_behind_the_folder_of_cargo(top: Path) -> None:
    files(top, "home/.cargo/bin/cargo", "home/.rustup/settings.toml", "x/cargo/bin/cargo")
    expected = {"home/.cargo/bin", "home/.rustup"}
    made = plan(top, "home/.cargo/bin")
    assert (shown(top, made), made.environment["RUSTUP_HOME"]) == (expected, f"{top}/home/.rustup")
    made = plan(top, "x/cargo/bin", CARGO_HOME=str(top / "x/cargo"))
    assert shown(top, made) == {"x/cargo/bin", "home/.rustup"}


def test_an_installation_of_no_known_kind_is_named(top: Path) -> None:
    files(top, "home/app/bin/x", "home/app/packages/y")
    made = plan(top, "home/app/bin")
    assert shown(top, made) == {"home/app/bin"}
    assert f"of {top}/home/app tools see only bin" in made.notes[0]
    assert "sandbox.read" in made.notes[0]


def test_chosen_versions_are_copied_without_secrets(top: Path) -> None:
    files(
        top, "home/.asdf/shims/x", "home/.local/share/mise/shims/x", "home/.config/mise/config.toml"
    )
    (top / "home/.tool-versions").write_text("nodejs 20\n")
    config = '[env]\nTOKEN = "s3cret"\n[tools]\nnode = "20"\n\n[settings]\nx = 1\n'
    (top / "home/.config/mise/config.toml").write_text(config)
    made = plan(top, "home/.asdf/shims", "home/.local/share/mise/shims")
    copied = {file.path: file.text for file in made.files if file.path.startswith("/tmp/home/")}
    del copied["/tmp/home/.config/git/config"]
    assert copied == {
        "/tmp/home/.tool-versions": "nodejs 20\n",
        "/tmp/home/.config/mise/config.toml": '[tools]\nnode = "20"\n\n',
    }


@pytest.mark.parametrize("makes_sense", [True, False])
def test_an_environment_in_the_workspace_names_a_python_and_nothing_else(
    top: Path, makes_sense: bool
) -> None:
    """Tools can write its pyvenv.cfg."""
    files(top, "work/.venv/bin/x", "elsewhere/bin/python3", "elsewhere/lib/python3.11/x.py")
    if makes_sense:
        files(top, "elsewhere/lib/python3.11/os.py")
    (top / "work/.venv/pyvenv.cfg").write_text(f"home = {top}/elsewhere/bin\n")
    made = plan(top, "work/.venv/bin")
    assert shown(top, made) == ({"elsewhere/bin", "elsewhere/lib"} if makes_sense else set())
    assert bool(made.notes) == (not makes_sense)


def test_a_link_to_a_device_shows_none_of_the_hosts(top: Path) -> None:
    (top / "home/bin").mkdir()
    (top / "home/bin/off").symlink_to("/dev/null")
    made = plan(top, "home/bin", "x", SSL_CERT_FILE="/dev/null")
    assert shown(top, made) == {"home/bin"}
    assert made.notes == ()


def test_a_pipe_in_place_of_the_configuration_holds_nothing_up(top: Path) -> None:
    """A tool of the run before may have put it there: to open it would wait for a writer."""
    files(top, "work/.venv/bin/x")
    os.mkfifo(top / "work/.venv/pyvenv.cfg")
    assert shown(top, plan(top, "work/.venv/bin")) == set()
