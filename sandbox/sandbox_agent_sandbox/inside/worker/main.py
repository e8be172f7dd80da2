"""The worker: it seals itself, sends Ready, runs one tool, sends the result, and exits.

Until the seal is complete it runs no foreign code and imports no user module.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import msgspec
from sandbox_agent_ipc.board_view import BoardView
from sandbox_agent_ipc.channel import Inbox, Outbox, read_arguments
from sandbox_agent_ipc.errors import IpcError
from sandbox_agent_ipc.messages import (
    PROTOCOL,
    Call,
    Describe,
    Described,
    FunctionRef,
    Ready,
    Result,
    ResultKind,
    Serve,
    Started,
    ToWorker,
)
from sandbox_agent_ipc.token import Cancelled, CancelReason

from sandbox_agent_sandbox.call_status import WORKER_FAILED
from sandbox_agent_sandbox.capture import MODEL_BYTES
from sandbox_agent_sandbox.inside.kernel import raw_signals, syscalls
from sandbox_agent_sandbox.inside.kernel.call_descriptors import CallDescriptors
from sandbox_agent_sandbox.inside.kernel.dispositions import CHANGED, reset_signals
from sandbox_agent_sandbox.inside.walls.capabilities import drop_capabilities
from sandbox_agent_sandbox.inside.walls.descriptors import keep_only, standard_streams
from sandbox_agent_sandbox.inside.walls.landlock import make_ruleset, restrict_access
from sandbox_agent_sandbox.inside.walls.rlimits import apply_rlimits
from sandbox_agent_sandbox.inside.walls.seccomp import filter_system_calls
from sandbox_agent_sandbox.inside.worker import leftovers
from sandbox_agent_sandbox.inside.worker.call_facts import CallFacts, set_facts
from sandbox_agent_sandbox.inside.worker.environment import have_streams, take_environment
from sandbox_agent_sandbox.inside.worker.invoke import NotStarted, describe_all, invoke
from sandbox_agent_sandbox.inside.worker.rehearsal import Nowhere, is_spare, rehearse
from sandbox_agent_sandbox.inside.worker.send_result import send_result
from sandbox_agent_sandbox.inside.worker.serving import serve
from sandbox_agent_sandbox.inside.worker.tool_result import why_short
from sandbox_agent_sandbox.plan import Plan

_MAX_ARGUMENTS = 64 << 20

_SIGINT, _SIGTERM = int(signal.SIGINT), int(signal.SIGTERM)

POKE = int(signal.SIGURG)
"""Wakes a worker that SIGTERM did not wake. A signal interrupts nothing when it arrives between
Python's check for signals and a system call that sleeps, or in another thread than the main one:
its handler would run only when the sleep is over. By default a process ignores SIGURG. signal(7)"""

POKE_INTERVAL = 0.01
"""Seconds between two pokes, until the terminated worker ends."""


_EMPTY = "/run"
"""A folder of the sandbox's own that tools cannot write. In `/` a relative path could lead to what
the policy's `write` names."""


def run_worker(
    plan: Plan,
    descriptors: CallDescriptors,
    board_fd: int,
    seal: Callable[[], object] | None = None,
    others: Callable[[], list[int]] = leftovers.others,
    move: Callable[[str], str] = str,
) -> NoReturn:
    """Seal this process and serve one call. Never returns.

    seal: does it, where there are no namespaces. others: the other processes of the call. move:
    changes variables and the folder of the call, where its own places are not at /tmp.
    """
    outbox = _Outbox(descriptors.outbox)
    try:
        if seal is None:
            _seal(plan, descriptors, board_fd)
        else:
            seal()
        _serve(plan, descriptors, board_fd, outbox, others, move)
    except BaseException as error:
        _fail(error, outbox)
    os._exit(0)


class _Outbox(Outbox):
    """last: the type of the last message that was sent. is_of_call: of a call, not of a session."""

    last: type | None = None
    is_of_call = True

    def send(self, message: msgspec.Struct) -> None:
        super().send(message)
        self.last = type(message)


