"""What the process that asks providers is given: the keys, where the network is, and no more.

It sees the system's own folders and the interpreter, like a tool; no workspace, and of the home
folder only the credentials that providers' libraries look for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.utf8 import is_utf8

from sandbox_agent.source_root import SOURCE_ROOT

if TYPE_CHECKING:
    from sandbox_agent_sandbox.plan import Plan

_CREDENTIALS = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
    "GOOGLE_APPLICATION_CREDENTIALS": "~/.config/gcloud/application_default_credentials.json",
}
"""Variables that name a file, and where it lies when they are not set."""

_FILES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
)
"""Further variables that name a file or folder."""

_NOT_PASSED = ("LD_", "PYTHON", "MALLOC_", "GLIBC_", "COVERAGE_")
_OWN = {"PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "TERM", "LANG"}
"""The sandbox's, not the host's."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the model process, beyond the sandbox's own.

    environ: the host's. Which variable a provider's key is in is its library's matter, so all are
    passed on but those that would change how the process itself runs, and those that cannot be
    told to it, being no UTF-8.
    """
    passed = {
        name: value
        for name, value in environ.items()
        if name not in _OWN and not name.startswith(_NOT_PASSED) and is_utf8(name + value)
    }
    for name, usual in _CREDENTIALS.items():
        if name not in passed and (path := _file(usual)) is not None:
            passed[name] = str(path)
    passed["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else its import fetches prices
    passed["LITELLM_MODE"] = "PRODUCTION"  # else its import reads a .env
    return passed


def make_model_plan(environ: Mapping[str, str]) -> Plan:
    """How the sandbox of the model process is built. Raises PolicyError, SandboxUnavailable."""
    from sandbox_agent_sandbox.policy.make_plan import make_plan
    from sandbox_agent_sandbox.policy.policy import Limits, Policy
    from sandbox_agent_sandbox.policy.probe import host_facts

    named = environment(environ)
    files = [_file(named[name]) for name in (*_CREDENTIALS, *_FILES) if named.get(name)]
    policy = Policy(
        network="host",
        read=[path for path in files if path is not None],
        limits=Limits(
            timeout=None, memory=8 * 2**30, processes=1024, cpu_time=3650 * 86400, open_files=4096
        ),
    )
    return make_plan(
        policy,
        host_facts(),
        workspace=None,
        tool_paths=[SOURCE_ROOT],
    )


def _file(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_absolute() and path.exists() else None
    except (OSError, RuntimeError):
        return None
