"""Forked children give up what they got from their parent."""

from __future__ import annotations

import gc
import os
import weakref

from sandbox_agent_ipc.after_fork import call_after_fork


class Told:
    """Writes its letter in the child, then fails as a descriptor does that was closed already."""

    def __init__(self, letter: bytes, pipe: int) -> None:
        self.letter = letter
        self.pipe = pipe
        self.calls = 0
        call_after_fork(self)

    def after_fork_in_child(self) -> None:
        self.calls += 1
        os.write(self.pipe, self.letter)
        raise OSError(9, "Bad file descriptor")


def test_each_object_is_called_once_in_the_child_alone_and_an_error_spares_none() -> None:
    read, write = os.pipe()
    objects = [Told(bytes([letter]), write) for letter in b"abc"]
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read, "rb") as pipe:
        assert sorted(pipe.read()) == sorted(b"abc")
    assert [thing.calls for thing in objects] == [0, 0, 0]


def test_an_object_that_nobody_else_holds_is_collected() -> None:
    thing = Told(b"x", -1)
    watched = weakref.ref(thing)
    del thing
    gc.collect()
    assert watched() is None
