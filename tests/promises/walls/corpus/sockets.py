"""Class: sockets of every family. The services outside belong to the host's program."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from . import kernel_calls
from .attempt import ROOT, Attempt, Stage, attempt
from .outside import holds_socket, listens, loot

ATTEMPTS: list[Attempt] = []
POLICY = {"read": ["{library}"]}
SERVICES = True


def serves_itself(stage: Stage) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname(), timeout=5)
    peer = server.accept()[0]
    client.sendall(b"hello")
    assert peer.recv(5) == b"hello"


def serves_itself_by_ipv6(stage: Stage) -> None:
    server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    socket.create_connection(server.getsockname()[:2], timeout=5).close()


def sends_itself_datagrams(stage: Stage) -> None:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    one.settimeout(5)
    one.sendto(b"x", one.getsockname())
    assert one.recv(1) == b"x"


def serves_in_its_folder(stage: Stage) -> None:
    path = str(stage.work / "own.sock")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    os.unlink(path)


def serves_without_a_path(stage: Stage) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0own" + stage.mark)
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect("\0own" + stage.mark)


def has_a_pair(stage: Stage) -> None:
    one, other = socket.socketpair()
    one.sendall(b"x")
    assert other.recv(1) == b"x"


def resolves_its_host(stage: Stage) -> None:
    assert socket.getaddrinfo("localhost", 80)


def asks_for_routes(stage: Stage) -> None:
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    one.settimeout(5)
    one.send(struct.pack("IHHIIBxxx", 20, 18, 0x301, 1, 0, 0))  # RTM_GETLINK, NLM_F_DUMP
    assert b"lo\0" in one.recv(65536)


def _banner(stage: Stage, one: socket.socket, address: object) -> None:
    one.settimeout(2)
    with one:
        one.connect(address)  # type: ignore[arg-type]
        stage.take(one.recv(200))


@attempt(ATTEMPTS, loot("service"), serves_itself, blind=True)
def loopback(stage: Stage) -> None:
    """Connects to a service on the host's 127.0.0.1."""
    _banner(stage, socket.socket(), ("127.0.0.1", stage.port))


@attempt(ATTEMPTS, loot("service"), serves_itself, blind=True)
def any_address(stage: Stage) -> None:
    """Connects to the host's service by the address 0.0.0.0."""
    _banner(stage, socket.socket(), ("0.0.0.0", stage.port))


@attempt(
    ATTEMPTS,
    loot("service"),
    serves_itself_by_ipv6,
    blind=True,
    needs=lambda: None if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6") else "no IPv6",
)
def loopback_by_ipv6(stage: Stage) -> None:
    """Connects to a service on the host's ::1."""
    _banner(stage, socket.socket(socket.AF_INET6), ("::1", stage.port6))


@attempt(
    ATTEMPTS,
    loot("service"),
    serves_itself,
    blind=True,
    needs=lambda: None if os.path.exists("/proc/sys/net/mptcp") else "no MPTCP",
)
def multipath(stage: Stage) -> None:
    """Connects by Multipath TCP, a protocol that filters of TCP may forget."""
    _banner(
        stage, socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262), ("127.0.0.1", stage.port)
    )


@attempt(ATTEMPTS, loot("service"), sends_itself_datagrams, blind=True)
def datagrams(stage: Stage) -> None:
    """Asks a UDP service of the host's loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.connect(("127.0.0.1", stage.udp_port))  # then nobody there is an error
        one.send(b"?")
        stage.take(one.recv(200))


@attempt(ATTEMPTS, loot("service"), serves_without_a_path, blind=True)
def abstract_name(stage: Stage) -> None:
    """Connects to a Unix socket without a path, as D-Bus and X11 have. unix(7)"""
    _banner(stage, socket.socket(socket.AF_UNIX), "\0" + stage.abstract)


@attempt(ATTEMPTS, loot("service"), serves_in_its_folder, blind=True)
def socket_in_home(stage: Stage) -> None:
    """Connects to an agent's socket in the home folder."""
    _banner(stage, socket.socket(socket.AF_UNIX), str(stage.home / "agent.sock"))


@attempt(ATTEMPTS, loot("service"), serves_in_its_folder, blind=True)
def socket_in_tmp(stage: Stage) -> None:
    """Connects to a socket in /tmp, as tmux and ssh-agent have."""
    _banner(stage, socket.socket(socket.AF_UNIX), str(stage.temporary / "agent.sock"))


