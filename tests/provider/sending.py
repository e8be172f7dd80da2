"""Writing one answer: in its own time, and with the end that the script wants."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator
from itertools import cycle

from aiohttp import web

from provider.requests import Request, Requests
from provider.script import Answer, End, cut


class Gates:
    """Where answers wait until the test lets them continue. Used in the loop only."""

    def __init__(self) -> None:
        self._events: dict[int, asyncio.Event] = {}
        self._all = False

    def of(self, number: int) -> asyncio.Event:
        event = self._events.setdefault(number, asyncio.Event())
        if self._all:
            event.set()
        return event

    def open(self, number: int | None) -> None:
        """Of this request, come or to come; None: of all."""
        if number is not None:
            self.of(number).set()
            return
        self._all = True
        for event in self._events.values():
            event.set()


class Sender:
    """Writes one answer, in the way that the script says."""

    def __init__(
        self,
        http: web.Request,
        request: Request,
        requests: Requests,
        gates: Gates,
        answer: Answer,
    ) -> None:
        self._http = http
        self._request = request
        self._requests = requests
        self._gates = gates
        self._answer = answer

    async def whole(self, body: bytes, status: int, headers: dict[str, str]) -> web.StreamResponse:
        """An answer in one piece."""
        answer, half = self._answer, len(body) // 2
        response = web.StreamResponse(status=status, headers=headers)
        damaged = answer.fault is None and answer.end is not End.WHOLE
        cuts = damaged and answer.end not in (End.CLOSE, End.RESET)
        response.content_length = half if cuts else len(body)
        await response.prepare(self._http)
        await response.write(body[:half])
        self._wrote()
        if damaged:
            return await self._broken_off(response)
        if answer.hold_at:
            await self._gates.of(self._request.number).wait()
        await response.write(body[half:])
        self._wrote()
        return await self._ended(response)

    async def stream(self, events: Iterator[bytes]) -> web.StreamResponse:
        """An answer as server-sent events."""
        answer = self._answer
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(self._http)
        if answer.end is End.ENDLESS:
            events = _endless(events, answer)
        for number, event in enumerate(events):
            if number == answer.hold_at:
                await self._gates.of(self._request.number).wait()
            if answer.fault is None and number == answer.after and answer.end in _AT:
                return await self._broken_off(response)
            if number and (answer.pause or answer.end is End.ENDLESS):
                await asyncio.sleep(answer.pause)
            await response.write(event)
            self._wrote()
        return await self._ended(response)

    async def _broken_off(self, response: web.StreamResponse) -> web.StreamResponse:
        transport = self._http.transport
        match self._answer.end:
            case End.CLOSE if transport is not None:
                transport.close()
            case End.RESET if transport is not None:
                peer = transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            case End.BAD_JSON if response.chunked:
                await response.write(b'data: {"choices": [{"index": 0, "delta": {"cont\n\n')
                return await self._ended(response)
            case End.BAD_SSE if response.chunked:
                await response.write(b"\x00\xff this is no event\n\n")
                return await self._ended(response)
            case _:
                return await self._ended(response)
        return response

    def _wrote(self) -> None:
        def more() -> None:
            self._request.events += 1

        self._requests.note(more)

    async def _ended(self, response: web.StreamResponse) -> web.StreamResponse:
        await response.write_eof()
        now = time.monotonic()
        self._requests.note(lambda: setattr(self._request, "answered", now))
        return response


_AT = (End.SHORT, End.CLOSE, End.RESET, End.BAD_JSON, End.BAD_SSE)


def _endless(events: Iterator[bytes], answer: Answer) -> Iterator[bytes]:
    """All up to the end of the text; then the text's events again and again."""
    pieces = [json.dumps(piece).encode() for piece in cut(answer.text, answer.pieces)]
    spoken: list[bytes] = []
    for event in events:
        if any(piece in event for piece in pieces):
            spoken.append(event)
        elif spoken:
            break
        yield event
    yield from cycle(spoken)


def first(events: Iterator[bytes], number: int) -> list[bytes]:
    return [event for event, _ in zip(events, range(number), strict=False)]
