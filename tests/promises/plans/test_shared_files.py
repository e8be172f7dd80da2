"""Named memory and semaphores in a plan without namespaces: shm_open(3), sem_open(3).

libc keeps them in /dev/shm, which is the host's there. Tools have their own, and reach nobody's.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from identity import Person
from without_mounts import inside

LIBC = """
import ctypes, mmap, stat, tempfile
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "libc")
    return result
def shm_open(name, flags=os.O_RDWR, mode=0o600):
    return checked(libc.shm_open(name.encode(), flags, mode))
def taken(name, flags=os.O_RDWR):
    fd = shm_open(name, flags)
    return os.read(fd, 100).decode() or "empty"
"""


@pytest.fixture
def hosts() -> Iterator[Path]:
    """A file of the host in /dev/shm that all may read and write."""
    path = Path("/dev/shm", f"sandbox-agent-test-{secrets.token_hex(8)}")
    path.write_text("the host's")
    path.chmod(0o666)
    yield path
    path.unlink()


@pytest.mark.as_user
def test_locks_and_memory_between_processes_work(person: Person) -> None:
    code = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Lock, Process, shared_memory
def fill(name):
    block = shared_memory.SharedMemory(name)
    block.buf[0] = 7
    block.close()
def pool():
    with ProcessPoolExecutor(3) as workers:
        return sum(workers.map(abs, range(-100, 0)))
def memory():
    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    child = Process(target=fill, args=(block.name,))
    child.start()
    child.join()
    found = block.buf[0]
    block.close()
    block.unlink()
    return found
attempt("pool", pool)
attempt("memory", memory)
def rebuilt():  # opened again by its name, as a process that was not forked does
    from _multiprocessing import SemLock, sem_unlink
    one = SemLock(1, 0, 1, "/mp-again", False)
    SemLock._rebuild(one.handle, 1, 1, "/mp-again").release()
    sem_unlink("/mp-again")
    return one.acquire(True, 5)
attempt("rebuilt", rebuilt)
attempt("lock", lambda: Lock().acquire())
attempt("left", lambda: str(os.listdir(os.environ["TMPDIR"] + "/.shm")))
"""
    told = inside(person, code)
    assert told == {"pool": 5050, "memory": 7, "rebuilt": True, "lock": True, "left": "[]"}


def test_nothing_of_the_hosts_is_reached(person: Person, hosts: Path) -> None:
    code = """
path = sys.argv[1]
name = os.path.basename(path)
attempt("open", lambda: taken("/" + name))
attempt("read", lambda: open(path).read())
attempt("write", lambda: os.open(path, os.O_WRONLY | os.O_TRUNC))
attempt("as libc does", lambda: os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
attempt("remove", lambda: checked(libc.shm_unlink(name.encode())))
attempt("link out", lambda: os.link("/dev/shm/" + name, "linked"))
open("file", "w").close()
attempt("link in", lambda: os.link("file", "/dev/shm/linked"))
attempt("make", lambda: shm_open("/" + name, os.O_RDWR | os.O_CREAT | os.O_EXCL))
attempt("own", lambda: taken("/" + name))
attempt("above", lambda: os.open("/dev/shm/..", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
attempt("list", lambda: os.listdir("/dev/shm"))
"""
    told = inside(person, LIBC + code, str(hosts))
    assert told.pop("make") > 2
    assert told == {
        "open": "ENOENT",
        "read": "EACCES",
        "write": "EACCES",
        "as libc does": "ENOENT",
        "remove": "ENOENT",
        "link out": "EXDEV",
        "link in": "EXDEV",
        "own": "empty",
        "above": "EISDIR",
        "list": "EACCES",
    }
    assert hosts.read_text() == "the host's"


def test_what_tools_put_into_the_folder_leads_nowhere(person: Person) -> None:
    """The thread that opens the files has the rights of the tools' user outside."""
    secret = person.write(person.home / "secret", "s3cret")
    code = """
folder = os.environ["TMPDIR"] + "/.shm"
os.symlink(sys.argv[1], folder + "/link")
attempt("link", lambda: taken("/link"))
os.mkfifo(folder + "/pipe")
attempt("pipe", lambda: taken("/pipe"))
os.mkdir(folder + "/folder")
attempt("folder", lambda: taken("/folder"))
attempt("still", lambda: stat.S_ISREG(os.fstat(shm_open("/new", os.O_RDWR | os.O_CREAT)).st_mode))
attempt("mode", lambda: oct(os.stat(folder + "/new").st_mode & 0o777))
os.rename(folder, folder + "-moved")
os.symlink(os.path.dirname(sys.argv[1]), folder)
attempt("moved", lambda: taken("/secret"))
"""
    told = inside(person, LIBC + code, str(secret))
    assert told == {
        "link": "ELOOP",
        "pipe": "EACCES",
        "folder": "EINVAL",
        "still": True,
        "mode": "0o600",
        "moved": "ENOENT",
    }


@pytest.mark.as_user
def test_other_files_are_opened_as_before(person: Person) -> None:
    code = """
def temporary():
    with tempfile.NamedTemporaryFile(dir=os.getcwd()) as file:
        file.write(b"words")
        file.flush()
        os.link(file.name, "linked")
    with open("linked") as file:
        return file.read()
def across_pages():
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    path = b"/dev/shm/across"
    at = mmap.PAGESIZE - 5
    memory[at : at + len(path)] = path
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + at
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return checked(libc.open(ctypes.c_void_p(address), flags, 0o600)) > 2
attempt("temporary", temporary)
attempt("unlinked", lambda: os.unlink("linked"))
attempt("missing", lambda: os.unlink("missing"))
attempt("no address", lambda: checked(libc.unlink(ctypes.c_void_p(1))))
attempt("across pages", across_pages)
"""
    told = inside(person, LIBC + code)
    assert told == {
        "temporary": "words",
        "unlinked": "done",
        "missing": "ENOENT",
        "no address": "EFAULT",
        "across pages": True,
    }
