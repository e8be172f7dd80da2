"""When a process dies, who, and how: every combination is a case, or cannot be and says why."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple


class When(StrEnum):
    """The moment, in the life of a call or, for `handshake`, of the process itself.

    Of the model process, see `Who.MODEL`: in the life of a request to it."""

    HANDSHAKE = "handshake"
    """Before the process has said that it is there."""
    MID_FRAME = "mid-frame"
    """Half a message has been written."""
    BEFORE_START = "before start"
    """The call is with its worker, which has not acknowledged it: it imports the tool."""
    MID_OUTPUT = "mid-output"
    """The tool runs, and has written some of its output."""
    AFTER_FLAG = "after flag"
    """The tool has seen the flag, and SIGTERM is still to come."""
    AFTER_TERM = "after TERM"
    """SIGTERM has come, and SIGKILL is still to come."""
    AT_EXIT = "at exit"
    """The result is sent, and the process is still there. Of an agent: the run is over."""


class Who(StrEnum):
    WORKER = "worker"
    CALL_INIT = "call init"
    INIT = "init"
    SPAWNER = "spawner"
    AGENT = "agent"
    MODEL = "model process"
    """It asks providers. Its moments are those of a request; `handshake`: it imports litellm;
    `before start`: the request is with it, and no provider has been asked."""
    MODEL_CALL_INIT = "model process's init"
    """The next three: they keep the model process as they keep a call's worker. Their own births
    are those of the three above, since the programs are the same; `handshake` is the model
    process's."""
    MODEL_INIT = "model sandbox's init"
    MODEL_SPAWNER = "model sandbox's spawner"


class How(StrEnum):
    EXIT = "exit"
    EXCEPTION = "exception"
    SIGKILL = "SIGKILL"
    SIGSTOP = "SIGSTOP"
    HANG = "hang"
    MEMORY = "out of memory"


class Death(NamedTuple):
    """One cell of the table."""

    when: When
    who: Who
    how: How

    def __str__(self) -> str:
        return f"{self.who}, {self.when}, {self.how}"


class Impossible(NamedTuple):
    """Cells that cannot be. None stands for every value."""

    who: Who
    when: tuple[When, ...] | None
    how: tuple[How, ...] | None
    why: str

    def covers(self, death: Death) -> bool:
        return (
            death.who is self.who
            and (self.when is None or death.when in self.when)
            and (self.how is None or death.how in self.how)
        )


SERVING = tuple(when for when in When if when not in (When.HANDSHAKE, When.MID_FRAME))

IMPOSSIBLE = [
    Impossible(
        Who.WORKER,
        (When.HANDSHAKE,),
        (How.EXIT, How.HANG),
        "no foreign code runs yet, and our own neither exits on purpose nor waits for anything; "
        "from outside a hang looks like SIGSTOP",
    ),
    Impossible(
        Who.CALL_INIT,
        (When.MID_FRAME,),
        None,
        "it sends one status of four bytes through a pipe, and less than PIPE_BUF is written "
        "whole or not at all (pipe(7))",
    ),
    Impossible(
        Who.CALL_INIT,
        (When.HANDSHAKE,),
        (How.EXIT, How.HANG, How.MEMORY),
        "it leaves its beginnings by an exception only and waits for nothing in them; a lack of "
        "memory is such an exception; from outside a hang looks like SIGSTOP",
    ),
    Impossible(
        Who.CALL_INIT,
        SERVING,
        (How.EXIT, How.EXCEPTION, How.HANG, How.MEMORY),
        "it does nothing but sigwaitinfo and waitpid, and nothing that happens inside changes "
        "that; the killer of the kernel for want of memory is a SIGKILL",
    ),
    Impossible(
        Who.INIT,
        (When.MID_FRAME,),
        None,
        "its messages are datagrams, which arrive whole or not at all (unix(7))",
    ),
    Impossible(
        Who.INIT,
        SERVING,
        (How.HANG,),
        "between messages it is in poll; from outside a hang looks like SIGSTOP, and a call that "
        "it never makes is the case of `handshake`",
    ),
    Impossible(
        Who.SPAWNER,
        (When.MID_FRAME,),
        None,
        "its messages are datagrams, which arrive whole or not at all (unix(7))",
    ),
    Impossible(
        Who.SPAWNER,
        (When.HANDSHAKE,),
        (How.HANG,),
        "it waits for nobody but its own builder; from outside a hang looks like SIGSTOP",
    ),
    Impossible(
        Who.SPAWNER,
        SERVING,
        (How.EXIT, How.EXCEPTION, How.HANG, How.MEMORY),
        "once init is born it is in one poll until all is over, allocates nothing and reads "
        "nothing; the killer of the kernel for want of memory is a SIGKILL",
    ),
    Impossible(
        Who.AGENT,
        (When.MID_FRAME,),
        None,
        "what it sends are datagrams; a line of its journal that was cut short is the subject of "
        "tests/runtime/journal/test_file.py",
    ),
    Impossible(
        Who.AGENT,
        (When.HANDSHAKE, *SERVING),
        (How.MEMORY,),
        "a MemoryError is an exception like any other, and the killer of the kernel for want of "
        "memory is a SIGKILL",
    ),
    Impossible(
        Who.MODEL_CALL_INIT,
        (When.MID_FRAME,),
        None,
        "it sends one status of four bytes through a pipe, and less than PIPE_BUF is written "
        "whole or not at all (pipe(7))",
    ),
    Impossible(
        Who.MODEL_CALL_INIT,
        (When.HANDSHAKE, *SERVING),
        (How.EXIT, How.EXCEPTION, How.HANG, How.MEMORY),
        "it does nothing but sigwaitinfo and waitpid, and nothing that happens inside changes "
        "that; the killer of the kernel for want of memory is a SIGKILL",
    ),
    Impossible(
        Who.MODEL_INIT,
        (When.MID_FRAME,),
        None,
        "its messages are datagrams, which arrive whole or not at all (unix(7))",
    ),
    Impossible(
        Who.MODEL_INIT,
        (When.HANDSHAKE, *SERVING),
        (How.HANG,),
        "between messages it is in poll; from outside a hang looks like SIGSTOP",
    ),
    Impossible(
        Who.MODEL_INIT,
        SERVING,
        (How.EXIT, How.EXCEPTION, How.MEMORY),
        "its sandbox has no other process, so it has nothing to do while that one serves, and "
        "nothing to fail at; that it fails to make the next one is the case of `handshake`",
    ),
    Impossible(
        Who.MODEL_SPAWNER,
        (When.MID_FRAME,),
        None,
        "its messages are datagrams, which arrive whole or not at all (unix(7))",
    ),
    Impossible(
        Who.MODEL_SPAWNER,
        (When.HANDSHAKE, *SERVING),
        (How.EXIT, How.EXCEPTION, How.HANG, How.MEMORY),
        "once init is born it is in one poll until all is over, allocates nothing and reads "
        "nothing; the killer of the kernel for want of memory is a SIGKILL",
    ),
]


def deaths(who: Who) -> Iterator[Death]:
    """Every cell of one kind of process that can be, in the order of the table."""
    for when, how in itertools.product(When, How):
        death = Death(when, who, how)
        if not any(rule.covers(death) for rule in IMPOSSIBLE):
            yield death


HAS_ENOUGH = "needs a Python that allocates memory for each call"
"""Reason of a skip. What an interpreter holds may be enough for a call without more: from 3.12 on
it is, and elsewhere what rehearsing a call has left."""
