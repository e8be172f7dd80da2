"""A file system of a fixed size on the disk, in a file that has no name: ext4 on a loop device.

It ends with its last user, however that ends, and its file with it: nothing is left to remove.
loop(4), ext4(5), open(2) on O_TMPFILE.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import struct
from contextlib import suppress

import msgspec

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.fork_apart import fork_apart

_FEATURES = (
    "none,extent,filetype,sparse_super,large_file,huge_file,dir_nlink,extra_isize,flex_bg,"
    "dir_index,ext_attr,uninit_bg,64bit"
)
"""No journal: nobody mounts it again after a crash. All named, because each version and
distribution has defaults of its own."""

_OPTIONS = ("nobarrier", "noinit_itable")
"""fsync(2) need not reach the disk, for the same reason."""

_BLOCK, _INODE_RATIO = 4096, 16384

_LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_CONFIG = struct.Struct("=II 52xI 176x 64x")
"""fd, block_size, and of struct loop_info64 only lo_flags, which is 52 bytes into it."""

_ATTEMPTS = 64
"""Another program may take the loop device that was free a moment ago."""

_TEMPLATE_LIMIT = 8 * 2**20
"""Bytes of a new file system that are kept to be copied."""

_TEMPLATE = "ext4-"
_MOST_TEMPLATES = 8
"""What is kept: at most 8 files of 8 MiB, of 180 kB each with limits of some GiB."""

_Pieces = list[tuple[int, bytes]]


class NoImage(OSError):
    """This host makes no such file system. The text says why."""


def mount_image(base: int, size: int, maker: str, owner: tuple[int, int]) -> int:
    """Mount a new, empty file system that has room for `size` bytes. Returns the detached mount.

    base: a folder on the disk that only this user can write to. maker: the path of mkfs.ext4.
    owner: of its root. Raises NoImage.
    """
    template = f"{_TEMPLATE}{size}"
    try:
        # What the file system itself needs comes on top: inodes, bitmaps, folders.
        whole = (size + size // 48 + 4 * 2**20) // _BLOCK * _BLOCK
        pieces = _read_template(base, template)
        if pieces is not None:
            try:
                return _mount(_copy_of(pieces, base, whole), owner)
            except OSError:  # a crash may have left a part of it
                os.unlink(template, dir_fd=base)
        image = _nameless(base, whole)
        try:
            _make(maker, image)
            _keep_template(base, template, image)
        except OSError:
            os.close(image)
            raise
        return _mount(image, owner)
    except OSError as error:
        raise NoImage(error.errno, error.strerror or str(error)) from error


def _nameless(base: int, size: int) -> int:
    try:
        fd = _new_file(base)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
        name = f"image-{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=base)
        with suppress(FileNotFoundError):  # another sandbox took it for one that was left
            os.unlink(name, dir_fd=base)
    os.ftruncate(fd, size)
    return fd


def _new_file(base: int) -> int:
    """A file without a name: SIGKILL leaves nothing. open(2), O_TMPFILE"""
    return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=base)


def _make(maker: str, image: int) -> None:
    """Run mkfs.ext4, which takes some 10 ms."""
    extended = "lazy_itable_init=1,nodiscard"
    shape = ["-b", str(_BLOCK), "-I", "256", "-i", str(_INODE_RATIO), "-m", "0", "-E", extended]
    arguments = [maker, "-q", "-F", "-O", _FEATURES, *shape, "/proc/self/fd/3"]
    child = fork_apart()
    if child == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.dup2(image, 3)
            os.set_inheritable(3, True)  # it may have been 3 before
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            os.execve(maker, arguments, {})
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise OSError(errno.EIO, f"{maker} ended with {status}")


def _read_template(base: int, name: str) -> _Pieces | None:
    """What an earlier sandbox has kept. The kernel mounts it for root: nobody else can have made
    it, or written to it, also not before the folder was this user's alone."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=base)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        own = status.st_uid == os.geteuid() and status.st_nlink == 1
        if not own or status.st_mode & 0o022 or not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > 2 * _TEMPLATE_LIMIT:
            return None
        try:
            return msgspec.msgpack.decode(file.read(), type=_Pieces)
        except msgspec.MsgspecError:
            return None


def _keep_template(base: int, name: str, image: int) -> None:
    """Keep what mkfs has written: a copy of it takes 1 ms."""
    pieces: _Pieces = []
    at = 0
    with suppress(OSError):  # ENXIO: there is no data behind `at`. lseek(2), SEEK_DATA
        while sum(len(piece) for _, piece in pieces) <= _TEMPLATE_LIMIT:
            at = os.lseek(image, at, os.SEEK_DATA)
            end = min(os.lseek(image, at, os.SEEK_HOLE), at + _TEMPLATE_LIMIT + 1)
            pieces.append((at, os.pread(image, end - at, at)))
            at = end
    if sum(len(piece) for _, piece in pieces) > _TEMPLATE_LIMIT:
        return  # a file system without holes
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=base)  # of no use, see `_read_template`
    with suppress(OSError):  # another made one, or this disk makes no files without a name
        with os.fdopen(_new_file(base), "wb") as file:
            file.write(msgspec.msgpack.encode(pieces))
            file.flush()
            os.link(f"/proc/self/fd/{file.fileno()}", name, dst_dir_fd=base)
        _forget_templates(base, name)


def _forget_templates(base: int, new: str) -> None:
    """Keep a few: each size of a file system has one of its own."""
    others = [name for name in os.listdir(base) if name.startswith(_TEMPLATE) and name != new]
    others.sort(key=lambda name: os.stat(name, dir_fd=base, follow_symlinks=False).st_mtime)
    for name in others[: max(0, len(others) + 1 - _MOST_TEMPLATES)]:
        os.unlink(name, dir_fd=base)


def _copy_of(pieces: _Pieces, base: int, size: int) -> int:
    image = _nameless(base, size)
    try:
        for at, piece in pieces:
            os.pwrite(image, piece, at)
    except OSError:
        os.close(image)
        raise
    return image


def _mount(image: int, owner: tuple[int, int]) -> int:
    """Mount a new file system. Takes `image` over."""
    try:
        device, path = _attach_to_loop(image)
    finally:
        os.close(image)
    try:
        attributes = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
        tree = syscalls.mount_detached("ext4", path, _OPTIONS, attributes)
    finally:
        os.close(device)
    try:
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
        try:
            os.rmdir("lost+found", dir_fd=folder)
            os.fchown(folder, *owner)
        finally:
            os.close(folder)
    except OSError:
        os.close(tree)
        raise
    return tree


def _attach_to_loop(image: int) -> tuple[int, str]:
    """A loop device with this file: a descriptor, and its path. The kernel frees the device when
    its last user is gone."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            path = f"/dev/loop{number}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if stat.S_ISBLK(os.fstat(device).st_mode):
                    config = _LOOP_CONFIG.pack(image, 0, _LO_FLAGS_AUTOCLEAR)
                    fcntl.ioctl(device, _LOOP_CONFIGURE, config)
                    return device, path
            except OSError as error:
                if error.errno != errno.EBUSY:
                    os.close(device)
                    raise
            os.close(device)
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "every loop device is taken")
