"""The environment of the tools: an allow-list, with what the sandbox sets itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.errors import PolicyError
from sandbox_agent_sandbox.policy.probe import HostFacts
from sandbox_agent_sandbox.policy.view import HOME, View
from sandbox_agent_sandbox.utf8 import is_utf8

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyPolicy

_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")

_PASSED = frozenset(
    (
        *("TZ", "LANG", "LANGUAGE", "CI", "NO_COLOR", "EMAIL"),
        *("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
        *("PYENV_VERSION", "RBENV_VERSION", "NODENV_VERSION", "GOENV_VERSION", "JENV_VERSION"),
        *("RUSTUP_TOOLCHAIN", "CONDA_DEFAULT_ENV"),
    )
)
_LOCALE = "LC_[A-Z]+"
"""Variables that tools get as they are outside: time zone, language, who commits, and which
installed version is in use. TERM and FORCE_COLOR are none of them: nothing inside is a terminal."""

_FOLDERS = ("VIRTUAL_ENV", "CONDA_PREFIX", "JAVA_HOME", "GOROOT", "MISE_CONFIG_DIR")
"""Variables that tools get where the folder is visible, and otherwise a note names them."""

_PROXIES = frozenset(
    (
        "http_proxy",
        "https_proxy",
        "ftp_proxy",
        "all_proxy",
        "no_proxy",
        "socks_proxy",
        "rsync_proxy",
    )
)
"""Variables that tools get with the host's network, unless they hold a password."""

CERTIFICATES = frozenset(
    (
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"),
        *("NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "PIP_CERT"),
        *("CARGO_HTTP_CAINFO", "NIX_SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        *("HTTPLIB2_CA_CERTS", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "DENO_CERT"),
        *("BUNDLE_SSL_CA_CERT", "PERL_LWP_SSL_CA_FILE", "FTP_CA_FILE", "UV_SSL_CERT"),
    )
)
"""Variables that name files or folders of certificates. With the host's network tools get them, and
the files are shown."""

_ACCOUNT = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"


def show_certificates(view: View, network: str) -> None:
    """Show the certificates that the environment names."""
    if network != "host":
        return
    for name, value in view.facts.environment.items():
        if name in CERTIFICATES and value.startswith("/") and is_utf8(value):
            followed = view.follow(value)
            exists = not followed.loop and os.path.exists(followed.real)
            if exists and followed.left is None and not view.is_too_wide(followed.real):
                view.add_unseen(value)


def make_environment(policy: AnyPolicy, view: View) -> dict[str, str]:
    """What every tool gets. Notes what it does not get and might be expected to."""
    facts = view.facts
    environment = {
        "PATH": ":".join(dict.fromkeys(_path(view))),
        "HOME": HOME,
        "TMPDIR": "/tmp",
        "USER": facts.user,
        "LOGNAME": facts.user,
        "SHELL": "/bin/bash" if (facts.root / "bin/bash").exists() else "/bin/sh",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "SANDBOX_AGENT": "1",
        **_inherited(policy, view),
        **view.variables,
    }
    for name in policy.env.pass_:
        if name in facts.environment:
            value = environment[name] = facts.environment[name]
            if not is_utf8(value):
                raise PolicyError(
                    f"the value of {name} is not UTF-8",
                    field="env.pass",
                    hint="give it a value that is",
                )
    environment.update(policy.env.set)
    return environment


def _path(view: View) -> list[str]:
    """The user's own $PATH first, as far as it is visible; our interpreter, the system."""
    shown = []
    for entry in view.facts.path:
        if not is_utf8(entry):
            continue
        if not entry.startswith("/"):
            view.note(
                f"PATH: the relative entry {entry} is left out: it names another folder in every"
                " working folder; write its full path"
            )
        elif view.leads_to(entry) is not None:
            shown.append(entry)
    return [*shown, f"{view.facts.prefix}/bin", *_SYSTEM_PATH]


def _inherited(policy: AnyPolicy, view: View) -> dict[str, str]:
    """The variables of the host that tools get without being asked for."""
    named = {*policy.env.pass_, *policy.env.set}
    inherited = {}
    for name, value in view.facts.environment.items():
        if name in named or not value or not is_utf8(name + value):
            continue
        if name in _PASSED or re.fullmatch(_LOCALE, name):
            inherited[name] = value
        elif name in _FOLDERS or (policy.network == "host" and name in CERTIFICATES):
            if not value.startswith("/") or view.leads_to(value) is not None:
                inherited[name] = value
            elif os.path.exists(value):
                view.note(
                    f"{name} is not passed to tools: it names {value}, which they do not see; add"
                    " that to sandbox.read"
                )
        elif policy.network == "host" and name.lower() in _PROXIES:
            # Imported here, since few environments have a proxy.
            from sandbox_agent_sandbox.policy.fields.secrets import looks_secret

            if "@" not in value and looks_secret("", value) is None:
                inherited[name] = value
            else:
                view.note(
                    f"{name} is not passed to tools: it holds a password; to pass it, name it in"
                    " sandbox.env.pass"
                )
    return inherited


def account_name(environment: Mapping[str, str], facts: HostFacts) -> str:
    """The name of the tools' user in passwd(5): `USER`, where an account can have that name."""
    name = environment["USER"]
    return name if re.fullmatch(_ACCOUNT, name) else facts.user


def import_path(view: View, tool_paths: Sequence[Path]) -> list[str]:
    """This process's own `sys.path`, as far as it is visible inside, then the tools' folders: a
    resumed run may have tools whose folders were on the path of another process only."""
    facts = view.facts
    own = [*map(str, facts.code), *(entry for entry in facts.import_path if entry)]
    entries = dict.fromkeys([*own, *(str(path) for path in tool_paths if path.suffix != ".py")])
    return [entry for entry in entries if view.leads_to(os.path.abspath(entry)) is not None]
