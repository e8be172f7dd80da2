"""The journal: what is written is there, and every prefix of it loads."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import (
    VERSION,
    AnyEvent,
    Dispatching,
    Ended,
    JournalOpened,
    Started,
    ToolCall,
    TurnTaken,
    UserText,
)
from sandbox_agent.journal.file import (
    ROOM,
    JournalWriter,
    encode,
    parse_journal,
    read_journal,
)
from sandbox_agent.journal.state import state_of
from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor

NOW = {"at": "2026-01-01T00:00:00.000Z", "monotonic": 1.5}
OPENED = JournalOpened(version=VERSION, run="r", name="näme", **NOW)
EVENTS: tuple[AnyEvent, ...] = (
    OPENED,
    UserText(text="line one\nline two\u2028\x00 ünïcode", **NOW),
    TurnTaken(
        turn=1,
        text="so",
        final=False,
        calls=(
            ToolCall("call_1_1", "shell", {"command": "ls"}),
            ToolCall("call_1_2", "x", "{not json"),
        ),
        **NOW,
    ),
    Dispatching(call="call_1_1", tool="shell", timeout=1.5, **NOW),
    Started(call="call_1_1", **NOW),
    Ended(
        call="call_1_1",
        outcome=Outcome.KILLED,
        started=StartedState.YES,
        rung=Rung.KILL,
        rungs_ms={"flag": 0.0, "term": 100.5},
        survivors=(Survivor(7, "sleep"),),
        **NOW,
    ),
    Ended(call="call_1_2", outcome=Outcome.ERROR, started=StartedState.NO, content="no", **NOW),
)


def written(path: Path, events: tuple[AnyEvent, ...] = EVENTS) -> bytes:
    writer = JournalWriter(path)
    for event in events:
        writer.append(event)
    writer.close()
    return path.read_bytes()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written(tmp_path / "j")
    assert read_journal(tmp_path / "j") == EVENTS


def test_a_journal_cut_at_any_byte_loads(tmp_path: Path) -> None:
    data = written(tmp_path / "j")
    for length in range(len(data) + 1):
        events = parse_journal(data[:length])
        assert events == EVENTS[: len(events)]
        # A line that lacks only its newline is all there.
        lacks_newline = data[length : length + 1] == b"\n"
        assert len(events) == data[:length].count(b"\n") + lacks_newline
        state_of(events).history()


def test_a_journal_that_was_cut_at_any_byte_can_be_continued(tmp_path: Path) -> None:
    data = written(tmp_path / "whole")
    path = tmp_path / "cut"
    for length in range(len(encode(OPENED)), len(data)):
        path.write_bytes(data[:length])
        before = parse_journal(data[:length])
        writer = JournalWriter(path)
        writer.append(EVENTS[1])
        writer.close()
        assert read_journal(path) == (*before, EVENTS[1])
        # No byte is gone: what is not an event lies beside the journal.
        aside = tmp_path / "cut.torn"
        torn = aside.read_bytes()[:-1] if aside.exists() else b""
        missing_newline = b"\n" if data[length : length + 1] == b"\n" else b""
        kept = path.read_bytes().removesuffix(encode(EVENTS[1]))
        assert kept + torn == data[:length] + missing_newline
        aside.unlink(missing_ok=True)


def test_an_incomplete_line_is_moved_away_only_before_the_first_event(tmp_path: Path) -> None:
    path = tmp_path / "j"
    head, torn = encode(OPENED), b"x" * 200_000
    path.write_bytes(head + torn)
    JournalWriter(path).close()
    assert path.read_bytes() == head + torn
    writer = JournalWriter(path)
    writer.append(EVENTS[1])
    writer.close()
    assert path.read_bytes() == head + encode(EVENTS[1])
    aside = tmp_path / "j.torn"
    assert aside.read_bytes() == torn + b"\n"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


def test_a_last_line_that_lacks_only_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes((encode(OPENED) + encode(EVENTS[1]))[:-1])
    assert read_journal(path) == (OPENED, EVENTS[1])
    written(path, EVENTS[2:3])
    assert read_journal(path) == (OPENED, *EVENTS[1:3])
    assert not (tmp_path / "j.torn").exists()


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    with pytest.raises(BlockingIOError):
        JournalWriter(tmp_path / "j")
    writer.append(OPENED)
    assert read_journal(tmp_path / "j") == (OPENED,)
    writer.close()
    JournalWriter(tmp_path / "j").close()


FORKED = """
import os, select
from pathlib import Path
from sandbox_agent.journal.file import JournalWriter
path = Path({path!r})
writer = JournalWriter(path)
ready = os.pipe()
parent = os.pidfd_open(os.getpid())
child = os.fork()
if child == 0:
    os.write(ready[1], b"x")
    select.select([parent], [], [])  # until the parent has died
    JournalWriter(path).close()
    print("free", flush=True)
    os._exit(0)
