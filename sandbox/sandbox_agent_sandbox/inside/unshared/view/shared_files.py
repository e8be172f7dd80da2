"""Named memory and semaphores (shm_open(3), sem_open(3)) for the tools of one sandbox.

libc keeps them as files in /dev/shm, wherever TMPDIR is. That folder is the host's, and its files
are those of all of the user's programs, so tools have no right to it. Here such a file lies in a
folder of the tools' own instead: a thread of the supervisor copies the path once, opens the file
there, and gives the tool the descriptor. Every other path is let through as it is: the kernel then
looks at it again, and the tools' view decides.

Only those calls wait that libc makes for this (`FLAGS`), and all of unlink(2). So what opens files
in /dev/shm by other flags, or lists that folder, is refused as before.
"""

from __future__ import annotations

import _thread
import errno
import fcntl
import os
import stat
from _queue import SimpleQueue  # not from `queue`, which imports `threading`

from sandbox_agent_sandbox.inside.unshared.view import notify
from sandbox_agent_sandbox.inside.unshared.view.notify import NUMBERS, Notification
from sandbox_agent_sandbox.inside.unshared.view.threads import become
from sandbox_agent_sandbox.plan import Identity

SHARED_FILES = ".shm"
"""The folder, in that of the tools' TMPDIR."""

FLAGS_AT = {NUMBERS[name]: at for name, at in (("open", 1), ("openat", 2)) if name in NUMBERS}
"""Which argument has the flags."""
FLAGS = (
    (os.O_ACCMODE | os.O_CREAT | os.O_EXCL, os.O_RDWR | os.O_CREAT | os.O_EXCL),
    (os.O_ACCMODE | os.O_NOFOLLOW, os.O_RDWR | os.O_NOFOLLOW),
)
"""Masks, and what is left of the flags: of a new semaphore, and of everything else. glibc opens an
existing semaphore with O_CLOEXEC in some versions only."""

_LINK, _LINKAT = NUMBERS.get("link", -1), NUMBERS.get("linkat", -1)
_UNLINK, _UNLINKAT = NUMBERS.get("unlink", -1), NUMBERS.get("unlinkat", -1)
_NUMBERS = frozenset((*FLAGS_AT, _LINK, _LINKAT, _UNLINK, _UNLINKAT)) - {-1}

_PLACE = b"/dev/shm/"
_LONGEST = 256
_PAGE = 4096
_HEEDED = os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND


class SharedFiles:
    """Of one call. Belongs to the supervisor's thread. own: the folder of the call's TMPDIR."""

    def __init__(self, listener: int, identity: Identity, own: str) -> None:
        self._listener = listener
        self._identity = identity
        self._own = own
        self._folder = -1
        self._asked: SimpleQueue[Notification] = SimpleQueue()
        self._has_thread = False

    def looks_at(self, asked: Notification) -> bool:
        return asked.number in _NUMBERS

    def take(self, asked: Notification) -> None:
        """Have a thread carry a call out, or let it through. Returns at once. One thread is enough:
        it waits for nothing but the memory of the tools."""
        if not self._has_thread:
            try:
                _thread.start_new_thread(self._main, ())
            except RuntimeError:  # the tools have used up all processes
                notify.let_through(self._listener, asked)
                return
            self._has_thread = True
        self._asked.put(asked)

    def _main(self) -> None:
        # As the tools' user, who owns the folder. Tools can put nothing there that they could not
        # open themselves: Landlock lets them link no file to where they may do more with it. What
        # they may put there is a link, which nothing follows, and a folder of theirs in its place.
        try:
            become(self._identity.outside_uid, self._identity.outside_gid)
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._folder = os.open(f"{self._own}/{SHARED_FILES}", flags)
        except OSError:
            pass  # then all goes on without
        while True:
            asked = self._asked.get()
            try:
                if self._folder < 0 or not self._serve(asked):
                    notify.let_through(self._listener, asked)
            except OSError as error:
                notify.answer(self._listener, asked, error=error.errno or errno.EIO)
            except BaseException:
                notify.answer(self._listener, asked, error=errno.EIO)

    def _serve(self, asked: Notification) -> bool:
        """Carry a call out and answer it. False if it is about another place. Raises OSError with
        the errno for the caller."""
        first, second, third, fourth = asked.arguments[:4]
        if asked.number in FLAGS_AT:
            at = FLAGS_AT[asked.number]
            name = self._name(asked, asked.arguments[at - 1])
            if name is not None:
                self._open(asked, name, asked.arguments[at], asked.arguments[at + 1])
            return name is not None
        if asked.number in (_UNLINK, _UNLINKAT):
            name = self._name(asked, first if asked.number == _UNLINK else second)
            if name is None or (asked.number == _UNLINKAT and third & 0xFFFFFFFF):
                return False  # of a folder
            os.unlink(name, dir_fd=self._folder)
        else:
            old = self._name(asked, first if asked.number == _LINK else second)
            new = self._name(asked, second if asked.number == _LINK else fourth)
            if old is None and new is None:
                return False
            if old is None or new is None:
                raise OSError(errno.EXDEV, "it would leave the folder")
            ends = {"src_dir_fd": self._folder, "dst_dir_fd": self._folder}
            os.link(old, new, follow_symlinks=False, **ends)
        notify.answer(self._listener, asked)
        return True

    def _open(self, asked: Notification, name: bytes, flags: int, mode: int) -> None:
        umask = notify.umask_of(notify.process_of(asked.thread))
        # What a tool has put there may be a pipe, and must not hold this thread.
        own = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(name, flags & _HEEDED | own, mode & 0o777 & ~umask, dir_fd=self._folder)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EACCES, "no file")
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & (os.O_APPEND | os.O_NONBLOCK))
            number = notify.give(self._listener, asked, fd, cloexec=bool(flags & os.O_CLOEXEC))
        finally:
            os.close(fd)
        notify.answer(self._listener, asked, number)

    def _name(self, asked: Notification, address: int) -> bytes | None:
        """The name of a file in /dev/shm; None for every other path, and for one that cannot be
        read. Tools that are not dumpable have no such files."""
        try:
            path = self._path(asked, address)
        except OSError:
            return None
        if not path.startswith(_PLACE):
            return None
        name = path.removeprefix(_PLACE)
        return None if b"/" in name or name in (b"", b".", b"..") else name

    def _path(self, asked: Notification, address: int) -> bytes:
        """A path, copied once. Raises OSError."""
        process = notify.process_of(asked.thread)
        # To the end of the page, since the next one need not be there.
        size = min(_LONGEST, _PAGE - address % _PAGE)
        found = notify.read_memory(process, address, size)
        if b"\0" not in found and size < _LONGEST and _PLACE.startswith(found[: len(_PLACE)]):
            found += notify.read_memory(process, address + size, _LONGEST - size)
        if not notify.still_waits(self._listener, asked):
            raise OSError(errno.ESRCH, "the caller has ended")
        path, end, _ = found.partition(b"\0")
        return path if end else b""
