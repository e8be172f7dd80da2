"""Which ports of the loopback interface the tools of one call listen on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

_LISTEN = "0A"
_MOST = 4096


class Listening:
    """For any thread. The sockets are known by their inodes, and the kernel says what they listen
    on now: a port that a tool has given up may be another program's a moment later. proc_net(5)"""

    def __init__(self) -> None:
        self._inodes: dict[int, None] = {}

    def add(self, sock: socket.socket) -> None:
        """A socket of this call is to listen."""
        self._inodes[os.fstat(sock.fileno()).st_ino] = None
        while len(self._inodes) > _MOST:
            self._inodes.pop(next(iter(self._inodes)))

    def has(self, port: int) -> bool:
        """Whether a socket of this call, and no other, listens on a port."""
        found = list(_listeners(port))
        return bool(found) and all(inode in self._inodes for inode in found)


def _listeners(port: int) -> Iterator[int]:
    """The inodes of the sockets that listen on a port, on whatever address."""
    wanted = f":{port:04X}"
    for path in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                for line in file:
                    fields = line.split()
                    if len(fields) > 9 and fields[3] == _LISTEN and fields[1].endswith(wanted):
                        yield int(fields[9])
        except FileNotFoundError:
            continue
