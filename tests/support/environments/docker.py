"""What Docker refuses by default: system calls, capabilities, parts of /proc.

Written from Docker's documentation of its seccomp profile and of its default capabilities, and from
the OCI runtime specification. The profile is a list of what is allowed; here is what it leaves out,
as far as it has to do with sandboxes. That is what a container of Docker, containerd (Kubernetes'
RuntimeDefault) and Podman has in common.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

CAPABILITIES = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_FSETID": 4, "CAP_KILL": 5,
    "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETPCAP": 8, "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_RAW": 13, "CAP_SYS_CHROOT": 18, "CAP_MKNOD": 27, "CAP_AUDIT_WRITE": 29,
    "CAP_SETFCAP": 31,
}  # fmt: skip
"""Of root in a container. capabilities(7)"""

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. clone(2)"""
AF_VSOCK = 40

REFUSED = {  # name: number on x86-64, number on AArch64 (None: there is no such call)
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "unshare": (272, 97),
    "setns": (308, 268), "sethostname": (170, 161), "setdomainname": (171, 162),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "acct": (163, 89), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "iopl": (172, None), "ioperm": (173, None), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "vhangup": (153, 58),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "get_mempolicy": (239, 236),
    "set_mempolicy": (238, 237), "mbind": (237, 235), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}  # fmt: skip
_CLONE, _CLONE3, _SOCKET = (56, 220), 435, (41, 198)
_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _AND, _EQUAL, _GREATER_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARGUMENT = 0, 4, 16
"""Where they are in struct seccomp_data. Of an argument, the low half (little endian)."""


def program(machine: str) -> bytes:
    """The filter, as BPF. Raises KeyError for another machine. seccomp(2)"""
    column = list(_ARCHES).index(machine)
    code = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _ARCHES[machine])]
    code.append((_RETURN, 0, 0, _ERROR | errno.EPERM))
    code.append((_LOAD, 0, 0, _NR))
    if machine == "x86_64":  # x32
        code += [(_GREATER_EQUAL, 0, 1, 1 << 30), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    for numbers in REFUSED.values():
        if numbers[column] is not None:
            code += [(_EQUAL, 0, 1, numbers[column] or 0)]
            code += [(_RETURN, 0, 0, _ERROR | errno.EPERM)]
    code += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    code += [(_EQUAL, 0, 4, _CLONE[column]), (_LOAD, 0, 0, _ARGUMENT), (_AND, 0, 0, NEW_NAMESPACES)]
    code += [(_EQUAL, 4, 0, 0), (_RETURN, 0, 0, _ERROR | errno.EPERM)]
    code += [(_EQUAL, 0, 2, _SOCKET[column]), (_LOAD, 0, 0, _ARGUMENT)]
    code += [(_EQUAL, 1, 0, AF_VSOCK), (_RETURN, 0, 0, _ALLOW)]
    code += [(_RETURN, 0, 0, _ERROR | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *one) for one in code)


def profile() -> dict[str, Any]:
    """The same for runc, as `linux.seccomp` of the OCI runtime specification."""
    error = {"action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM}
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": sorted(REFUSED), **error},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
            *(
                {"names": ["clone"], **error, "args": [masked(1 << bit)]}
                for bit in range(32)
                if NEW_NAMESPACES >> bit & 1
            ),
            {"names": ["socket"], **error, "args": [argument(AF_VSOCK)]},
        ],
    }


def masked(flag: int) -> dict[str, Any]:
    return {"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}


def argument(value: int) -> dict[str, Any]:
    return {"index": 0, "value": value, "op": "SCMP_CMP_EQ"}
