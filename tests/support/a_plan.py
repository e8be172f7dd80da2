"""A plan with something of everything, for questions about paths."""

from __future__ import annotations

from sandbox_agent_sandbox.plan import (
    Bind,
    File,
    Identity,
    Mask,
    MaskedFor,
    Plan,
    Protected,
    ResourceLimits,
    Symlink,
)


def plan(network: str = "none") -> Plan:
    return Plan(
        workspace="/home/you/project",
        identity=Identity(1000, 1000, 1000, 1000),
        binds=(
            Bind("/etc"),
            Bind("/usr"),
            Bind("/home/you/project", writable=True),
            Bind("/home/you/project/tests"),
            Bind("/home/you/project/.git/hooks"),
        ),
        symlinks=(Symlink("/bin", "usr/bin"), Symlink("/data", "home/you/project/data")),
        masks=(
            Mask("/home/you/project/secret", folder=True),
            Mask("/etc/shadow", False, reason=MaskedFor.SECRETS),
        ),
        protected=(Protected("/home/you/project/tests", 1, 2),),
        network=network,
        limits=ResourceLimits(1, 1, 1, 1, 1),
        environment={},
        user="you",
        home="/tmp/home",
        import_path=(),
        files=(File("/etc/passwd", "you"),),
        guarded=("/home/you/project/.git/hooks",),
    )