@attempt(ATTEMPTS, loot("service"), has_a_pair, blind=True)
def inherited_connection(stage: Stage) -> None:
    """Uses a connection that the starter forgot to close."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number > 2 and os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                one = socket.socket(fileno=os.dup(number))
                one.settimeout(1)
                stage.take(one.recv(200, socket.MSG_PEEK))
        except OSError:
            continue


@attempt(ATTEMPTS, loot("service"), has_a_pair, blind=True)
def socket_by_proc(stage: Stage) -> None:
    """Connects to a host's socket by the root folder of a host's process."""
    path = f"/proc/{stage.pid}/root{stage.home}/agent.sock"
    os.chdir(os.path.dirname(path))
    _banner(stage, socket.socket(socket.AF_UNIX), "agent.sock")


@attempt(ATTEMPTS, listens("taken_port"), serves_itself, held=True, blind=True)
def take_a_port(stage: Stage) -> None:
    """Listens on a port of the host, where a program of the host then connects."""
    server = socket.create_server(("127.0.0.1", stage.taken_port))
    os.dup(server.fileno())
    server.detach()


@attempt(ATTEMPTS, listens("taken_name"), serves_without_a_path, held=True, blind=True)
def take_an_abstract_name(stage: Stage) -> None:
    """Takes the abstract name of a service, where a program of the host then connects."""
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0" + stage.taken_name)
    server.listen()
    server.detach()


@attempt(ATTEMPTS, loot("port_number"), asks_for_routes, blind=True)
def socket_statistics(stage: Stage) -> None:
    """Asks the kernel for all sockets of the host. sock_diag(7)"""
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    one.settimeout(2)
    # inet_diag_req_v2 for all TCP sockets that listen
    body = struct.pack("BBBxI", socket.AF_INET, 6, 0, 1 << 10) + bytes(48)
    one.send(struct.pack("IHHII", 16 + len(body), 20, 0x301, 1, 0) + body)
    while True:
        answer = one.recv(65536)
        at = 0
        while at + 16 <= len(answer):
            size, kind = struct.unpack_from("IH", answer, at)
            if kind in (2, 3) or size < 16:
                return
            stage.take(f"port={struct.unpack_from('>H', answer, at + 16 + 4)[0]};")
            at += (size + 3) & ~3


def _family(
    name: str,
    family: int,
    kind: int,
    protocol: int = 0,
    *,
    persons: tuple[str, ...] = ("root", "user"),
    says: str,
) -> None:
    """An attempt that makes a socket of a family that no tool needs."""
    try:
        # Whether this kernel has it; the modules of some are loaded when they are first asked for.
        probe = kernel_calls.socket_exists(family, kind, protocol)
    except OSError:
        probe = False

    def attack(stage: Stage) -> None:
        socket.socket(family, kind, protocol).detach()

    attack.__name__, attack.__doc__ = name, says
    attempt(
        ATTEMPTS,
        holds_socket(),
        has_a_pair,
        persons=persons,
        held=True,
        blind=True,
        needs=lambda: None if probe else "the kernel has no such sockets",
    )(attack)


_family(
    "packets",
    17,
    socket.SOCK_RAW,
    0x0300,
    persons=ROOT,
    says="Opens a socket that sees every packet. packet(7)",
)
_family(
    "raw_addresses",
    socket.AF_INET,
    socket.SOCK_RAW,
    1,
    persons=ROOT,
    says="Opens a raw socket, which forges packets. raw(7)",
)
_family(
    "virtual_machine_sockets",
    40,
    socket.SOCK_STREAM,
    says="Opens a socket to the hypervisor. vsock(7)",
)
_family(
    "kernel_crypto",
    38,
    socket.SOCK_SEQPACKET,
    says="Opens a socket to the kernel's cryptography. AF_ALG",
)
_family(
    "key_management",
    15,
    socket.SOCK_RAW,
    2,
    persons=ROOT,
    says="Opens a socket that manages IPsec keys. AF_KEY",
)
_family(
    "express_data_path",
    44,
    socket.SOCK_RAW,
    persons=ROOT,
    says="Opens a socket that shares rings with a driver. AF_XDP",
)
_family(
    "device_events",
    16,
    socket.SOCK_RAW,
    15,
    says="Listens to the kernel's messages about devices. NETLINK_KOBJECT_UEVENT",
)
_family(
    "netlink_generic",
    16,
    socket.SOCK_RAW,
    16,
    says="Opens a socket to every other netlink service of the kernel. NETLINK_GENERIC",
)
_family(
    "netfilter",
    16,
    socket.SOCK_RAW,
    12,
    says="Opens a socket to the packet filter, a common way into the kernel. NETLINK_NETFILTER",
)
_family("audit", 16, socket.SOCK_RAW, 9, says="Opens a socket to the audit system. NETLINK_AUDIT")


@attempt(ATTEMPTS, loot("interfaces"), asks_for_routes, blind=True)
def interfaces_of_the_host(stage: Stage) -> None:
    """Lists the addresses of the host's network interfaces. netdevice(7)"""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _, name in socket.if_nameindex():
        request = bytearray(struct.pack("256s", name.encode()))
        try:
            fcntl.ioctl(one, 0x8927, request)  # SIOCGIFHWADDR
        except OSError:
            continue
        if any(request[18:24]):
            stage.take("mac=" + bytes(request[18:24]).hex() + ";")
