"""A network namespace of its own, with loopback only. network_namespaces(7)."""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import suppress

_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_IFF_UP = 1
_LO_INDEX = 1
"""Loopback is the first interface of every network namespace."""

_NAME_ADDRESS = "127.0.1.1"
"""The address of the sandbox's own host name, as Debian has it."""

_LOCAL_IPV6 = "fd00::1"
"""A unique local address: RFC 4193."""


def loopback_up() -> None:
    """Bring up `lo` in the caller's network namespace, with a second address. netdevice(7).

    Without that address getaddrinfo(3) with AI_ADDRCONFIG finds nothing at all, not even for
    127.0.0.1: it asks for an address other than 127.0.0.1 and ::1.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14x", b"lo", _IFF_UP)
        fcntl.ioctl(probe.fileno(), _SIOCSIFFLAGS, request)
        for command, address in (
            (_SIOCSIFADDR, _NAME_ADDRESS),
            (_SIOCSIFNETMASK, "255.0.0.0"),
        ):
            packed = struct.pack("16sHH4s8x", b"lo:0", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(probe.fileno(), command, packed)
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        # Where the host has no IPv6, neither has the sandbox. ipv6(7), struct in6_ifreq.
        address6 = socket.inet_pton(socket.AF_INET6, _LOCAL_IPV6)
        fcntl.ioctl(probe.fileno(), _SIOCSIFADDR, struct.pack("16sIi", address6, 128, _LO_INDEX))
