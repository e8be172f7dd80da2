"""What to do about a host that refuses a step of building a sandbox."""

from __future__ import annotations

from sandbox_agent_ipc.messages import InitFailed

from sandbox_agent_sandbox.steps import Step

_NAMESPACES = (
    "allow user namespaces: sysctl -w user.max_user_namespaces=15000"
    " kernel.unprivileged_userns_clone=1; on Ubuntu 24.04 and later also"
    " kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that"
    " allows unshare"
)
_MOUNTS = (
    "in a container, unmask /proc (docker: --security-opt systempaths=unconfined); if it names a"
    " path of the policy, take that out"
)

_COPY = (
    "Linux 5.12 or newer; root needs CAP_SYS_ADMIN over its mount namespace (in a container:"
    " --privileged), so run as an ordinary user where root has not; if it names a path of the"
    " policy, take that out"
)

_HINTS = {
    Step.NAMESPACES: _NAMESPACES,
    Step.MAPS: _NAMESPACES,
    Step.NO_NESTING: _NAMESPACES,
    Step.COPY: _COPY,
    Step.VIEW: _MOUNTS,
}


def explain(failed: InitFailed) -> str:
    """One message: what the host refused, and the hint."""
    try:
        hint = _HINTS.get(Step(failed.step), "")
    except ValueError:
        hint = ""
    hint = f". Mend: {hint}" if hint else ""
    return (
        f"the sandbox cannot be built: {failed.step}: {failed.reason}{hint}"
        " (`sandbox-agent doctor` shows what this host can do)"
    )
