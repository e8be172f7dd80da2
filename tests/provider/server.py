"""The stub's two endpoints. Runs in one event loop; told what to answer, and when to go on."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from typing import Any

from aiohttp import web
from history_rules import anthropic_problems, openai_problems

from provider import anthropic_shape, openai_shape
from provider.faults import refusal
from provider.requests import Request, Requests
from provider.script import Answer, End, Fault, Kind, cut

Choose = Callable[[Request], Answer]
LARGEST = 1 << 30
"""Bytes of a request."""


class Gates:
    """Where answers wait until somebody lets them go on. Used in the loop only."""

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


class Server:
    """choose: the answer to a request. validate: refuse what the providers would refuse."""

    def __init__(self, choose: Choose, requests: Requests, *, validate: bool) -> None:
        self.gates = Gates()
        self.failures: list[Exception] = []
        self._choose = choose
        self._requests = requests
        self._validate = validate
        self._closing = False
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> int:
        """Listen on the loopback interface. Returns the port."""
        app = web.Application(client_max_size=LARGEST)
        app.router.add_post(openai_shape.PATH, self._answer)
        app.router.add_post(anthropic_shape.PATH, self._answer)
        app.router.add_get("/_stub/requests", self._told)
        app.router.add_post("/_stub/open", self._opened)
        app.router.add_route("*", "/{path:.*}", self._stray)
        # A client that goes away cancels its handler at once: so that is seen, and when.
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Break off whatever is going on."""
        self._closing = True
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        raw = await http.read()
        body = None
        with suppress(ValueError):
            body = json.loads(raw)
        headers = {name.lower(): value for name, value in http.headers.items()}
        request = self._requests.add(http.path, headers, body)
        try:
            return await self._respond(http, request)
        except asyncio.CancelledError:
            now = time.monotonic()
            if not self._closing:
                self._requests.note(lambda: setattr(request, "closed", now))
            raise
        except ConnectionError:  # written to when it had just gone
            now = time.monotonic()
            self._requests.note(lambda: setattr(request, "closed", now))
            raise
        except Exception as error:  # of a test's own callable, or of ours: not to be overlooked
            self.failures.append(error)
            raise

    async def _respond(self, http: web.Request, request: Request) -> web.StreamResponse:
        anthropic = http.path == anthropic_shape.PATH
        shape = anthropic_shape if anthropic else openai_shape
        answer = self._choose(request)
        broken = self._broken(request, anthropic) if self._validate else []
        if broken:
            found = [f"request {request.number}: {problem}" for problem in broken]
            self._requests.note(lambda: self._requests.violations.extend(found))
            answer = Answer(fault=Fault(Kind.BAD_REQUEST, message=broken[0]))
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.hold_at == 0:
            await self.gates.of(request.number).wait()
        asked = request.body if isinstance(request.body, dict) else {}
        sender = _Sender(http, request, self._requests, self.gates, answer)
        if answer.fault is not None:
            model = str(asked.get("model", ""))
            said = refusal(answer.fault, anthropic=anthropic, model=model, key=request.key)
            if not (asked.get("stream") and answer.after):
                return await sender.whole(said.body, said.status, said.headers)
            events = _first(shape.events(answer, asked, request.number), answer.after)
            return await sender.stream(iter([*events, shape.event(said.event)]))
        if asked.get("stream"):
            return await sender.stream(shape.events(answer, asked, request.number))
        data = json.dumps(shape.body(answer, asked, request.number)).encode()
        return await sender.whole(data, 200, {"Content-Type": "application/json"})

    def _broken(self, request: Request, anthropic: bool) -> list[str]:
        body = request.body
        if not isinstance(body, dict):
            return ["We could not parse the JSON body of your request."]
        if anthropic:
            return anthropic_problems(body) + anthropic_shape.forged(body)
        return openai_problems(body.get("messages"), body.get("tools"))

    async def _stray(self, http: web.Request) -> web.Response:
        self._requests.note(lambda: self._requests.strays.append(http.path))
        return web.Response(status=404, text="404 page not found\n")

    async def _told(self, http: web.Request) -> web.Response:
        """For other processes: what was asked and what was wrong with it."""
        names = ("number", "path", "headers", "body", "at", "events", "answered", "closed")
        told: dict[str, Any] = {
            "requests": [{name: getattr(one, name) for name in names} for one in self._requests.all]
        }
        told["violations"] = self._requests.violations
        return web.json_response(told)

    async def _opened(self, http: web.Request) -> web.Response:
        number = http.query.get("number")
        self.gates.open(int(number) if number is not None else None)
        return web.Response()


class _Sender:
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


def _first(events: Iterator[bytes], number: int) -> list[bytes]:
    return [event for event, _ in zip(events, range(number), strict=False)]
