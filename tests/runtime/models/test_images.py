"""Images of tools, on their way to models that see, that do not, and that refuse them."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from provider import Answer, Fault, Kind, Request, Stub, ToolCall
from providing import CLAUDE, GPT, chat, said, sh
from sandbox_agent.journal.status import Status
from talking import Watch

BLIND = "openai/gpt-3.5-turbo"
LOOK = Answer(calls=(ToolCall("read_file", {"path": "dot.png"}),))
OK = Answer(text="Done.")
BOTH = pytest.mark.parametrize("name", [GPT, CLAUDE], ids=["openai", "anthropic"])


pytestmark = pytest.mark.usefixtures("warm_process")


def png() -> bytes:
    """One white pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff")
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def looking(folder: Path, watch: Watch, stub: Stub, name: str) -> Any:
    conversation = chat(folder, watch, stub, name, tools=["files"])
    (folder / "work" / "dot.png").write_bytes(png())
    return conversation


def shown(request: Request) -> bool:
    return base64.b64encode(png()).decode() in json.dumps(request.body)


def unseen(request: Request) -> bool:
    return "[1 image, which you cannot see]" in json.dumps(said(request))


@BOTH
def test_a_model_that_sees_is_shown_them(tmp_path: Path, watch: Watch, name: str) -> None:
    with Stub([LOOK, OK]) as stub, looking(tmp_path, watch, stub, name) as conv:
        assert conv.run().status is Status.DONE
        assert stub.violations == []
        assert shown(stub.requests[1]) and not unseen(stub.requests[1])


def test_a_model_without_vision_gets_a_note_in_place_of_the_image(
    tmp_path: Path, watch: Watch
) -> None:
    with Stub([LOOK, OK]) as stub, looking(tmp_path, watch, stub, BLIND) as conv:
        assert conv.run().status is Status.DONE
        assert stub.violations == []
        assert unseen(stub.requests[1]) and not shown(stub.requests[1])


@BOTH
def test_a_provider_that_refuses_them_is_asked_without(
    tmp_path: Path, watch: Watch, name: str
) -> None:
    refused = Answer(fault=Fault(Kind.BAD_REQUEST, message="Could not process image"))
    script = [LOOK, refused, LOOK, refused, OK]
    with Stub(script) as stub, looking(tmp_path, watch, stub, name) as conv:
        result = conv.run()
        assert (result.status, result.record.usage.requests) == (Status.DONE, 3)
        assert stub.violations == []
        assert [shown(one) for one in stub.requests] == [False, True, False, True, False]
        assert unseen(stub.requests[2])


@BOTH
def test_a_request_that_is_too_large_is_made_without_them_before_all_else_is_shortened(
    tmp_path: Path, watch: Watch, name: str
) -> None:
    """Shortening goes by tokens, for which an image counts less than it weighs."""
    talk = sh(*["head -c 9000 /dev/zero | tr '\\0' x"] * 6)
    too_large = Answer(fault=Fault(Kind.TOO_LARGE))
    script = [talk, LOOK, too_large, OK]
    with Stub(script) as stub, chat(tmp_path, watch, stub, name, tools=["shell", "files"]) as conv:
        (tmp_path / "work" / "dot.png").write_bytes(png())
        assert conv.run().status is Status.DONE
        assert stub.violations == []
        assert [shown(one) for one in stub.requests] == [False, False, True, False]
        assert json.dumps(stub.requests[3].body).count("x" * 9000) == 6


def test_a_refusal_for_another_reason_keeps_its_message(tmp_path: Path, watch: Watch) -> None:
    script = [
        LOOK,
        Answer(fault=Fault(Kind.BAD_REQUEST, message="temperature is not for this model")),
        Answer(fault=Fault(Kind.BAD_REQUEST, message="something else")),
    ]
    with Stub(script) as stub, looking(tmp_path, watch, stub, GPT) as conv:
        result = conv.run()
        assert (result.status, result.exit_code) == (Status.ERROR, 4)
        assert result.reason is not None and "temperature is not for this" in result.reason
        assert len(stub.requests) == 3
