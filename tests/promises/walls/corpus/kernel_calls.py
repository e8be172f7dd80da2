"""System calls by number, for attacks. Standard library only. syscalls(2)"""

from __future__ import annotations

import ctypes
import os
import platform

_NUMBERS = {
    # name: (x86_64, aarch64)
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clone": (56, 220),
    "fanotify_init": (300, 262),
    "io_setup": (206, 0),
    "ioprio_get": (252, 31),
    "ioprio_set": (251, 30),
    "delete_module": (176, 106),
    "keyctl": (250, 219),
    "kcmp": (312, 272),
    "lsetxattr": (189, 6),
    "memfd_create": (319, 279),
    "modify_ldt": (154, 1000),
    "mount": (165, 40),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedreceive": (243, 183),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "clone3": (435, 435),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "openat2": (437, 437),
    "prctl": (157, 167),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "renameat2": (316, 276),
    "request_key": (249, 218),
    "rt_tgsigqueueinfo": (297, 240),
    "semctl": (66, 191),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmget": (29, 194),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "timer_create": (222, 107),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_COLUMN = 0 if platform.machine() == "x86_64" else 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(name: str, *arguments: object) -> int:
    """The result of the system call. OSError when the kernel refuses."""
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(_libc.syscall(ctypes.c_long(_NUMBERS[name][_COLUMN]), *words))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def text(value: str) -> ctypes.c_char_p:
    return ctypes.c_char_p(value.encode())


class Vector(ctypes.Structure):
    """struct iovec of process_vm_readv(2)"""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def socket_exists(family: int, kind: int, protocol: int) -> bool:
    """Whether the kernel has such sockets, or forbids them, which also says that it has them."""
    import errno
    import socket

    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES)
    return True
