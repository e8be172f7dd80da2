"""The one fold of the journal that all reports are made from: what it keeps of long things."""

from __future__ import annotations

from pathlib import Path

from sandbox_agent.journal.events import Ended, UserText
from sandbox_agent.reports.report import IMAGES, Message, report_of
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome, StartedState

STAMP = {"at": "2026-11-28T10:00:00.000Z", "monotonic": 1.0}


def with_images(call: str, *sizes: int) -> Ended:
    images = tuple(Image("image/png", bytes(size)) for size in sizes)
    return Ended(call=call, outcome=Outcome.OK, started=StartedState.YES, images=images, **STAMP)


def test_images_are_kept_up_to_a_limit_for_the_whole_run() -> None:
    events = [with_images("a", IMAGES // 2, IMAGES), with_images("b", IMAGES // 2, 1)]
    report = report_of("run", Path("run"), events)
    kept = [[len(image.data) for image in call.images] for call in report.calls.values()]
    assert kept == [[IMAGES // 2], [IMAGES // 2]]
    assert [call.images_left_out for call in report.calls.values()] == [1, 1]


def test_a_message_before_any_segment_lies_between_segments() -> None:
    report = report_of("run", Path("run"), [UserText(text="hello", **STAMP)])
    (message,) = report.entries
    assert isinstance(message, Message)
    assert message.between
