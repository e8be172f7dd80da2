"""The one fold of the journal that all reports are made from: each event has its place in it, and
every prefix of a journal has a report."""

from __future__ import annotations

import os
from pathlib import Path

import made_runs
import pytest
from made_runs import Clock
from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import (
    AnyEvent,
    CancelRequested,
    Dispatching,
    Ended,
    Started,
    UserText,
)
from sandbox_agent.journal.file import JOURNAL_FILE, encode
from sandbox_agent.journal.status import Status
from sandbox_agent.reports.report import (
    HEAD,
    IMAGES,
    TAIL,
    Message,
    Report,
    Text,
    read_report,
    report_of,
)
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor

CLOCK = Clock()


def made(*events: AnyEvent) -> Report:
    return report_of("run", Path("run"), events)


def test_a_run_has_its_messages_turns_calls_and_end() -> None:
    report = made(*made_runs.failed_run())
    assert (report.run, report.id, report.name) == ("run", made_runs.ID, "fix")
    assert (report.status, report.model, report.at) == ("failed", "scripted:steps.yaml", CLOCK.at)
    message, first, second = report.entries
    assert isinstance(message, Message)
    assert (message.text.whole(), message.segment, message.between) == (
        "Make pytest pass.",
        0,
        True,
    )
    assert report.turns == [first, second]
    assert (first.calls, first.seconds, first.segment) == (("call_1_1",), 1.0, 1)
    assert report.final_turn is second
    call = report.calls["call_1_1"]
    assert (call.tool, call.turn, call.is_verify, call.failed) == ("shell", 1, False, False)
    assert (call.arguments, call.timeout) == ({"command": "ls -la"}, 30.0)
    times = [call.asked, call.begun, call.ended]
    assert times == pytest.approx([1.0, 1.1, 1.5])
    (verify,) = report.verify_calls()
    assert (verify.command, verify.passed, verify.failed) == ("pytest -q", False, True)
    assert [verify.asked, verify.ended] == pytest.approx([3.1, 4.1])
    assert verify.output.last_lines(2) == ["line 29", "line 30"]
    usage = report.usage()
    assert usage is not None and (usage.total, usage.cost_usd) == (300, 0.03)
    assert report.seconds() == 4.2


def test_a_stopped_call_keeps_its_rungs_and_the_orders_to_stop() -> None:
    report = made(
        made_runs.begun(CLOCK),
        made_runs.turn(CLOCK, 1, 1.0, made_runs.shell("a", "x"), made_runs.shell("b", "y")),
        CLOCK(CancelRequested, 2.0, reason="user", call="a"),
        CLOCK(CancelRequested, 3.0, reason="interrupt"),
        *made_runs.made(
            CLOCK, "a", 1.0, 4.0, outcome=Outcome.KILLED, rung=Rung.KILL,
            rungs_ms={"flag": 0.0, "kill": 900.0}, survivors=(Survivor(7, "dd"),), made=False,
            detail="user", output_bytes=9, output_file="output/a.txt", private_files=("/tmp/x",),
        ),
    )  # fmt: skip
    call = report.calls["a"]
    assert (call.outcome, call.rung, call.rungs_ms["kill"]) == (Outcome.KILLED, Rung.KILL, 900.0)
    assert (call.survivors, call.made, call.detail) == ((Survivor(7, "dd"),), False, "user")
    assert (call.output_bytes, call.output_file) == (9, "output/a.txt")
    assert call.private_files == ("/tmp/x",)
    assert call.failed and call.cancels == [(2.0, "user")]
    assert report.segments[0].cancels == [(3.0, "interrupt")]
    waiting = report.calls["b"]
    assert (waiting.outcome, waiting.started, waiting.failed) == (None, StartedState.NO, False)


def test_every_prefix_of_a_journal_has_a_report() -> None:
    events = made_runs.failed_run()
    statuses = [made(*events[:count]).status for count in range(len(events) + 1)]
    assert statuses == ["idle"] * 3 + ["lost"] * (len(events) - 3) + ["failed"]
    for count in range(len(events)):
        report = made(*events[:count])
        report.is_held = True
        assert report.status == "running"
        assert report.final_turn is None or count >= 8
    # What stands in no order at all: a report is made all the same.
    backwards = made(*reversed(events))
    assert set(backwards.calls) == {"call_1_1", "verify_1_1"}


def test_a_call_in_flight_is_known_as_far_as_it_went() -> None:
    events = [
        made_runs.begun(CLOCK),
        made_runs.turn(CLOCK, 1, 1.0, made_runs.shell("a", "x"), usage=made_runs.usage(10)),
        CLOCK(Dispatching, 1.1, call="a", tool="shell"),
        CLOCK(Started, 1.2, call="a"),
    ]
    found = [made(*events[:count]).calls["a"].started.value for count in (2, 3, 4)]
    assert found == ["no", "maybe", "yes"]
    report = made(*events)
    assert report.calls["a"].outcome is None and report.calls["a"].ended is None
    usage = report.usage()
    assert usage is not None and usage.total == 10  # of a segment without an end
    assert report.seconds() == pytest.approx(1.2)


