"""The host's program: services, and processes that attempts aim at. Standard library only.

    python -I -S victim.py CONFIG.json PASSWORD

It prints its facts as one line of JSON, and ends when its standard input does.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


def server(family: int, address: object) -> socket.socket:
    one = socket.socket(family)
    one.bind(address)  # type: ignore[arg-type]
    one.listen(64)
    return one


def target(memory: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    libc.prctl(0x59616D61, ctypes.c_ulong(-1 & (1 << 64) - 1), 0, 0, 0)  # PR_SET_PTRACER_ANY
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    while True:
        signal.pause()


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    secret: dict[str, str] = config["secrets"]
    os.unlink(sys.argv[1])
    os.chdir(config["other"])
    file = os.open(f"{config['temporary']}/open", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(file, secret["open_file"].encode())
    os.unlink(f"{config['temporary']}/open")
    memory = ctypes.create_string_buffer(secret["memory"].encode(), 256)
    shm = libc.shmget(0, 4096, 0o1600)
    ctypes.memmove(libc.shmat(shm, None, 0), secret["sysv"].encode(), len(secret["sysv"]))
    queue = libc.msgget(0, 0o1600)
    message = (1).to_bytes(8, "little") + secret["message"].encode()
    libc.msgsnd(queue, message, len(message) - 8, 0)
    semaphore = libc.semget(0, 1, 0o1600)
    services = [server(socket.AF_INET, ("127.0.0.1", 0))]
    port6 = 0
    if os.path.exists("/proc/net/if_inet6"):
        services.append(server(socket.AF_INET6, ("::1", 0)))
        port6 = services[-1].getsockname()[1]
    paths = [f"{config['home']}/agent.sock", f"{config['temporary']}/agent.sock"]
    services += [server(socket.AF_UNIX, path) for path in [*paths, "\0" + config["abstract"]]]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    facts = {
        "pid": os.getpid(),
        "address": ctypes.addressof(memory),
        "secret_fd": file,
        "shm": shm,
        "queue": queue,
        "semaphore": semaphore,
        "port": services[0].getsockname()[1],
        "port6": port6,
        "udp_port": udp.getsockname()[1],
        "targets": {name: target(memory) for name in config["names"]},
    }
    print(json.dumps(facts), flush=True)
    try:
        serve(services, udp, secret["service"].encode())
    finally:
        libc.shmctl(shm, 0, None)
        libc.msgctl(queue, 0, None)
        libc.semctl(semaphore, 0, 0)
        for pid in facts["targets"].values():
            os.kill(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGCONT)


def serve(services: list[socket.socket], udp: socket.socket, banner: bytes) -> None:
    """Says the banner to everybody, until standard input ends. Targets that die stay zombies."""
    selector = selectors.DefaultSelector()
    for one in [*services, udp]:
        one.setblocking(False)
        selector.register(one, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:
                return
            if key.fileobj is udp:
                udp.sendto(banner, udp.recvfrom(100)[1])
                continue
            peer = key.fileobj.accept()[0]  # type: ignore[union-attr]
            peer.send(banner)
            peer.close()


main()