def _fail(error: BaseException, outbox: _Outbox) -> NoReturn:
    """Exit because of an error of ours. If the tool has not begun, the host is told why."""
    why = f"{type(error).__name__}: {error}"
    with suppress(OSError, IpcError):
        begun = outbox.last not in (None, Ready)
        if begun or isinstance(error, Cancelled) or not outbox.is_of_call:
            os.write(2, f"sandbox worker: {why}\n".encode())
        else:
            why = why_short(error) or why
            if outbox.last is None:
                outbox.send(Ready(PROTOCOL))
            outbox.send(Result(ResultKind.UNMADE, f"its worker could not begin: {why}"))
    os._exit(WORKER_FAILED)


def _seal(plan: Plan, descriptors: CallDescriptors, board_fd: int) -> None:
    os.setsid()
    syscalls.set_process_name("sandbox-worker")
    standard_streams(descriptors.stdout, descriptors.stderr)
    ruleset = descriptors.ruleset
    if ruleset is None:
        ruleset = make_ruleset(plan.landlock)
    own = [descriptors.inbox, descriptors.outbox, descriptors.wake, board_fd]
    keep_only(own if ruleset is None else [*own, ruleset])
    counted = plan.groups is not None and bool(plan.groups.processes)
    apply_rlimits(plan.limits, counted=counted)
    drop_capabilities()
    begin_afresh()
    restrict_access(plan.landlock, ruleset)
    filter_system_calls(plan.system_calls)


def begin_afresh() -> None:
    """Signals and Python's streams as in a new process."""
    # Signals that the host ignores (nohup, a background job's SIGINT) are not ignored in here.
    reset_signals(among=CHANGED)
    raw_signals.signal(_SIGINT, raw_signals.default_int_handler)
    have_streams()


def _serve(
    plan: Plan,
    descriptors: CallDescriptors,
    board_fd: int,
    outbox: _Outbox,
    others: Callable[[], list[int]],
    move: Callable[[str], str],
) -> None:
    kind = int(socket.AF_UNIX), int(socket.SOCK_SEQPACKET), 0
    inbox = Inbox(socket.socket(*kind, descriptors.inbox))
    if is_spare(inbox.sock):
        _rehearse(plan, descriptors, board_fd, others, move)
    outbox.send(Ready(PROTOCOL))
    message, received = inbox.receive(ToWorker)
    take_environment({name: move(value) for name, value in message.env.items()})
    sys.path[:] = plan.import_path
    _enter(move(message.cwd))
    if isinstance(message, Describe) or (
        isinstance(message, Call) and not _is_ours(message.function)
    ):
        # As after any exec: else /proc/self belongs to root, and the tool cannot read it. The
        # worker of a command stays as it is: what the command starts could otherwise open the
        # outbox by /proc/PID/fd, and report a result of its own. So does one that serves: it may
        # hold keys. proc_pid_fd(5)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    if isinstance(message, Describe):
        described = Described(describe_all(message.functions))
        leftovers.flush_streams()
        outbox.send(described)
        return
    if isinstance(message, Serve):
        outbox.is_of_call = False
        serve(message, inbox, outbox, board_fd)
        leftovers.flush_streams()
        return
    if message.has_stdin:
        stdin = received.pop(0)
        os.dup2(stdin, 0)
        os.close(stdin)
    _call(plan, message, received, descriptors, board_fd, outbox, others)


def _call(
    plan: Plan,
    message: Call,
    received: list[int],
    descriptors: CallDescriptors,
    board_fd: int,
    outbox: Outbox,
    others: Callable[[], list[int]],
) -> None:
    arguments = message.arguments
    if arguments is None:
        arguments = read_arguments(received[0], _MAX_ARGUMENTS)
    kept = tuple(bind.path for bind in plan.binds)
    set_facts(CallFacts(min(message.output_limit, MODEL_BYTES), kept))
    send_result(outbox, _run(message, arguments, outbox, board_fd, descriptors, others))


