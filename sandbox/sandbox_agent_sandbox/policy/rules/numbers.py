"""The numbers of system calls, from the kernel's tables.

A call that a machine does not have is left out.
"""

from __future__ import annotations

_ALIKE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "clone3": 435, "openat2": 437, "mount_setattr": 442, "quotactl_fd": 443, "fchmodat2": 452,
    "open_tree_attr": 467, "pidfd_send_signal": 424, "process_madvise": 440,
    "process_mrelease": 448,
}  # fmt: skip
"""From 424 on they are the same everywhere (Documentation/process/adding-syscalls.rst)."""

_X86_64 = {
    "open": 2, "ioctl": 16, "socket": 41, "socketpair": 53, "clone": 56, "creat": 85, "chmod": 90,
    "fchmod": 91, "syslog": 103, "mknod": 133, "uselib": 134, "personality": 135, "ustat": 136,
    "sysfs": 139, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "_sysctl": 156,
    "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
    "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172,
    "ioperm": 173, "create_module": 174, "init_module": 175, "delete_module": 176,
    "get_kernel_syms": 177, "query_module": 178, "quotactl": 179, "nfsservctl": 180,
    "io_setup": 206, "lookup_dcookie": 212, "clock_settime": 227, "kexec_load": 246, "add_key": 248,
    "request_key": 249, "keyctl": 250, "ioprio_set": 251, "openat": 257, "mknodat": 259,
    "fchmodat": 268, "unshare": 272, "perf_event_open": 298, "fanotify_init": 300,
    "fanotify_mark": 301, "open_by_handle_at": 304, "setns": 308, "finit_module": 313,
    "renameat2": 316, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    # Those of plans without namespaces.
    "shmget": 29, "shmat": 30, "shmctl": 31, "connect": 42, "sendto": 44, "sendmsg": 46, "bind": 49,
    "listen": 50, "setsockopt": 54, "fork": 57, "vfork": 58, "kill": 62, "semget": 64, "semop": 65,
    "semctl": 66, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "fcntl": 72,
    "truncate": 76, "link": 86, "unlink": 87, "rt_sigqueueinfo": 129, "setpriority": 141,
    "prctl": 157, "sched_setparam": 142, "sched_setscheduler": 144, "setrlimit": 160, "tkill": 200,
    "sched_setaffinity": 203, "semtimedop": 220, "tgkill": 234, "mq_open": 240, "mq_unlink": 241,
    "mq_timedsend": 242, "mq_timedreceive": 243, "mq_notify": 244, "mq_getsetattr": 245,
    "migrate_pages": 256, "move_pages": 279, "rt_tgsigqueueinfo": 297, "prlimit64": 302,
    "sendmmsg": 307, "kcmp": 312, "sched_setattr": 314,
}  # fmt: skip
_AARCH64 = {
    "io_setup": 0, "lookup_dcookie": 18, "ioctl": 29, "ioprio_set": 30, "mknodat": 33,
    "umount2": 39, "mount": 40, "pivot_root": 41, "nfsservctl": 42, "chroot": 51, "fchmod": 52,
    "fchmodat": 53, "openat": 56, "vhangup": 58, "quotactl": 60, "acct": 89, "personality": 92,
    "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106,
    "clock_settime": 112, "syslog": 116, "reboot": 142, "sethostname": 161, "setdomainname": 162,
    "settimeofday": 170, "socket": 198, "socketpair": 199, "add_key": 217, "request_key": 218,
    "keyctl": 219, "clone": 220, "swapon": 224, "swapoff": 225, "perf_event_open": 241,
    "fanotify_init": 262, "fanotify_mark": 263, "open_by_handle_at": 265, "setns": 268,
    "finit_module": 273, "renameat2": 276, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
    # Those of plans without namespaces.
    "fcntl": 25, "unlinkat": 35, "linkat": 37, "truncate": 45, "sched_setparam": 118, "prctl": 167,
    "sched_setscheduler": 119, "sched_setaffinity": 122, "kill": 129, "tkill": 130, "tgkill": 131,
    "rt_sigqueueinfo": 138, "setpriority": 140, "setrlimit": 164, "mq_open": 180, "mq_unlink": 181,
    "mq_timedsend": 182, "mq_timedreceive": 183, "mq_notify": 184, "mq_getsetattr": 185,
    "msgget": 186, "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semget": 190, "semctl": 191,
    "semtimedop": 192, "semop": 193, "shmget": 194, "shmctl": 195, "shmat": 196, "bind": 200,
    "listen": 201, "connect": 203, "sendto": 206, "setsockopt": 208, "sendmsg": 211,
    "migrate_pages": 238, "move_pages": 239, "rt_tgsigqueueinfo": 240, "prlimit64": 261,
    "sendmmsg": 269, "kcmp": 272, "sched_setattr": 274,
}  # fmt: skip

NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {**_X86_64, **_ALIKE},
    "aarch64": {**_AARCH64, **_ALIKE},
}
"""By the machine's name, as uname(2) gives it."""
