"""A process that the host holds: what is said of one whose end is not proven."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from sandbox_agent_sandbox.host.process import CallInit, Keeper, Process
from sandbox_agent_sandbox.outcome import Survivor


@pytest.mark.parametrize("held_as", [Process, CallInit])
def test_what_cannot_be_listed_is_a_survivor_until_its_end_is_proven(
    held_as: type[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a /proc that is mounted with hidepid."""
    with subprocess.Popen(["sleep", "60"]) as child:
        monkeypatch.setattr(psutil, "Process", _nothing_is_shown)
        held = held_as(os.pidfd_open(child.pid))
        try:
            assert held.survivors() == (Survivor(child.pid, "(its end is not proven)"),)
            child.kill()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert held.survivors() == ()
        finally:
            child.kill()
            held.close()


def test_the_order_reaches_a_stopped_init_and_sigkill_one_that_ignores_it() -> None:
    text = "trap '' USR1; echo up; while :; do sleep 1; done"
    with subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE) as child:
        held = CallInit(os.pidfd_open(child.pid))
        try:
            assert child.stdout is not None and child.stdout.readline() == b"up\n"
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED)
            held.kill()
            assert os.waitid(os.P_PID, child.pid, os.WCONTINUED) is not None
            assert not held.has_ended
            held.insist()
            assert child.wait(timeout=20) == -signal.SIGKILL
        finally:
            child.kill()
            held.close()


def test_an_init_is_dismissed_as_long_as_it_is_held() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        before = CallInit(os.pidfd_open(child.pid))
        try:
            before.close()
            held = CallInit(os.pidfd_open(child.pid))
            assert held.pidfd == before.pidfd  # the same number
            before.dismiss()
            assert not held.has_ended
            held.dismiss()
            assert child.wait(timeout=20) == -signal.SIGKILL
            held.dismiss()
        finally:
            child.kill()
            held.close()


def test_a_keeper_that_lost_the_order_is_given_it_again() -> None:
    """As one that is stopped just after it."""
    text = "trap 'n=x$n; [ $n = x ] || exit' USR1; echo up; while :; do sleep 0.01; done"
    with subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE) as child:
        held = Keeper(os.pidfd_open(child.pid), os.pidfd_open(child.pid), 0)
        try:
            assert child.stdout is not None and child.stdout.readline() == b"up\n"
            assert held.kill_and_wait(20)
            assert child.wait(timeout=20) == 0
        finally:
            child.kill()
            held.close()


def test_a_number_that_another_process_has_by_now_is_not_signalled() -> None:
    """A pidfd knows it: psutil is asked for a process only while its pidfd says that it lives."""
    with subprocess.Popen(["true"]) as child:
        held = CallInit(os.pidfd_open(child.pid))
        child.wait(timeout=20)
    with subprocess.Popen(["sleep", "60"]) as other:
        held.pid = other.pid  # as if the kernel had given the number again
        try:
            held.terminate()
            held.insist()
            assert held.survivors() == ()
            assert other.poll() is None
        finally:
            other.kill()
            held.close()


def _nothing_is_shown(pid: int) -> object:
    raise psutil.NoSuchProcess(pid)


def test_a_supervisor_that_is_stopped_between_its_proof_and_its_exit_is_gone_with_its_call() -> (
    None
):
    text = "import os; os.kill(os.getpid(), 19); os._exit(0)"
    with subprocess.Popen([sys.executable, "-ISc", text]) as child:
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        held = Keeper(os.pidfd_open(child.pid), os.eventfd(1), mark=7)
        assert held.has_ended
        held.close()
        assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
