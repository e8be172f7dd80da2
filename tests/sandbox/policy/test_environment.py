"""What tools get of the host's environment without being asked for it, and what is said of the
rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sandbox_agent_sandbox.plan import Plan
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import HostFacts


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path.resolve()
    for name in ("root", "home", "python", "code", "work", "elsewhere/env/bin", "bin"):
        (folder / name).mkdir(parents=True)
    (folder / "elsewhere/ca.pem").write_text("a certificate")
    return folder


def plan(top: Path, environment: dict[str, Any], path: tuple[str, ...] = (), **policy: Any) -> Plan:
    facts = HostFacts(
        uid=1234,
        gid=1235,
        home=top / "home",
        path=path,
        prefix=top / "python",
        base_prefix=top / "python",
        code=(top / "code",),
        import_path=(),
        environment={name: str(value) for name, value in environment.items()},
        root=top / "root",
    )
    return make_plan(Policy.model_validate(policy), facts, workspace=top / "work")


def test_time_zone_language_and_identity_are_those_of_the_host(top: Path) -> None:
    given = {
        "TZ": "Asia/Tokyo",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "C",
        "LC_TIME": "fr_FR.UTF-8",
        "LANGUAGE": "de",
        "CI": "true",
        "NO_COLOR": "1",
        "GIT_AUTHOR_NAME": "Ada",
    }
    made = plan(top, given)
    assert {name: made.environment.get(name) for name in given} == given
    assert made.notes == ()


def test_nothing_else_is_passed_without_being_named(top: Path) -> None:
    given = {
        "API_KEY": "k3y",
        "TERM": "xterm",
        "LD_PRELOAD": "/x.so",
        "PYTHONPATH": "/x",
        "EMPTY": "",
    }
    made = plan(top, given)
    assert made.environment["TERM"] == "dumb"
    assert not {"API_KEY", "LD_PRELOAD", "PYTHONPATH", "EMPTY"} & made.environment.keys()


PROXIES = {
    "HTTPS_PROXY": "http://proxy:3128",
    "http_proxy": "http://proxy:3128",
    "no_proxy": "localhost",
    "ALL_PROXY": "socks5://127.0.0.1:1080",
}


def test_proxies_are_passed_with_the_hosts_network_only(top: Path) -> None:
    made = plan(top, PROXIES, network="host")
    assert {name: made.environment.get(name) for name in PROXIES} == PROXIES
    assert not PROXIES.keys() & plan(top, PROXIES).environment.keys()


@pytest.mark.parametrize("value", ["http://ada:s3cret@proxy:3128", "ada:s3cret@proxy:3128"])
def test_a_proxy_with_a_password_is_named_and_not_passed(top: Path, value: str) -> None:
    made = plan(top, {"https_proxy": value}, network="host")
    assert "https_proxy" not in made.environment
    [note] = made.notes
    assert "https_proxy is not passed" in note and "sandbox.env.pass" in note
    assert "s3cret" not in note
    named = plan(top, {"https_proxy": value}, network="host", env={"pass": ["https_proxy"]})
    assert named.environment["https_proxy"] == value
    assert named.notes == ()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"])
def test_certificates_are_shown_with_the_hosts_network(top: Path, name: str) -> None:
    bundle = top / "elsewhere/ca.pem"
    made = plan(top, {name: bundle}, network="host")
    assert made.environment[name] == str(bundle)
    assert str(bundle) in [bind.path for bind in made.binds]
    without = plan(top, {name: bundle})
    assert name not in without.environment
    assert str(bundle) not in [bind.path for bind in without.binds]


def test_no_certificates_at_all_are_passed_too(top: Path) -> None:
    made = plan(top, {"SSL_CERT_FILE": "/dev/null"}, network="host")
    assert made.environment["SSL_CERT_FILE"] == "/dev/null"
    assert "/dev/null" not in [bind.path for bind in made.binds]


def test_certificates_that_a_link_of_the_tools_names_are_not_shown(top: Path) -> None:
    (top / "work/ca.pem").symlink_to(top / "elsewhere/ca.pem")
    made = plan(top, {"SSL_CERT_FILE": top / "work/ca.pem"}, network="host")
    assert str(top / "elsewhere/ca.pem") not in [bind.path for bind in made.binds]
    assert "SSL_CERT_FILE" not in made.environment
    assert "SSL_CERT_FILE is not passed" in made.notes[0]


def test_an_active_environment_is_named_as_outside_where_it_is_visible(top: Path) -> None:
    environment = top / "elsewhere/env"
    hidden = plan(top, {"VIRTUAL_ENV": environment})
    assert "VIRTUAL_ENV" not in plan(top, {}).environment
    # It is no environment: it has no pyvenv.cfg.
    assert f"names {environment}, which they do not see" in hidden.notes[0]
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
    made = plan(top, {"VIRTUAL_ENV": environment})
    assert made.environment["VIRTUAL_ENV"] == str(environment)
    assert made.notes == ()


def test_the_users_own_path_comes_first_and_a_relative_entry_is_named(top: Path) -> None:
    made = plan(top, {}, path=(str(top / "bin"), "node_modules/.bin", "/usr/bin"))
    entries = made.environment["PATH"].split(":")
    assert entries[:3] == [str(top / "bin"), "/usr/bin", str(top / "python/bin")]
    assert "node_modules/.bin" not in entries
    assert "relative entry node_modules/.bin" in made.notes[0]
