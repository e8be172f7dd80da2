"""The environment and the sandbox of the model process: the keys, the network, and nothing more.

Like a tool it sees the system's folders and the interpreter. It sees no workspace, and of the home
folder only the credential files that providers' libraries read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.utf8 import is_utf8

from sandbox_agent.source_root import SOURCE_ROOT

if TYPE_CHECKING:
    from sandbox_agent_sandbox.plan import Plan, PlanKind
    from sandbox_agent_sandbox.policy.policy import Policy
    from sandbox_agent_sandbox.policy.probe import HostFacts

_CREDENTIALS = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
    "GOOGLE_APPLICATION_CREDENTIALS": "~/.config/gcloud/application_default_credentials.json",
}
"""Variables that name a file, with the default path of each."""

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
"""Variables that the sandbox sets itself."""


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the model process, beyond the sandbox's own.

    environ: the host's. Only a provider's library decides which variable holds its key, so all are
    passed on, except variables that change how the process itself runs, and those that are not
    UTF-8.
    """
    passed = {
        name: value
        for name, value in environ.items()
        if name not in _OWN and not name.startswith(_NOT_PASSED) and is_utf8(name + value)
    }
    for name, default in _CREDENTIALS.items():
        if name not in passed and (path := _file(default)) is not None:
            passed[name] = str(path)
    passed["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise its import downloads prices
    passed["LITELLM_MODE"] = "PRODUCTION"  # otherwise its import reads a .env
    return passed


def model_policy(environ: Mapping[str, str]) -> Policy:
    """The policy of the model process's sandbox. Raises PolicyError."""
    from sandbox_agent_sandbox.policy.policy import Limits, Policy

    named = environment(environ)
    files = [_file(named[name]) for name in (*_CREDENTIALS, *_FILES) if named.get(name)]
    return Policy(
        network="host",
        read=[path for path in files if path is not None],
        limits=Limits(
            timeout=None,
            memory=None,
            process_memory=8 * 2**30,
            processes=1024,
            cpu_time=None,
            open_files=4096,
        ),
    )


def make_model_plan(policy: Policy, facts: HostFacts, kind: PlanKind) -> Plan:
    """The plan of the model process's sandbox. Raises PolicyError, SandboxUnavailable."""
    from sandbox_agent_sandbox.policy.make_plan import make_plan

    return make_plan(
        policy, facts, workspace=None, tool_paths=[SOURCE_ROOT], listens=False, kind=kind
    )


def _file(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_absolute() and path.exists() else None
    except (OSError, RuntimeError):
        return None
