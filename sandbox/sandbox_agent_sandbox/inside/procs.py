"""A sandbox's /proc: one of its own pid namespace, and a new one for each call."""

from __future__ import annotations

from sandbox_agent_sandbox.inside.walls.namespaces import limit_the_namespace
from sandbox_agent_sandbox.inside.walls.proc import mount_proc
from sandbox_agent_sandbox.inside.watch import Tell, Watch
from sandbox_agent_sandbox.inside.worker import leftovers
from sandbox_agent_sandbox.plan import Plan


class FreshProc:
    """What has to do with /proc while a sandbox is built, and while its calls begin."""

    def forbid_nesting(self) -> None:
        """No user namespace can be made below that of the sandbox."""
        limit_the_namespace()

    def mount(self, target: str, device: str) -> None:
        """Mount it in the new root. device: a null device, mounted over files to hide."""
        mount_proc(target, device=device)

    def watch(self, plan: Plan, tell: Tell) -> Watch:
        """Init's look at the calls' processes."""
        return Watch(plan, tell)

    def renew(self) -> None:
        """For one call, in the call's namespaces. Without its own /proc, /proc/self is wrong and
        siblings are visible."""
        mount_proc("/proc", device="/dev/null")

    def others(self) -> list[int]:
        """The numbers in /proc of the call's processes, for its worker, which is not among them."""
        return leftovers.others()
