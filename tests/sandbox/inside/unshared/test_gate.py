"""The gate's side of the supervisor."""

from __future__ import annotations

import os
import socket

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.unshared.gate import Gate, gate_program, shut_behind


def test_a_gate_without_anybody_behind_it_is_not_waited_at() -> None:
    """Before Linux 6.11 the supervisor would wait there for ever."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            os._exit(0 if shut_behind(gate_program(signals=True), theirs) else 1)
        finally:
            os._exit(2)
    theirs.close()
    with ours:
        _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not Gate(listener, (), None).serve()
    finally:
        os.close(listener)
