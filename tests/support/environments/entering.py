"""How each environment is entered: by this process, before it executes the command."""

from __future__ import annotations

import os
from collections.abc import Callable

from environments import bare, docker, kernel


def no_user_namespaces() -> None:
    kernel.own_user_namespace()
    # It holds for this user namespace and those below it. namespaces(7)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")


def docker_filter() -> None:
    if not kernel.has_capability(kernel.CAP_SYS_ADMIN):
        kernel.no_new_privileges()  # else a filter needs CAP_SYS_ADMIN. seccomp(2)
    kernel.install_filter(docker.program(kernel.machine()))
    if os.geteuid() == 0:
        kernel.keep_capabilities(docker.CAPABILITIES.values())


def no_map_capabilities() -> None:
    # Who maps another uid needs CAP_SETUID, who maps uid 0 CAP_SETFCAP: EPERM, as by AppArmor.
    kernel.keep_capabilities(set(range(64)) - {*kernel.FOR_MAPS})


def no_id_maps() -> None:
    kernel.own_mounts()
    # Nobody's id maps can be written: EROFS. To make a user namespace still works.
    kernel.mount("/proc", "/proc", "", kernel.MS_BIND | kernel.MS_REC)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_RDONLY
    kernel.mount("none", "/proc", "", kernel.MS_REMOUNT | kernel.MS_BIND | flags)


def masked_proc() -> None:
    kernel.own_mounts()
    for path in filter(os.path.exists, docker.READ_ONLY):
        kernel.mount(path, path, "", kernel.MS_BIND | kernel.MS_REC)
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_RDONLY
        kernel.mount("none", path, "", kernel.MS_REMOUNT | kernel.MS_BIND | flags)
    for path in filter(os.path.exists, docker.MASKED):
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_RDONLY, "size=0k")
        else:
            kernel.mount("/dev/null", path, "", kernel.MS_BIND)


def no_sys_admin() -> None:
    kernel.keep_capabilities(docker.CAPABILITIES.values())


def no_walls() -> None:
    if not kernel.has_capability(kernel.CAP_SYS_ADMIN):
        kernel.no_new_privileges()
    kernel.install_filter(docker.program(kernel.machine()))
    kernel.install_filter(bare.program(kernel.machine()))


ENTER: dict[str, Callable[[], None]] = {
    "no-user-namespaces": no_user_namespaces,
    "docker-filter": docker_filter,
    "no-id-maps": no_id_maps,
    "no-map-capabilities": no_map_capabilities,
    "masked-proc": masked_proc,
    "no-sys-admin": no_sys_admin,
    "no-walls": no_walls,
}
