"""Hands sessions to umpires, some for each processor, and collects the verdicts."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import identity
import msgspec
import paths

from chaos.plan import NEEDS_ROOT, Round, Session, sessions
from chaos.report import Report

PATIENCE = 150.0
"""Seconds in which an umpire must have an answer."""
MODEL_PATIENCE = 20.0
"""Seconds more for each round that may need a new model process."""

ROOT, USER, BOTH = "root", "user", "both"


class Post:
    """One umpire and where it works. place: the host that it plays (tests/support/environments)."""

    def __init__(self, kind: str, environment: Mapping[str, str], place: str = "") -> None:
        self.kind = kind
        self.session: Session | None = None
        self.since = time.monotonic()
        self._context = contextlib.contextmanager(identity.someone)(
            f"{kind} in {place}" if place else kind
        )
        self.person = self._context.__enter__()
        tests = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), *paths.IMPORT_PATHS)))
        self.process = self.person.start(
            [sys.executable, "-m", "chaos.umpire", str(self.person.folder)],
            env={**environment, "PYTHONPATH": tests, "TMPDIR": str(self.person.folder)},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE if sys.stderr is None else None,
            # A terminal's Ctrl-C is for us alone. Ignored instead, agents would inherit that.
            start_new_session=True,
        )

    def give(self, session: Session) -> None:
        self.session, self.since = session, time.monotonic()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(msgspec.json.encode(session).decode() + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # told by the end of its output

    def answer(self) -> dict[str, Any] | None:
        """The verdicts that have come; None when the umpire is dead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return msgspec.json.decode(line) if line.endswith("\n") else None

    def close(self) -> None:
        # Its agents die with it: they read from its sockets.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # type: ignore[union-attr]
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]
        self._context.__exit__(None, None, None)