os.read(ready[0], 1)
try:
    JournalWriter(path)
except BlockingIOError:
    print("held", flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_forked_child_neither_releases_the_lock_nor_keeps_it(tmp_path: Path) -> None:
    code = FORKED.format(path=str(tmp_path / "j"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-9, "held\nfree\n", "")


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    written(tmp_path / "j")
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o600


def test_every_event_is_one_write_and_there_at_once(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    for count, event in enumerate(EVENTS, 1):
        writer.append(event)
        assert len(read_journal(tmp_path / "j")) == count
    writer.close()


VERSION_1 = (
    b'{"event":"journal","at":"2026-01-01T00:00:00.000Z","t":1.5,"version":1,"run":"r"}\n'
    b'{"event":"user_message","at":"2026-01-01T00:00:00.000Z","t":1.5,"text":"go"}\n'
)
"""As sandbox-agent wrote it before anything was released."""

OTHER_VERSIONS = [(1, VERSION_1), (99, encode(OPENED).replace(b'"version":2', b'"version":99'))]


@pytest.mark.parametrize(("version", "data"), OTHER_VERSIONS)
def test_a_journal_of_another_version_is_refused_with_a_hint(version: int, data: bytes) -> None:
    with pytest.raises(JournalError) as caught:
        parse_journal(data, "j")
    assert str(caught.value) == (
        f"j:1: the journal has version {version}; this sandbox-agent reads version 2\n"
        "  hint: nothing is released yet: start the run anew, or use the version that wrote it"
    )


@pytest.mark.parametrize("first", [b"{}\n", b"hello\n", b'{"event":"started","call":"x"}\n', b"\n"])
def test_bytes_that_are_not_a_journal_are_refused(first: bytes) -> None:
    with pytest.raises(JournalError, match="j:1: this is not a journal"):
        parse_journal(first, "j")


@pytest.mark.parametrize(
    "bad", [b"garbage", b"", b'{"event":"nope"}', b'{"event":"started"}', b"\xff\xfe", b"[" * 5000]
)
def test_a_damaged_line_is_named(bad: bytes) -> None:
    data = encode(OPENED) + bad + b"\n" + encode(EVENTS[1])
    with pytest.raises(JournalError, match=r"j:2: this line is not an event"):
        parse_journal(data, "j")


def test_a_second_first_line_is_refused() -> None:
    with pytest.raises(JournalError, match="j:2: a `journal` event belongs in the first line"):
        parse_journal(encode(OPENED) * 2, "j")


def test_fields_of_a_later_program_are_ignored() -> None:
    line = encode(UserText(text="hi", **NOW)).replace(b'"text"', b'"mood":"good","text"')
    assert parse_journal(encode(OPENED) + line)[1] == UserText(text="hi", **NOW)


@settings(database=None, max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_load_or_are_refused(data: bytes) -> None:
    for whole in (data, encode(OPENED) + data):
        try:
            events = parse_journal(whole)
        except JournalError:
            continue
        assert len(events) - whole.count(b"\n") in (0, 1)


@settings(database=None, max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(text: str) -> None:
    event = UserText(text=text, **NOW)
    assert parse_journal(encode(OPENED) + encode(event))[1] == event


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_file import EVENTS, JournalWriter, read_journal
path = Path({path!r})
writer = JournalWriter(path)
writer.append(EVENTS[0])
writer.append(EVENTS[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, hard))
try:
    writer.append(EVENTS[2])
except OSError as error:
    print(error.errno)
print(len(read_journal(path)), path.read_bytes()[-1:])
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
writer.append(EVENTS[2])
print(read_journal(path) == EVENTS[:3])
"""


def test_a_disk_that_fills_up_leaves_whole_events_and_writing_can_be_tried_again(
    tmp_path: Path,
) -> None:
    # A file size limit fails writes as a full disk does, after a part was written.
    code = FULL.format(here=str(Path(__file__).parent), path=str(tmp_path / "j"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split("\n")[:3] == ["27", "2 b'\\n'", "True"]


ONCE = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_file import EVENTS, JournalWriter, read_journal
path = Path({path!r})
writer = JournalWriter(path)
writer.append(EVENTS[0])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
def make_room(*_):
    print("full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
signal.signal(signal.SIGXFSZ, make_room)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, hard))
writer.append(EVENTS[1])
print(read_journal(path) == EVENTS[:2])
"""


def test_a_write_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    # The kernel signals that the limit is reached (SIGXFSZ), and the handler lifts it.
    code = ONCE.format(here=str(Path(__file__).parent), path=str(tmp_path / "j"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("full\nTrue\n", "")


def test_a_journal_that_has_left_its_place_is_missed(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    writer.append(OPENED)
    writer.check_place()
    (tmp_path / "j").rename(tmp_path / "elsewhere")
    (tmp_path / "j").write_bytes(encode(OPENED))
    with pytest.raises(FileNotFoundError, match="removed, renamed or replaced"):
        writer.check_place()
    writer.append(EVENTS[1])  # It can still be written.
    assert len(read_journal(tmp_path / "elsewhere")) == 2
    (tmp_path / "elsewhere").unlink()
    with pytest.raises(FileNotFoundError, match="removed, renamed or replaced"):
        writer.append(EVENTS[2])
    writer.close()


def test_a_journal_that_another_program_changes_is_not_written_to(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    writer.append(OPENED)
    for change in (b"more", b""):
        (tmp_path / "j").write_bytes(change)
        with pytest.raises(OSError, match="another program changed its length"):
            writer.append(EVENTS[1])
        assert (tmp_path / "j").read_bytes() == change
    writer.close()


def test_reserved_room_is_not_seen_and_is_given_back(tmp_path: Path) -> None:
    def blocks() -> int:
        return (tmp_path / "j").stat().st_blocks * 512

    writer = JournalWriter(tmp_path / "j")
    writer.append(OPENED)
    assert (tmp_path / "j").read_bytes() == encode(OPENED)
    if writer.has_room:  # some file systems cannot reserve
        assert blocks() >= ROOM
    writer.give_back_room()
    assert blocks() < ROOM
    writer.append(EVENTS[1])
    writer.close()
    assert blocks() < ROOM
    assert read_journal(tmp_path / "j") == (OPENED, EVENTS[1])


def test_a_killed_writer_leaves_all_that_it_wrote(tmp_path: Path) -> None:
    code = (
        f"import sys, os, signal; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from test_file import *\n"
        f"writer = JournalWriter(Path({str(tmp_path / 'j')!r}))\n"
        f"for event in EVENTS: writer.append(event)\n"
        f"os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_journal(tmp_path / "j") == EVENTS


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    writer = JournalWriter(tmp_path / "j")
    writer.sync()
    writer.close()
    writer.close()
    assert set(os.listdir("/proc/self/fd")) == before
