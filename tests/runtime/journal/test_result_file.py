"""result.json is there as a whole, the old one or the new one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest
from sandbox_agent.errors import JournalError
from sandbox_agent.journal.result_file import (
    RESULT_FILE,
    SPARE_FILE,
    Record,
    Times,
    read_record,
    write_record,
)
from sandbox_agent.journal.status import Status

RECORD = Record(
    run="r",
    task=None,
    status=Status.RUNNING,
    exit_code=None,
    reason="",
    pid=1,
    segment=1,
    model="scripted",
    workspace="/w",
    times=Times("2026-01-01T00:00:00.000Z"),
)


@pytest.mark.parametrize("durable", [False, True])
def test_a_record_is_replaced_as_a_whole(tmp_path: Path, durable: bool) -> None:
    write_record(tmp_path, RECORD, durable=durable)
    with open(tmp_path / RESULT_FILE, "rb") as reader:
        done = msgspec.structs.replace(RECORD, status=Status.DONE, exit_code=0)
        write_record(tmp_path, done, durable=durable)
        old = msgspec.json.decode(reader.read(), type=Record)
    assert old == RECORD
    assert read_record(tmp_path) == done
    assert os.listdir(tmp_path) == [RESULT_FILE]
    assert stat.S_IMODE((tmp_path / RESULT_FILE).stat().st_mode) == 0o600


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    # A folder in the way of the temporary file: fails for root as well.
    (tmp_path / SPARE_FILE).mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_record(tmp_path, msgspec.structs.replace(RECORD, status=Status.DONE))
    assert read_record(tmp_path) == RECORD


def test_a_file_that_is_not_a_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / RESULT_FILE).write_text("{}")
    with pytest.raises(JournalError, match="this is not a record of a run"):
        read_record(tmp_path)
