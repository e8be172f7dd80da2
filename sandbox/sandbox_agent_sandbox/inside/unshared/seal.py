"""The seal of a worker in this plan: what `worker.main` does inside namespaces, without them."""

from __future__ import annotations

import errno
import os
import signal
import socket
from typing import NamedTuple

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.call_descriptors import CallDescriptors
from sandbox_agent_sandbox.inside.unshared.gate import gate_program, shut_behind
from sandbox_agent_sandbox.inside.unshared.reach import below, parent
from sandbox_agent_sandbox.inside.unshared.tag import take_mark
from sandbox_agent_sandbox.inside.unshared.view.owned import TOOLS_GROUP
from sandbox_agent_sandbox.inside.unshared.view.rules import moved, restrict
from sandbox_agent_sandbox.inside.walls.capabilities import drop_capabilities
from sandbox_agent_sandbox.inside.walls.descriptors import keep_only, standard_streams
from sandbox_agent_sandbox.inside.walls.oom_score import OF_TOOLS, shut_be_first_to_die
from sandbox_agent_sandbox.inside.walls.rlimits import apply_rlimits
from sandbox_agent_sandbox.inside.walls.seccomp import filter_system_calls
from sandbox_agent_sandbox.inside.worker import leftovers
from sandbox_agent_sandbox.inside.worker.main import begin_afresh
from sandbox_agent_sandbox.plan import Identity, Plan


class Unguarded(OSError):
    """Neither Landlock scopes signals, nor can a gate be had."""


class Seal(NamedTuple):
    """What a worker is sealed with.

    mark: see `tag`. gate: the socket that takes the gate's listener to the supervisor. signals:
    whether signals pass the gate, since no Landlock domain scopes them. own: the folder of the
    call's TMPDIR and HOME.
    """

    plan: Plan
    descriptors: CallDescriptors
    board_fd: int
    mark: int
    gate: socket.socket
    signals: bool
    own: str

    def put_on(self) -> None:
        """Seal this process. Before the end of it no foreign code runs."""
        plan, call = self.plan, self.descriptors
        os.setsid()
        syscalls.set_process_name("sandbox-worker")
        for group in call.groups:
            os.write(group, b"0")  # this process: it is its only thread. cgroups(7)
        shut_be_first_to_die(OF_TOOLS)
        standard_streams(call.stdout, call.stderr)
        assert call.ruleset is not None and plan.unshared is not None
        own = (call.inbox, call.outbox, call.wake, self.board_fd, self.gate.fileno())
        keep_only((*own, call.ruleset))
        take_mark(self.mark)
        counted = plan.groups is not None and bool(plan.groups.processes)
        apply_rlimits(plan.limits, counted=counted)
        _become(plan.identity)
        drop_capabilities()
        # Not earlier: a change of the user clears it. The starter ends after its worker only.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        begin_afresh()
        restrict(call.ruleset)
        os.close(call.ruleset)
        program = gate_program(signals=self.signals, others=plan.unshared.looked_at)
        if not shut_behind(program, self.gate):
            if self.signals:
                raise Unguarded(errno.EBUSY, "nothing keeps its signals from processes outside")
            if plan.unshared.listener:
                # Else nobody would look at addresses. The plan was made where there was a listener.
                why = "the filter of system calls can have no listener any more"
                raise Unguarded(errno.EBUSY, why)
        filter_system_calls(plan.system_calls)

    def move(self, value: str) -> str:
        """A path or a variable of the call, with its own places in it."""
        return moved(value, self.plan, self.own)


def _become(identity: Identity) -> None:
    """Take the tools' user, where that is another one: only root can."""
    if os.geteuid() != identity.outside_uid:
        os.setgroups([TOOLS_GROUP])
        os.setresgid(*[identity.outside_gid] * 3)
        os.setresuid(*[identity.outside_uid] * 3)


def others() -> list[int]:
    """The other processes of this worker's call: all that is below its supervisor, but for the
    starter and itself. As `leftovers.others` for a pid namespace."""
    starter = os.getppid()
    mine = (starter, os.getpid())
    found = sorted(below(parent(starter)))
    return [pid for pid in found if pid not in mine and leftovers.is_counted(pid)]
