"""Images that tools return for the model to see."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox_agent_ipc.messages import FunctionRef, Image, Result, ResultKind
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.images import MAX_IMAGE_BYTES, MAX_IMAGES, media_type_of, select_images
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandbox_agent_sandbox.received import bounded
from sandboxes import function, run, sandbox

HERE = Path(__file__).parent
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
FILES = FunctionRef("sandbox_agent_sandbox.inside.tools.files", "read_file")


def called(tmp_path: Path, module: str, name: str, arguments: object) -> CallResult:
    (tmp_path / "seeing.py").write_text((HERE / "seeing.py").read_text())

    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            assert isinstance(cell, Cell)
            return await cell.call(function(tmp_path, module, name, arguments))

    return run(main)


def test_an_image_comes_back_whole(tmp_path: Path) -> None:
    result = called(tmp_path, "seeing", "shows", {"count": 2})
    assert (result.outcome, result.content) == (Outcome.OK, "look")
    assert result.images == (Image("image/png", PNG),) * 2


@pytest.mark.parametrize(
    ("arguments", "kept", "said"),
    [
        ({"count": MAX_IMAGES + 1}, MAX_IMAGES, f"image 9: a result has {MAX_IMAGES}"),
        ({"count": 1, "size": MAX_IMAGE_BYTES}, 0, "image 1: 1048684 bytes"),
    ],
)
def test_what_is_too_much_is_left_out_and_said_so(
    tmp_path: Path, arguments: object, kept: int, said: str
) -> None:
    result = called(tmp_path, "seeing", "shows", arguments)
    assert (result.outcome, len(result.images)) == (Outcome.OK, kept)
    assert said in result.content


def test_what_is_no_image_is_not_shown_as_one(tmp_path: Path) -> None:
    result = called(tmp_path, "seeing", "lies", {})
    assert result.images == ()
    assert "image 1: it is not a PNG" in result.content


def test_the_host_believes_no_worker() -> None:
    liar = Result(ResultKind.OK, "", images=(Image("image/png", b"<svg>"), Image("image/png", PNG)))
    assert bounded(liar, 1024).images == (Image("image/png", PNG),)
    many = Result(ResultKind.OK, "", images=(Image("image/png", PNG),) * 20)
    assert len(bounded(many, 1024).images) == MAX_IMAGES


@pytest.mark.parametrize(
    ("start", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"%PDF", None),
        (b"", None),
    ],
)
def test_types_are_known_by_their_first_bytes(start: bytes, media_type: str | None) -> None:
    assert media_type_of(start) == media_type
    assert (select_images([Image(media_type or "image/png", start)])[0] != ()) is bool(media_type)


def test_read_file_shows_an_image_and_reads_text_that_only_begins_like_one(tmp_path: Path) -> None:
    (tmp_path / "shot.png").write_bytes(PNG)
    (tmp_path / "text.txt").write_text("GIF89a is how a GIF begins\n")
    shot = called(tmp_path, FILES.module, FILES.qualname, {"path": "shot.png"})
    assert shot.content == f"[image/png, {len(PNG)} bytes]"
    assert shot.images == (Image("image/png", PNG),)
    text = called(tmp_path, FILES.module, FILES.qualname, {"path": "text.txt"})
    assert (text.images, text.content) == ((), "GIF89a is how a GIF begins\n")