@pytest.mark.parametrize("clock", [Clock(monotonic=9000.0), Clock(monotonic=1.0)])
def test_a_resume_of_a_lost_run_says_nothing_about_the_time_before(clock: Clock) -> None:
    """The same machine hours later, or the machine after a restart."""
    lost = [
        made_runs.begun(CLOCK),
        made_runs.turn(CLOCK, 1, 1.0, made_runs.shell("a", "x"), made_runs.shell("b", "y")),
        CLOCK(Dispatching, 1.1, call="a", tool="shell"),
        CLOCK(Started, 1.2, call="a"),
    ]
    closing = [
        clock(Ended, call="a", outcome=Outcome.UNKNOWN, started=StartedState.YES),
        clock(Ended, call="b", outcome=Outcome.SKIPPED, started=StartedState.NO),
        clock(UserText, text="Go on."),
    ]
    again = [
        made_runs.begun(clock, 2),
        made_runs.turn(clock, 2, 5.0, text="Done.", usage=made_runs.usage(7)),
        made_runs.ended(clock, 6.0, number=2, usage=made_runs.usage(7)),
    ]
    report = made(*lost, *closing, *again)
    assert [report.calls[one].ended for one in "ab"] == [None, None]
    assert [report.calls[one].outcome for one in "ab"] == [Outcome.UNKNOWN, Outcome.SKIPPED]
    assert [segment.last for segment in report.segments] == pytest.approx([1.2, 6.0])
    assert report.seconds() == pytest.approx(7.2)
    assert report.turns[-1].seconds == 5.0
    (message,) = (one for one in report.entries if isinstance(one, Message))
    assert (message.segment, message.between) == (1, True)
    assert (report.status, report.segments[0].end) == (Status.DONE, None)
    # Before the resume has begun its segment, the run is lost and has the same times.
    assert made(*lost, *closing).seconds() == pytest.approx(1.2)


def test_segments_are_added_up() -> None:
    first, clock = made_runs.failed_run(), Clock(monotonic=9000.0)
    second = [
        made_runs.begun(clock, 2, model="other"),
        made_runs.turn(clock, 3, 1.0, text="Now.", usage=made_runs.usage(50, 0.5)),
        made_runs.ended(clock, 2.0, number=2, usage=made_runs.usage(50, 0.5)),
    ]
    report = made(*first, clock(UserText, text="Again."), *second)
    usage = report.usage()
    assert usage is not None and (usage.total, usage.cost_usd) == (350, 0.53)
    assert (report.seconds(), report.status) == (6.2, Status.DONE)
    assert report.verify_calls() == [] and len(report.verify_calls(1)) == 1


def test_long_texts_lose_their_middle() -> None:
    text = "a" * HEAD + "b" * 1000 + "c" * TAIL
    kept = Text.of(text)
    assert len(kept.head) + len(kept.tail) + kept.left_out == len(text)
    assert "b" not in kept.head + kept.tail
    assert f"[... {kept.left_out} characters left out ...]" in kept.whole()
    short = Text.of("a" * (HEAD + TAIL))
    assert (short.left_out, short.whole()) == (0, "a" * (HEAD + TAIL))
    assert not Text() and Text.of("\n").last_lines() == [""]
    report = made(*made_runs.made(CLOCK, "a", 0.0, 1.0, "x" * 10_000_000))
    assert len(report.calls["a"].output.whole()) < 2 * (HEAD + TAIL)


def test_a_folder_is_read_with_its_lock(tmp_path: Path) -> None:
    made_runs.write(tmp_path, made_runs.failed_run()[:-1], encode(made_runs.failed_run()[-1])[:-9])
    assert (read_report(tmp_path).status, read_report(tmp_path).run) == ("lost", tmp_path.name)
    with made_runs.held(tmp_path):
        assert read_report(tmp_path).status == "running"
    made_runs.write(tmp_path, [])
    assert (read_report(tmp_path).status, read_report(tmp_path).entries) == ("idle", [])


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    for tail, why in ((b"garbled\n", "not a journal"), (encode(CLOCK(UserText, text="x")), "1:")):
        made_runs.write(tmp_path, [], tail)
        with pytest.raises(JournalError, match=why):
            read_report(tmp_path)
    (tmp_path / JOURNAL_FILE).unlink()
    os.mkfifo(tmp_path / JOURNAL_FILE)
    with pytest.raises(OSError, match="no ordinary file"):
        read_report(tmp_path)


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
