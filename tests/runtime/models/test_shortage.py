"""A host that has run out of something while it asks a provider: exit code 5, and not 4."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from sandbox_agent import Conversation, ProviderModel
from sandbox_agent.models.process.inside.provider_errors import provider_error_of
from sandbox_agent.models.provider import _error
from sandbox_agent_ipc.model_messages import Failure, FailureKind


def caused_by(cause: BaseException) -> Exception:
    """As libraries wrap what happens below them."""
    try:
        try:
            raise cause
        except BaseException as error:
            raise ConnectionError("Connection error.") from error
    except ConnectionError as error:
        return error


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (RuntimeError("can't start new thread"), "no more processes or threads"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many open files"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_the_host_is_named_and_not_the_provider(cause: BaseException, words: str) -> None:
    error = provider_error_of(caused_by(cause))
    assert error.kind is FailureKind.SHORTAGE
    assert not error.is_transient
    assert words in error.text
    told = _error("openai/m", Failure(error.kind, error.text, None, 1))
    assert told.exit_code == 5
    assert str(told).startswith("openai/m: the request cannot be made: ")
    assert str(told).count("hint:") == 1


@pytest.mark.parametrize(
    "cause",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)),
        BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
        RuntimeError("Event loop is closed"),
    ],
)
def test_other_causes_stay_what_they_are(cause: BaseException) -> None:
    assert provider_error_of(caused_by(cause)).kind is not FailureKind.SHORTAGE


def test_a_model_process_without_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for its stack: pthread_create(3) fails with EAGAIN, as for pids.max."""
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    model = ProviderModel("openai/m", api_base="http://127.0.0.1:9/v1")
    with Conversation(model=model, workspace=tmp_path, output_dir=tmp_path / "runs") as talk:
        talk.send_message("Hello.")
        before = threading.stack_size(1 << 40)
        try:
            with pytest.warns(RuntimeWarning, match="cannot reach this run"):
                result = talk.run()
        finally:
            threading.stack_size(before)
    assert (result.status.value, result.exit_code) == ("error", 5)
    assert "no more processes or threads can be started here; hint: " in result.reason
