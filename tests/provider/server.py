"""The stub's two endpoints. Runs in one event loop; a script decides what they answer, and the test
when they continue."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from provider import anthropic_shape, openai_shape
from provider.faults import refusal
from provider.history_rules import anthropic_problems, openai_problems
from provider.requests import Request, Requests
from provider.script import Answer, Fault, Kind
from provider.sending import Gates, Sender, first

Choose = Callable[[Request], Answer]
LARGEST = 1 << 30
"""Bytes of a request."""


class Server:
    """choose: the answer to a request. validate: refuse what the providers would refuse. keep: the
    bodies of requests; of a long conversation they are more and more of the same."""

    def __init__(self, choose: Choose, requests: Requests, *, validate: bool, keep: bool) -> None:
        self.gates = Gates()
        self.failures: list[Exception] = []
        self._choose = choose
        self._requests = requests
        self._validate = validate
        self._keep = keep
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
        at = time.monotonic()  # before what takes the longer the more it is
        body = None
        with suppress(ValueError):
            body = json.loads(raw)
        headers = {name.lower(): value for name, value in http.headers.items()}
        request = self._requests.add(http.path, headers, body, at)
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
        finally:
            if not self._keep:
                request.body = None

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
        sender = Sender(http, request, self._requests, self.gates, answer)
        if answer.fault is not None:
            model = str(asked.get("model", ""))
            said = refusal(answer.fault, anthropic=anthropic, model=model, key=request.key)
            if not (asked.get("stream") and answer.after):
                return await sender.whole(said.body, said.status, said.headers)
            events = first(shape.events(answer, asked, request.number), answer.after)
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
