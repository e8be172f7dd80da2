"""Each limit that a call has met is named once, with its number."""

from __future__ import annotations

import signal

import msgspec
import pytest
from sandbox_agent_sandbox.limits.groups import Counts
from sandbox_agent_sandbox.limits.struck import Usage, named, ran_out_elsewhere, shown, struck
from sandbox_agent_sandbox.outcome import LimitMet, Outcome
from sandbox_agent_sandbox.plan import ResourceLimits

MIB = 1 << 20
LIMITS = ResourceLimits(
    memory=64 * MIB,
    call_memory=48 * MIB,
    process_memory=40 * MIB,
    processes=30,
    cpu_time=2,
    open_files=40,
    file_size=1000,
)


def met(
    outcome: Outcome = Outcome.OK, status: int | None = 0, printed: bytes = b"", **usage: object
) -> list[str]:
    used = msgspec.structs.replace(Usage(LIMITS), **usage)
    return [one.limit for one in struck(used, outcome, status, printed)]


@pytest.mark.parametrize(
    ("limit", "value", "text"),
    [
        ("memory", 256 * MIB, "256 MiB"),
        ("memory", 4 << 30, "4 GiB"),
        ("file_size", 100_000_000, "100 MB"),
        ("tmp", 1001, "1001 bytes"),
        ("timeout", 2.0, "2 s"),
        ("cpu_time", 0.5, "0.5 s"),
        ("processes", 1024, "1024"),
        ("memory", 0, "0 bytes"),
    ],
)
def test_the_number_of_a_limit_is_shown_as_people_write_it(
    limit: str, value: float, text: str
) -> None:
    assert shown(limit, value) == text


def test_a_call_that_met_no_limit_names_none() -> None:
    assert met() == []
    assert met(Outcome.ERROR, 1, b"no such file") == []
    # The limit was reached, and the page cache given up: nothing was refused.
    assert met(counts=Counts(full=1, call_full=1)) == []


def test_an_oom_kill_is_the_limit_that_was_full() -> None:
    assert met(counts=Counts(killed=1, full=1)) == ["memory"]
    assert met(counts=Counts(killed=1, full=1, call_full=1)) == ["call_memory"]
    [one] = struck(Usage(LIMITS, counts=Counts(2, 1)), Outcome.OK, 0, b"")
    assert one == LimitMet(
        "memory", 64 * MIB, "memory 64 MiB of all calls together: the kernel ended 2 processes"
    )


def test_an_oom_kill_beyond_our_limits_is_called_that_and_is_none_of_them() -> None:
    elsewhere = Usage(LIMITS, counts=Counts(killed=1))
    assert "beyond the sandbox's own limits" in ran_out_elsewhere(elsewhere)
    assert struck(elsewhere, Outcome.OK, 0, b"") == ()
    assert ran_out_elsewhere(Usage(LIMITS, counts=Counts(killed=1, full=1))) == ""
    assert ran_out_elsewhere(Usage(LIMITS)) == ""


@pytest.mark.parametrize("status", [-signal.SIGXCPU, 128 + signal.SIGXCPU])
def test_a_signal_of_the_kernel_names_its_limit(status: int) -> None:
    assert met(Outcome.ERROR, status) == ["cpu_time"]
    assert met(Outcome.ERROR, status + signal.SIGXCPU - signal.SIGXFSZ if status < 0 else 153) == [
        "file_size"
    ]


def test_sigkill_is_the_cpu_time_only_where_that_was_used() -> None:
    assert met(Outcome.ERROR, 137, cpu_seconds=7.0) == ["cpu_time"]
    assert met(Outcome.ERROR, -9, cpu_seconds=7.0) == ["cpu_time"]
    assert met(Outcome.ERROR, 137, cpu_seconds=1.0) == []
    no_limit = msgspec.structs.replace(LIMITS, cpu_time=None)
    assert met(Outcome.ERROR, 137, cpu_seconds=7.0, limits=no_limit) == []


def test_what_a_failed_call_printed_at_its_end_names_what_only_its_process_was_told() -> None:
    assert met(Outcome.ERROR, 1, b"x: Too many open files\n") == ["open_files"]
    assert met(Outcome.CRASHED, 1, b"fork: Resource temporarily unavailable") == ["processes"]
    assert met(Outcome.ERROR, 1, b"MemoryError") == ["process_memory"]
    # A call that succeeds may print what it likes, and so may the beginning of a long output.
    assert met(Outcome.OK, 0, b"Too many open files") == []
    assert met(Outcome.ERROR, 1, b"Too many open files" + bytes(1 << 17)) == []
    unlimited = msgspec.structs.replace(LIMITS, open_files=None)
    assert met(Outcome.ERROR, 1, b"Too many open files", limits=unlimited) == []


def test_a_full_place_is_named_where_the_call_failed_for_want_of_space() -> None:
    full = (LimitMet("tmp", 20 * MIB, "/tmp is full"), LimitMet("shm", MIB, "/dev/shm may be"))
    assert met(Outcome.ERROR, 1, b"x: No space left on device", full=full) == ["tmp"]
    assert met(Outcome.ERROR, 1, b"x: No space left on device") == []
    named = b"/dev/shm/x: No space left on device"
    assert met(Outcome.ERROR, 1, named, full=full[1:]) == ["shm"]
    assert met(Outcome.ERROR, 1, b"no such file", full=full) == []
    assert met(full=full) == []


def test_time_output_and_what_was_noticed_meanwhile_are_named() -> None:
    assert met(Outcome.TIMEOUT, None, timeout=2.0) == ["timeout"]
    assert met(left_out=10, kept=1024) == ["output"]
    assert met(counts=Counts(refused=3)) == ["processes"]
    noticed = named(LIMITS, "memory", "its largest process was ended")
    assert noticed is not None
    assert met(met=(noticed,), counts=Counts(killed=1, full=1)) == ["memory"]
    assert named(ResourceLimits(), "memory", "x") is None


def test_a_limit_for_which_all_processes_of_the_user_count_says_so() -> None:
    said = b"fork: Resource temporarily unavailable"
    for counts_user in (False, True):
        (one,) = struck(Usage(LIMITS, counts_user=counts_user), Outcome.ERROR, 1, said)
        assert one.limit == "processes"
        assert ("of this user count, also those outside" in one.text) is counts_user
