"""Every message, one frozen Struct each.

Directions: *host to init* and *init to host* travel on the sandbox's control socket (trusted on
both sides: init runs no foreign code). *Host to worker* travels on a one-way socket. *Worker to
host* travels on a pipe, because a pipe cannot carry descriptors: a hostile worker cannot make the
host own (or close) a descriptor of its choice.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

PROTOCOL = 1
"""Version of everything in this file. Both handshakes carry it; a difference is refused."""

MAX_MESSAGE = 2 * 1024 * 1024
"""Bytes. No frame from a worker is longer; a longer announcement is a ProtocolError."""


MAX_RESULT = 256 * 1024 * 1024
"""Bytes of the text of one result, which comes in several frames if it is long."""


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all messages: a map with a tag, so that a reader rejects any other message."""


# --- tools ---------------------------------------------------------------------------------


class FunctionRef(msgspec.Struct, frozen=True):
    """Where a tool's function is found, by a worker.

    module: dotted name. For a function of the script that is being run, `__main__`.
    qualname: dotted path inside the module; `<locals>` is refused.
    file: the script's absolute path when module is `__main__`, else None.
    """

    module: str
    qualname: str
    file: str | None = None


class ToolSpec(msgspec.Struct, frozen=True, tag=True):
    """The description of a tool for a model, and where a worker finds it.

    parameters: a JSON Schema object (type, properties, required). exclusive: no other call of a
    turn runs while a call of this tool does.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: FunctionRef
    exclusive: bool = False


class ToolProblem(msgspec.Struct, frozen=True, tag=True):
    """A tool that cannot be described: import error, missing attribute, unusable signature."""

    function: FunctionRef
    reason: str


# --- control socket ------------------------------------------------------------------------


class Build(Message, frozen=True, tag="build"):
    """Host to spawner, first: build this. With it come a sealed memfd that holds the plan, and the
    cancel board."""

    protocol: int


class InitBorn(Message, frozen=True, tag="init_born"):
    """Spawner to host, first message, with a pidfd of init, which waits until this is sent.

    Where the tools' /tmp is on the disk, a descriptor of what the sandbox keeps there comes second.
    area: its path; "" if it has none. why: why it is a folder, and not a file system of its own.
    """

    protocol: int
    area: str = ""
    why: str = ""


class InitHello(Message, frozen=True, tag="init_hello"):
    """Init to host: the sandbox is built."""

    protocol: int


class InitFailed(Message, frozen=True, tag="init_failed"):
    """Spawner or init to host: the sandbox could not be built. The step says where.

    number: the errno; 0 for none. hint: for this very failure; "" where step and errno decide it.
    """

    protocol: int
    step: str
    reason: str
    number: int = 0
    hint: str = ""


class NewCall(Message, frozen=True, tag="new_call"):
    """Host to init: make a call's processes.

    With it come descriptors, in this order: the worker's inbox (socket), its outbox (pipe, write
    end), the wake pipe (read end), the status pipe (write end), standard output (pipe, write
    end), standard error (pipe, write end), and one for each control group that the call joins.

    fresh_view: the call gets a home folder, /tmp and /dev/shm of its own.
    """

    id: str
    fresh_view: bool = False


class Freeze(Message, frozen=True, tag="freeze"):
    """Host to init: stop all processes of calls, and of those to come, until Thaw. SIGSTOP."""


class Thaw(Message, frozen=True, tag="thaw"):
    """Host to init: continue every process (SIGCONT)."""


class Frozen(Message, frozen=True, tag="frozen"):
    """Init to host: the answer to Freeze."""


class CallBorn(Message, frozen=True, tag="call_born"):
    """Init to host, with the pidfd of the call's init.

    Without namespaces: with an eventfd that says that nothing of the call is left, and the pidfd of
    its supervisor. mark: the hard RLIMIT_LOCKS of the call's processes; 0 for none.
    """

    id: str
    mark: int = 0


class CallFailed(Message, frozen=True, tag="call_failed"):
    """Init to host: the call's processes could not be made. number: the errno; 0 for none."""

    id: str
    step: str
    reason: str
    number: int = 0