class Runner:
    """kind: root, user or both. posts: umpires. most: rounds. minutes: after which no session is
    begun any more. environment: of the umpires. stop_at: a violation that matches is all that is
    wanted; then `found` is its text. focus: play sessions that have such a round."""

    def __init__(
        self,
        seed: int,
        kind: str,
        posts: int,
        *,
        most: int,
        minutes: float | None = None,
        environment: Mapping[str, str] | None = None,
        stop_at: str | None = None,
        focus: Callable[[Round], bool] | None = None,
        progress: bool = False,
        place: str = "",
    ) -> None:
        self.seed = seed
        self.kind = kind
        self._place = place
        self.report = Report()
        self._posts = posts
        self._most = most
        self._end = time.monotonic() + (minutes or 1e9) * 60
        self._environment = dict(environment or {})
        self._stop = re.compile(stop_at) if stop_at else None
        self._focus = focus
        self.found: str | None = None
        self._progress = progress
        self._shown = 0.0
        self._deaths = 0

    def run(self) -> Report:
        """Play the plan's first `most` rounds."""
        kinds = [ROOT, USER] if self.kind == BOTH else [self.kind]
        queues = {kind: self._sessions(kind) for kind in kinds}
        # With both, each takes from its own half of the plan, and helps with the other at the end.
        self._play([kinds[n % len(kinds)] for n in range(max(self._posts, len(kinds)))], queues)
        for late in self.report.as_a_rule():
            self._violation({"round": None, "violations": [late]}, self.kind)
        return self.report

    def stop(self) -> None:
        """Begin no session any more; those at play come to their end. For signal handlers."""
        self._end = 0.0

    def replay(self, number: int) -> list[dict[str, Any]]:
        """Play the session of one round, up to that round. Returns its verdicts."""
        for session in sessions(self.seed):
            if session.rounds[-1].number >= number:
                break
        rounds = tuple(plan for plan in session.rounds if plan.number <= number)
        kind = self.kind if self.kind != BOTH else (USER if session.user else ROOT)
        post = Post(kind, self._environment, self._place)
        try:
            post.give(msgspec.structs.replace(session, rounds=rounds))
            answer = post.answer()
        finally:
            post.close()
        self._take(answer, kind, session)
        return answer.get("verdicts", []) if answer else []

    def _sessions(self, kind: str) -> Iterator[Session]:
        for session in sessions(self.seed):
            if session.rounds[0].number >= self._most:
                return
            if self._focus is not None and not any(map(self._focus, session.rounds)):
                continue
            if self.kind == BOTH and session.user is not (kind == USER):
                continue
            if kind == USER and session.rounds[0].cause in NEEDS_ROOT:
                continue
            rounds = tuple(plan for plan in session.rounds if plan.number < self._most)
            yield msgspec.structs.replace(session, rounds=rounds)

    def _play(self, kinds: list[str], queues: dict[str, Iterator[Session]]) -> None:
        posts = [Post(kind, self._environment, self._place) for kind in kinds]
        with selectors.DefaultSelector() as selector:
            try:
                for post in posts:
                    selector.register(post.process.stdout, selectors.EVENT_READ, post)  # type: ignore[arg-type]
                    session = self._next(queues[post.kind])
                    if session is not None:
                        post.give(session)
                while any(post.session is not None for post in posts):
                    for key, _ in selector.select(1.0):
                        self._hear(key.data, queues, selector, posts)
                    self._look_at_the_clock(posts)
            finally:
                for post in posts:
                    post.close()

    def _next(self, queue: Iterator[Session]) -> Session | None:
        over = time.monotonic() > self._end or self.found or self._deaths > 2
        return None if over else next(queue, None)

    def _hear(
        self,
        post: Post,
        queues: dict[str, Iterator[Session]],
        selector: selectors.BaseSelector,
        posts: list[Post],
    ) -> None:
        answer = post.answer()
        if post.session is not None:
            self._take(answer, post.kind, post.session)
        own = None if answer is None else self._next(queues[post.kind])
        if own is not None:
            post.give(own)
            return
        # It is dead, or has no more to do: in its place comes one for whatever there is.
        selector.unregister(post.process.stdout)  # type: ignore[arg-type]
        posts.remove(post)
        post.close()
        for kind, queue in queues.items():
            session = self._next(queue)
            if session is not None:
                post = Post(kind, self._environment, self._place)
                post.give(session)
                posts.append(post)
                selector.register(post.process.stdout, selectors.EVENT_READ, post)  # type: ignore[arg-type]
                return

    def _take(self, answer: dict[str, Any] | None, kind: str, session: Session) -> None:
        self._deaths = self._deaths + 1 if answer is None else 0
        if answer is None or "bug" in answer:
            why = answer["bug"] if answer else "the umpire died"
            number = session.rounds[0].number
            self._violation({"round": number, "violations": [f"chaos itself: {why}"]}, kind)
            return
        if "left_out" in answer:
            self.report.left_out[answer["left_out"]] += len(session.rounds)
            return
        for verdict in answer["verdicts"]:
            self.report.add(verdict, kind)
            if verdict["violations"]:
                self._violation(verdict, kind)
        if self._stop is not None:
            self.found = self.found or next(filter(self._stop.match, self.report.as_a_rule()), None)
        if self._progress and time.monotonic() > self._shown + 10:
            self._shown = time.monotonic()
            say(f"chaos: {self.report.rounds} rounds, {len(self.report.violations)} violations")

    def _violation(self, verdict: dict[str, Any], kind: str) -> None:
        number = verdict["round"]
        where = f" --in {self._place}" if self._place else ""
        command = f"scripts/chaos --as {kind}{where} --replay {self.seed}:{number}"
        for line in verdict["violations"]:
            if self._stop and self._stop.match(line):
                self.found = self.found or line
        verdict = {**verdict, "as": kind, "replay": None if number is None else command}
        self.report.violations.append(verdict)
        if self._progress:
            for line in verdict["violations"]:
                say(f"chaos: VIOLATION: {line[:400]}\n    {verdict['replay']}")

    def _look_at_the_clock(self, posts: list[Post]) -> None:
        for post in posts:
            if post.session is None:
                continue
            patience = PATIENCE + MODEL_PATIENCE * len(post.session.rounds) * post.session.asks
            if time.monotonic() > post.since + patience:
                post.process.kill()  # its output ends, and `_hear` tells


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
