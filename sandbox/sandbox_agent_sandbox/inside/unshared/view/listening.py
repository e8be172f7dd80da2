"""Which sockets of one call have addresses of the loopback interface, and listen there."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

_LISTEN, _LISTENS = 10, "0A"
"""TCP_LISTEN, and as /proc says it."""
_SOCK_DIAG, _BY_FAMILY, _DUMP = 4, 20, 0x301
"""NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP."""
_ERROR, _DONE = 2, 3
_REQUEST = struct.Struct("=IHHIIBBBBIHH44x")
"""struct nlmsghdr, struct inet_diag_req_v2: the port is the first part of its idiag_sockid."""
_INODE = 16 + 68
"""Where struct inet_diag_msg has it, behind the header."""
_MOST = 4096


class Listening:
    """For any thread. The sockets are known by their inodes, and the kernel says what they listen
    on now: a port that a tool has given up may be another program's a moment later. proc_net(5)"""

    def __init__(self) -> None:
        self._inodes: dict[int, None] = {}
        self._bound: dict[int, None] = {}

    def add(self, sock: socket.socket) -> None:
        """A socket of this call is to listen."""
        _add(self._inodes, sock)

    def bound(self, sock: socket.socket) -> None:
        """A socket of this call has got an address of the loopback interface, for good."""
        _add(self._bound, sock)

    def is_bound(self, sock: socket.socket) -> bool:
        """Whether it has."""
        return os.fstat(sock.fileno()).st_ino in self._bound

    def has(self, port: int) -> bool:
        """Whether a socket of this call, and no other, listens on a port."""
        found = list(_listeners(port))
        return bool(found) and all(inode in self._inodes for inode in found)


def _add(inodes: dict[int, None], sock: socket.socket) -> None:
    inodes[os.fstat(sock.fileno()).st_ino] = None
    while len(inodes) > _MOST:
        inodes.pop(next(iter(inodes)))


def _listeners(port: int) -> Iterator[int]:
    """The inodes of the sockets that listen on a port, on whatever address."""
    try:
        found = [*_asked(socket.AF_INET, port), *_asked(socket.AF_INET6, port)]
    except OSError:  # the kernel has no such module, or may not load it
        found = list(_read(port))
    yield from found


def _asked(family: int, port: int) -> Iterator[int]:
    """As the kernel says at once; /proc/net/tcp takes ten milliseconds. sock_diag(7)"""
    request = _REQUEST.pack(
        *(_REQUEST.size, _BY_FAMILY, _DUMP, 0, 0),
        *(family, socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN),
        *(socket.htons(port), 0),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asking:
        asking.sendall(request)
        while True:
            data = asking.recv(1 << 16)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind == _DONE:
                    return
                if kind == _ERROR or size < _INODE + 4:
                    raise OSError(errno.EOPNOTSUPP, "sock_diag")
                yield struct.unpack_from("=I", data, _INODE)[0]
                data = data[(size + 3) & ~3 :]


def _read(port: int) -> Iterator[int]:
    wanted = f":{port:04X}"
    for path in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                for line in file:
                    fields = line.split()
                    if len(fields) > 9 and fields[3] == _LISTENS and fields[1].endswith(wanted):
                        yield int(fields[9])
        except FileNotFoundError:
            continue
