"""A network namespace of its own, with loopback only. network_namespaces(7)."""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def loopback_up() -> None:
    """Bring up `lo` in the caller's network namespace. netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14x", b"lo", _IFF_UP)
        fcntl.ioctl(probe.fileno(), _SIOCSIFFLAGS, request)