class OverLimit(Message, frozen=True, tag="over_limit"):
    """Init to host: a call is over a limit that init looks at. limit: the name of its field. what:
    init does about it."""

    id: str
    limit: str
    what: str


# --- worker --------------------------------------------------------------------------------


class Ready(Message, frozen=True, tag="ready"):
    """Worker to host, first message: it is sealed, and waits. No foreign code has run yet."""

    protocol: int


class Call(Message, frozen=True, tag="call"):
    """Host to worker: run one tool.

    slot, word: the cancel board's slot and the word that means "not cancelled".
    arguments: a JSON object as bytes; None when they come in a sealed memfd with this message.
    cwd: absolute path inside the sandbox.  env: the tool's whole environment.
    output_limit: bytes of result text that the host will keep.
    has_stdin: with this message comes the read end of a pipe, the tool's standard input. It is the
    first of the descriptors.
    """

    id: str
    slot: int
    word: int
    function: FunctionRef
    arguments: bytes | None
    cwd: str
    env: dict[str, str]
    output_limit: int
    has_stdin: bool = False


class Describe(Message, frozen=True, tag="describe"):
    """Host to worker: import these functions and describe them for a model."""

    functions: list[FunctionRef]
    cwd: str
    env: dict[str, str]


class Started(Message, frozen=True, tag="started"):
    """Worker to host: the arguments fit, the flag was not set, and the tool's code runs now."""


class Part(Message, frozen=True, tag="part"):
    """Worker to host: a piece of the content of the Result that follows, in UTF-8, cut anywhere."""

    data: bytes


class ResultKind(StrEnum):
    """What a worker reports about its tool. The host decides the outcome, which may differ."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UNMADE = "unmade"
    """The call could not be made: its function cannot be imported, or its command not started."""


class Image(msgspec.Struct, frozen=True):
    """An image for the model to look at. media_type: as in "image/png"; data: the file's bytes."""

    media_type: str
    data: bytes


class Result(Message, frozen=True, tag="result"):
    """Worker to host, last message of a call.

    content: what the tool returned, as text; after Parts, the rest of it. What it printed went to
    standard output.
    left, left_count: the processes that were still there and end with the call: the first commands,
    and how many there were.
    exit_status: of a command that the tool ran, also of one that was stopped. A negative number is
    a signal, as in `subprocess`. private_files: that a file tool wrote in a place that is lost with
    the sandbox. cpu_seconds: CPU time of the processes that the worker waited for.
    """

    kind: ResultKind
    content: str
    exit_status: int | None = None
    images: tuple[Image, ...] = ()
    left: tuple[str, ...] = ()
    left_count: int = 0
    private_files: tuple[str, ...] = ()
    cpu_seconds: float = 0.0


class Described(Message, frozen=True, tag="described"):
    """Worker to host: the answer to Describe, in its order."""

    tools: list[ToolSpec | ToolProblem]


# --- sessions: a worker that answers many requests -------------------------------------------


class Serve(Message, frozen=True, tag="serve"):
    """Host to worker: be a session. The function is called with the worker's end of the channels,
    and serves requests until the host closes its end."""

    function: FunctionRef
    cwd: str
    env: dict[str, str]


class Serving(Message, frozen=True, tag="serving"):
    """Worker to host, once: the session's function is ready for requests."""


class Request(Message, frozen=True, tag="request"):
    """Host to a session: one more request. Its slot and word are as in Call.

    With it comes the read end of its own wake pipe, and then, when body is None, a sealed memfd
    that holds the body.
    """

    id: str
    slot: int
    word: int
    body: bytes | None


class Reply(Message, frozen=True, tag="reply"):
    """Session to host: a piece of an answer."""

    id: str
    body: bytes


class Done(Message, frozen=True, tag="done"):
    """Session to host: the last piece of an answer. No work for the request goes on."""

    id: str
    body: bytes


FromInit = InitBorn | InitHello | InitFailed | CallBorn | CallFailed | Frozen | OverLimit
ToSpawner = Build
ToInit = NewCall | Freeze | Thaw
FromWorker = Ready | Started | Part | Result | Described
ToWorker = Call | Describe | Serve
FromSession = Ready | Serving | Reply | Done
ToSession = Request
