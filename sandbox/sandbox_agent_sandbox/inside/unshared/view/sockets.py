"""connect(2), bind(2) and listen(2) of tools, on their own sockets, with addresses that are looked
at.

With `network: loopback`, TCP reaches what the tools of the same call listen on, at 127.0.0.0/8 and
::1, and no other server of the host. A socket that is to listen on all addresses listens on the
loopback interface. Every other address is as unreachable as in a network namespace of its own.

A Unix socket with a path can be made where tools may make files, and connected to there and where
the policy names it. Others are services of the user outside, which would do work for a tool.
Abstract names are not for tools: they are the host's. unix(7)
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import os
import socket
import stat
import struct
from _queue import SimpleQueue  # not from `queue`, which imports `threading`
from collections.abc import Callable

from sandbox_agent_sandbox.inside.unshared.view import notify
from sandbox_agent_sandbox.inside.unshared.view.listening import Listening
from sandbox_agent_sandbox.inside.unshared.view.notify import NUMBERS, Notification
from sandbox_agent_sandbox.inside.unshared.view.threads import become, enter_view
from sandbox_agent_sandbox.plan import Plan

_libc = ctypes.CDLL(None, use_errno=True)

_CONNECT, _BIND, _LISTEN = (NUMBERS.get(name, -1) for name in ("connect", "bind", "listen"))
_LONGEST = 128
"""Bytes of struct sockaddr_storage."""
_INET = struct.Struct("!2xH4s8x")
_INET6 = struct.Struct("!2xHI16sI")
_LOOPBACK = b"\x7f\0\0\1"
_LOOPBACK6 = bytes(15) + b"\1"
_MAPPED = bytes(10) + b"\xff\xff"


class Sockets:
    """Of one call. For any thread. own, ruleset: as of `Broker`."""

    def __init__(self, listener: int, plan: Plan, own: str, ruleset: int) -> None:
        assert plan.unshared is not None
        self._listener = listener
        self._network = plan.network
        self._reachable = (own, *plan.unshared.sockets)
        self._listening = Listening()
        self._binder = _Binder(plan, ruleset)

    def serve(self, asked: Notification, process: int, taken: int) -> int:
        """Carry out a call. taken: the caller's socket. Returns EINPROGRESS where the connection is
        on its way, else 0. Raises OSError with the errno for the caller."""
        if not stat.S_ISSOCK(os.fstat(taken).st_mode):
            raise OSError(errno.ENOTSOCK, "no socket")
        with socket.socket(fileno=os.dup(taken)) as sock:
            family: int = sock.family
            if asked.number == _LISTEN:
                backlog = ctypes.c_int(asked.arguments[1] & 0xFFFFFFFF).value
                self._listen(sock, family, backlog)
            else:
                address = self._address(asked, process)
                if asked.number == _BIND:
                    self._bind(asked, process, sock, family, address)
                else:
                    try:
                        self._connect(asked, process, sock, family, address)
                    except BlockingIOError as error:
                        if error.errno != errno.EINPROGRESS:
                            raise
                        return errno.EINPROGRESS
        return 0

    def _address(self, asked: Notification, process: int) -> bytes:
        size = asked.arguments[2] & 0xFFFFFFFF
        if not 2 <= size <= _LONGEST:
            raise OSError(errno.EINVAL, "the size of an address")
        address = notify.read_memory(process, asked.arguments[1], size)
        if len(address) != size or not notify.still_waits(self._listener, asked):
            raise OSError(errno.EFAULT, "the address")
        return address

    # --- TCP

    def _connect(
        self, asked: Notification, process: int, sock: socket.socket, family: int, address: bytes
    ) -> None:
        if family == socket.AF_UNIX:
            self._connect_path(asked, process, sock, address)
        elif self._network == "host" or _family(address) == socket.AF_UNSPEC:
            _call(_libc.connect, sock, address)
        else:
            self._check(sock, family)
            port, host = _parsed(family, address)
            if not _is_loopback(host):
                raise OSError(errno.ENETUNREACH, "not the loopback interface")
            if not self._listening.has(port):
                raise OSError(errno.ECONNREFUSED, "no server of this call")
            _call(_libc.connect, sock, _packed(family, port, host))

    def _bind(
        self, asked: Notification, process: int, sock: socket.socket, family: int, address: bytes
    ) -> None:
        if family == socket.AF_UNIX:
            _path(address)
            with _folder_of(asked.thread, self._listener, asked) as folder:
                self._binder.bind(sock.fileno(), address, folder.fd, notify.umask_of(process))
        elif self._network == "host":
            _call(_libc.bind, sock, address)
        else:
            self._check(sock, family)
            port, host = _parsed(family, address)
            self._bind_loopback(sock, family, port, host)

    def _bind_loopback(self, sock: socket.socket, family: int, port: int, host: bytes) -> None:
        if not any(host):  # all addresses
            only6 = family == socket.AF_INET6 and sock.getsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
            )
            mapped = _LOOPBACK6 if only6 else _MAPPED + _LOOPBACK
            host = _LOOPBACK if family == socket.AF_INET else mapped
        if not _is_loopback(host):
            raise OSError(errno.EADDRNOTAVAIL, "not the loopback interface")
        if 0 < port < _first_free_port():
            raise OSError(errno.EACCES, "a privileged port")
        # Else it could take connections that are meant for another server of the user.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        _call(_libc.bind, sock, _packed(family, port, host))
        self._listening.bound(sock)

    def _listen(self, sock: socket.socket, family: int, backlog: int) -> None:
        if family in (socket.AF_INET, socket.AF_INET6) and self._network != "host":
            self._check(sock, family)
            # One that has no address would listen on all. One that has it from a connection loses
            # it with that (AF_UNSPEC), perhaps just after a look. One that was bound keeps it.
            if not self._listening.is_bound(sock):
                self._bind_loopback(sock, family, 0, bytes(4 if family == socket.AF_INET else 16))
            self._listening.add(sock)
        sock.listen(backlog)

    def _check(self, sock: socket.socket, family: int) -> None:
        known = family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
        if self._network != "loopback" or not known or sock.proto != socket.IPPROTO_TCP:
            raise OSError(errno.EACCES, "no socket of TCP")

    # --- paths

    def _connect_path(
        self, asked: Notification, process: int, sock: socket.socket, address: bytes
    ) -> None:
        if sock.type not in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            raise OSError(errno.EPROTOTYPE, "datagrams")
        path = _path(address)
        with _folder_of(asked.thread, self._listener, asked) as folder:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=folder.fd)
        try:
            # Where it is now, without links. It is connected to by this descriptor, so it matters
            # no longer what the path leads to.
            real = os.readlink(f"/proc/self/fd/{place}")
            if not any(f"{real}/".startswith(f"{one}/") for one in self._reachable):
                raise OSError(errno.EACCES, "the policy does not name it")
            name = f"/proc/self/fd/{place}".encode() + b"\0"
            _call(_libc.connect, sock, struct.pack("=H", socket.AF_UNIX) + name)
        finally:
            os.close(place)


class _Binder:
    """Makes sockets with paths, in a thread that has the tools' view: so the kernel decides where
    one can be made, whatever links a path leads through. The address that programs ask for with
    getsockname(2) is what they gave."""

    def __init__(self, plan: Plan, ruleset: int) -> None:
        self._identity = plan.identity
        self._ruleset = ruleset
        self._lock = _thread.allocate_lock()
        self._asked: SimpleQueue[Callable[[], OSError | None]] = SimpleQueue()
        self._answers: SimpleQueue[OSError | None] = SimpleQueue()
        self._has_thread = False

    def bind(self, fd: int, address: bytes, folder: int, umask: int) -> None:
        """Bind a socket. folder: where a relative path starts."""

        def make() -> OSError | None:
            try:
                # Of the whole process, in which no other thread looks at them: unshare(2) is
                # refused in most containers.
                os.fchdir(folder)
                os.umask(umask)
                _call(_libc.bind, fd, address)
            except OSError as error:
                return error
            finally:
                os.chdir("/")
            return None

        with self._lock:
            if not self._has_thread:
                _thread.start_new_thread(self._main, ())
                self._has_thread = True
            self._asked.put(make)
            error = self._answers.get()
        if error is not None:
            raise error

    def _main(self) -> None:
        failure: OSError | None = None
        try:
            become(self._identity.outside_uid, self._identity.outside_gid)
            enter_view(self._ruleset)
        except OSError as error:
            failure = error
        while True:
            make = self._asked.get()
            self._answers.put(make() if failure is None else failure)


class _Folder:
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _folder_of(thread: int, listener: int, asked: Notification) -> _Folder:
    """The working folder of a caller."""
    folder = _Folder(os.open(f"/proc/{thread}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    if not notify.still_waits(listener, asked):
        os.close(folder.fd)
        raise OSError(errno.ESRCH, "the caller has ended")
    return folder


def _path(address: bytes) -> bytes:
    """The path in a struct sockaddr_un."""
    if _family(address) != socket.AF_UNIX:
        raise OSError(errno.EAFNOSUPPORT, "no address of a Unix socket")
    path = address[2:].partition(b"\0")[0]
    if not path:
        raise OSError(errno.EACCES, "an abstract name, or none")
    return path


def _family(address: bytes) -> int:
    return int(struct.unpack_from("=H", address)[0])


def _parsed(family: int, address: bytes) -> tuple[int, bytes]:
    """The port, and the address in network order."""
    if _family(address) != family:
        raise OSError(errno.EAFNOSUPPORT, "an address of another family")
    if family == socket.AF_INET and len(address) >= _INET.size:
        port, host = _INET.unpack_from(address)
        return port, host
    if family == socket.AF_INET6 and len(address) >= 24:
        port, _, host, _ = _INET6.unpack_from(address.ljust(_INET6.size, b"\0"))
        return port, host
    raise OSError(errno.EINVAL, "the size of an address")


def _packed(family: int, port: int, host: bytes) -> bytes:
    packed = _INET.pack(port, host) if family == socket.AF_INET else _INET6.pack(port, 0, host, 0)
    return struct.pack("=H", family) + packed[2:]


def _is_loopback(host: bytes) -> bool:
    if len(host) == len(_LOOPBACK6) and not host.startswith(_MAPPED):
        return host == _LOOPBACK6
    return host.removeprefix(_MAPPED)[:1] == _LOOPBACK[:1]


def _first_free_port() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def _call(function: Callable[..., int], sock: socket.socket | int, address: bytes) -> None:
    fd = sock if isinstance(sock, int) else sock.fileno()
    if function(fd, address, len(address)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