def _rehearse(
    plan: Plan,
    descriptors: CallDescriptors,
    board_fd: int,
    others: Callable[[], list[int]],
    move: Callable[[str], str],
) -> None:
    """Play a call in a spare, see `rehearsal`. What it changes is as it was before, or is set by
    every call."""
    with suppress(OSError):  # no descriptor is left, for instance: the call will say so
        message = rehearse(plan, board_fd)
        take_environment({name: move(value) for name, value in message.env.items()})
        _enter(message.cwd)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # which it is already
        _call(plan, message, [], descriptors, board_fd, Nowhere(), others)
        token = BoardView(board_fd).token(message.slot, message.word, descriptors.wake)
        leftovers.finish_python(token, (descriptors.inbox, descriptors.outbox, board_fd))
        raw_signals.signal(_SIGTERM, raw_signals.SIG_DFL)


def _enter(folder: str) -> None:
    """Go to the working folder. A tool may have shut it (chmod 000 .): then the call begins in an
    empty folder and says so, since only a call can open it again."""
    try:
        os.chdir(folder)
    except PermissionError as error:
        os.chdir(_EMPTY)
        note = (
            f"sandbox-agent: the working folder {folder} cannot be entered ({error.strerror}), so"
            f" this call begins in {_EMPTY}; hint: chmod u+rwx {folder}\n"
        )
        os.write(2, note.encode())


def _run(
    call: Call,
    arguments: bytes,
    outbox: Outbox,
    board_fd: int,
    descriptors: CallDescriptors,
    others: Callable[[], list[int]],
) -> Result:
    token = BoardView(board_fd).token(call.slot, call.word, descriptors.wake)
    worker = os.getpid()

    def on_term(number: int, frame: FrameType | None) -> None:
        if os.getpid() != worker:
            # A child that the tool forked has inherited the handler. Only the worker unwinds.
            raw_signals.signal(_SIGTERM, raw_signals.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if not token.is_cancelled:
            return  # from a process of this call (`kill $PPID`): the ladder sets the flag first
        _ignore_term()  # a second SIGTERM must not interrupt what a tool does in its `finally`
        raise Cancelled(token.reason or CancelReason.INTERRUPT)

    def started() -> None:
        # The last look at the flag: past this line the tool's code runs.
        if token.is_cancelled:
            raise NotStarted
        outbox.send(Started())

    try:
        raw_signals.signal(POKE, _do_nothing)
        raw_signals.signal(_SIGTERM, on_term)
        result = invoke(call, arguments, token, started)
        if os.getpid() != worker:
            os._exit(0)  # a forked child of the tool that returned into here: it must not send
        leftovers.flush_streams()  # its reader may be slow, so SIGTERM still counts
        _ignore_term()
        if result.kind in (ResultKind.OK, ResultKind.ERROR):
            if not _is_ours(call.function):
                own = (descriptors.inbox, descriptors.outbox, descriptors.wake, board_fd)
                leftovers.finish_python(token, own)
            if not token.is_cancelled:  # a call that is stopped is to leave nothing
                left, count = leftovers.wait(token, others)
                result = msgspec.structs.replace(result, left=left, left_count=count)
    except Cancelled:  # SIGTERM came in the short time between the tool's end and the line above
        _ignore_term()
        return Result(ResultKind.CANCELLED, "")
    return result


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """A handler: the signal is to wake the process, or is to be ignored."""


def _is_ours(function: FunctionRef) -> bool:
    """Whether a tool is one of this package's, which runs no code of others in this process."""
    return function.module.startswith("sandbox_agent_sandbox.")


def _ignore_term() -> None:
    """Ignore SIGTERM from now on. By a handler, not SIG_IGN, which commands would inherit.

    A poke may be pending in Python: without a handler for it, Python would print "Signal 23 ignored
    due to race condition". So its handler stays, and system calls go on after it (SA_RESTART).
    """
    raw_signals.signal(_SIGTERM, _do_nothing)
    signal.siginterrupt(POKE, False)
