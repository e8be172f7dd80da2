"""The blocking ends: pipes of frames, one-way sockets, descriptors, sealed arguments."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sandbox_agent_ipc import memfd
from sandbox_agent_ipc.channel import (
    MAX_DATAGRAM,
    MAX_DESCRIPTORS,
    Inbox,
    Outbox,
    big_arguments,
    call_socketpair,
    read_arguments,
    recv_datagram,
    send_datagram,
)
from sandbox_agent_ipc.codec import decode, encode
from sandbox_agent_ipc.errors import ChannelClosed, DescriptorsLost, ProtocolError
from sandbox_agent_ipc.framing import FrameDecoder
from sandbox_agent_ipc.messages import FromWorker, NewCall, Ready, Result, ResultKind, Started
from sandbox_agent_ipc.shortage import SHORTAGES, explained, shortage_of

Forked = Callable[[Callable[[], object]], Any]
Pair = tuple[socket.socket, socket.socket]
DEADLINE = 20.0


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.settimeout(DEADLINE)
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        os.close(fd)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- worker to host ------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "non-blocking"])
def test_a_message_longer_than_the_pipe_arrives_whole(
    pipe: tuple[int, int], blocking: bool
) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    message = Result(ResultKind.OK, "x" * 1_000_000)
    thread = threading.Thread(target=Outbox(writer).send, args=[message])
    thread.start()
    decoder, frames = FrameDecoder(), list[bytes]()
    while not frames:
        frames += decoder.feed(os.read(reader, 7001))
    thread.join(DEADLINE)
    assert [decode(frame, FromWorker) for frame in frames] == [message]


def test_signals_in_the_middle_of_a_message_do_not_break_it(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    message = Result(ResultKind.OK, "x" * 1_500_000)
    struck: list[int] = []
    frames: list[bytes] = []
    main = threading.main_thread().ident

    def read() -> None:
        decoder = FrameDecoder()
        while not frames:
            frames.extend(decoder.feed(os.read(reader, 30_000)))
            signal.pthread_kill(main or 0, signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, lambda *_: struck.append(1))
    try:
        thread = threading.Thread(target=read)
        thread.start()
        Outbox(writer).send(message)
        thread.join(DEADLINE)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert decode(frames[0], FromWorker) == message
    assert struck


def test_sending_to_nobody_says_that_the_channel_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(ChannelClosed, match="gone"):
        Outbox(writer).send(Started())
    os.close(writer)


def test_a_message_that_is_too_long_is_refused_before_a_byte_is_written(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    with pytest.raises(ProtocolError, match="a frame holds"):
        Outbox(writer).send(Result(ResultKind.OK, "x" * 3_000_000))
    assert not select.select([reader], [], [], 0)[0]


# --- host to worker ------------------------------------------------------------------------


def test_messages_arrive_one_by_one_with_their_descriptors(
    pair: Pair, pipe: tuple[int, int]
) -> None:
    here, there = pair
    send_datagram(here, NewCall("one"), pipe)
    send_datagram(here, NewCall("two"))
    message, fds = Inbox(there).receive(NewCall)
    assert message == NewCall("one")
    assert len(fds) == 2
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(fd).st_ino for fd in pipe]
    for fd in fds:
        assert not os.get_inheritable(fd)
        os.close(fd)
    assert Inbox(there).receive(NewCall) == (NewCall("two"), [])


def test_the_end_of_file_says_that_the_channel_is_closed(pair: Pair) -> None:
    here, there = pair
    here.close()
    with pytest.raises(ChannelClosed):
        recv_datagram(there, NewCall)
    with pytest.raises(ChannelClosed):
        send_datagram(there, NewCall("one"))


def test_a_peer_that_left_with_mail_unread_is_gone_too(pair: Pair) -> None:
    here, there = pair
    send_datagram(here, NewCall("never read"))
    there.close()
    with pytest.raises(ChannelClosed):
        recv_datagram(here, NewCall)


def test_an_empty_non_blocking_socket_says_so(pair: Pair) -> None:
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        recv_datagram(pair[1], NewCall)


def test_the_longest_datagram_passes_and_a_longer_one_is_refused(pair: Pair) -> None:
    here, there = pair
    room = MAX_DATAGRAM - len(encode(NewCall("x" * 70_000))) + 70_000
    send_datagram(here, NewCall("x" * room))
    assert recv_datagram(there, NewCall)[0] == NewCall("x" * room)
    with pytest.raises(ProtocolError, match="a datagram holds"):
        send_datagram(here, NewCall("x" * (room + 1)))


def test_a_socket_with_a_small_buffer_names_the_hint(pair: Pair) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    with pytest.raises(ProtocolError, match="wmem_default"):
        send_datagram(pair[0], NewCall("x" * 100_000))


def test_a_foreign_datagram_that_is_too_long_is_refused(pair: Pair) -> None:
    here, there = pair
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_DATAGRAM)
    try:
        here.send(b"x" * (MAX_DATAGRAM + 1))
    except OSError as error:
        assert error.errno == errno.EMSGSIZE  # this kernel's limit is lower than ours
        return
    with pytest.raises(ProtocolError, match="arrived"):
        recv_datagram(there, NewCall)


@pytest.mark.parametrize("data", [b"\xc1", b"garbage", encode(Ready(1)), b"{" * 5000])
def test_garbage_is_refused_and_what_came_with_it_is_closed(
    pair: Pair, pipe: tuple[int, int], data: bytes
) -> None:
    here, there = pair
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", pipe))]
    before = open_descriptors()
    here.sendmsg([data], rights)
    with pytest.raises(ProtocolError, match="not a message that is due here"):
        recv_datagram(there, NewCall)
    assert open_descriptors() == before


def test_too_many_descriptors_are_refused_on_both_sides_and_none_stays(
    pair: Pair, pipe: tuple[int, int]
) -> None:
    here, there = pair
    many = [pipe[0]] * (MAX_DESCRIPTORS + 1)
    with pytest.raises(ProtocolError, match="may travel"):
        send_datagram(here, NewCall("one"), many)
    before = open_descriptors()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", many))]
    here.sendmsg([encode(NewCall("one"))], rights)
    with pytest.raises(DescriptorsLost, match="more than 8 descriptors were sent") as lost:
        recv_datagram(there, NewCall)
    assert lost.value.message == NewCall("one")
    assert shortage_of(lost.value) is None
    assert open_descriptors() == before
    send_datagram(here, NewCall("two"), many[1:])
    _, fds = recv_datagram(there, NewCall)
    assert len(fds) == MAX_DESCRIPTORS
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_descriptors_that_find_no_room_are_a_shortage(
    forked: Forked, pair: Pair, room: int
) -> None:
    here, there = pair
    send_datagram(here, NewCall("one"), [here.fileno()] * 3)

    def receive() -> str:
        before = open_descriptors()
        lowest = os.dup(0)
        os.close(lowest)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
        try:
            recv_datagram(there, NewCall)
        except DescriptorsLost as lost:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return f"{lost.message} {explained(lost)} {open_descriptors() - before}"
        return "all came"

    assert forked(receive).answer == f"{NewCall('one')} {SHORTAGES[errno.EMFILE]} 0"


def test_a_worker_can_send_neither_bytes_nor_descriptors_back(forked: Forked) -> None:
    def attack(end: socket.socket) -> str:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno()]))]
        outcomes = []
        for ancillary in ([], rights):
            try:
                end.sendmsg([b"x"], ancillary, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
                outcomes.append("sent")
            except OSError as error:
                outcomes.append(errno.errorcode[error.errno or 0])
        return " ".join(outcomes)

    host, worker = call_socketpair()
    with host, worker:
        assert forked(lambda: attack(worker)).answer == "EPIPE EPIPE"
        send_datagram(host, NewCall("this way"))
        assert recv_datagram(worker, NewCall)[0] == NewCall("this way")
    ordinary, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ordinary, other:
        assert forked(lambda: attack(other)).answer == "sent sent"


# --- big arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_arguments_pass_through_sealed_memory(size: int, forked: Forked) -> None:
    data = os.urandom(size)
    fd = big_arguments(data)
    try:
        assert forked(lambda: read_arguments(fd, size) == data).answer == "True"
        assert read_arguments(fd, size) == data  # the child moved no shared offset
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_arguments_cannot_be_changed_by_who_receives_them(forked: Forked) -> None:
    def attack(fd: int) -> str:
        outcomes = []
        for attempt in (
            lambda: os.pwrite(fd, b"y", 0),
            lambda: os.ftruncate(fd, 0),
            lambda: os.ftruncate(fd, 10_000),
        ):
            try:
                attempt()
                outcomes.append("changed")
            except OSError as error:
                outcomes.append(errno.errorcode[error.errno or 0])
        return " ".join(outcomes)

    fd = big_arguments(b"{}")
    assert forked(lambda: attack(fd)).answer == "EPERM EPERM EPERM"
    os.close(fd)
    fd = memfd.create("unsealed")
    assert forked(lambda: attack(fd)).answer == "changed changed changed"
    os.close(fd)


@pytest.mark.parametrize("missing", ["F_SEAL_WRITE", "F_SEAL_SHRINK", "F_SEAL_GROW"])
def test_memory_that_could_still_change_is_refused(missing: str) -> None:
    fd = memfd.create("half sealed")
    os.write(fd, b"{}")
    seals = {
        name: getattr(fcntl, name) for name in ("F_SEAL_WRITE", "F_SEAL_SHRINK", "F_SEAL_GROW")
    }
    memfd.add_seals(fd, sum(seal for name, seal in seals.items() if name != missing))
    with pytest.raises(ProtocolError, match="not sealed"):
        read_arguments(fd, 100)
    memfd.add_seals(fd, seals[missing])
    assert read_arguments(fd, 100) == b"{}"
    os.close(fd)


def test_too_much_is_refused_before_it_is_read() -> None:
    fd = memfd.create("huge")
    os.ftruncate(fd, 2**29)  # a hole: it takes no memory
    memfd.add_seals(fd, memfd.F_SEAL_WRITE | memfd.F_SEAL_SHRINK | memfd.F_SEAL_GROW)
    with pytest.raises(ProtocolError, match=f"arguments of {2**29} bytes; at most 1000"):
        read_arguments(fd, 1000)
    os.close(fd)


def test_what_is_no_memfd_is_refused(pipe: tuple[int, int]) -> None:
    with pytest.raises(ProtocolError, match="no memfd"):
        read_arguments(pipe[0], 1000)


def test_descriptors_that_others_left_in_sockets_leave_room_for_ours(
    forked: Forked, uid: int
) -> None:
    """The kernel counts them for the user, and holds against the sender's limit. unix(7)"""

    def body() -> str:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        held = []
        full = ""
        for _ in range(8):
            held.append(socket.socketpair())
            try:
                socket.send_fds(held[-1][0], [b"x"], [1] * 20)
            except OSError as error:
                full = errno.errorcode[error.errno or 0]
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        send_datagram(one, NewCall("call"), [1])
        _, received = recv_datagram(other, NewCall)
        return f"{full} {len(received)} {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"

    # Root's processes may go over it. capabilities(7)
    assert forked(body).answer == f"{'ETOOMANYREFS' if uid else ''} 1 64"
