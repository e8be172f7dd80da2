"""`python -m chaos.providing`: a stand-in for a provider that answers what it is told to.

What each round wants answered comes with the round's own message of the user, so that whoever
repeats a request is answered alike, save that nobody is kept waiting twice. Its first line is its
address; then one for each request: {"round": ..., "turn": ..., "number": ...}.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

import msgspec
from provider.__main__ import ENDS, PR_SET_PDEATHSIG
from provider.requests import Request
from provider.script import Answer
from provider.stub import Stub

from chaos.asked import ORDER


def main() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    asked: set[tuple[int, int]] = set()

    def choose(request: Request) -> Answer:
        order, turn = last_order(request.body["messages"])
        answers = order["answers"]
        answer = msgspec.convert(answers[min(turn, len(answers) - 1)], Answer)
        if (order["round"], turn) in asked:
            answer = msgspec.structs.replace(answer, hold_at=None, delay=0.0, pause=0.0)
        asked.add((order["round"], turn))
        say({"round": order["round"], "turn": turn, "number": request.number})
        return answer

    with Stub(choose, keep=False) as stub:
        say(stub.address)
        signal.sigwait(ENDS)


def last_order(messages: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """The order of the latest round, and how many turns there have been since."""
    turns = 0
    for message in reversed(messages):
        turns += message["role"] == "assistant"
        if message["role"] != "user":
            continue
        # Several messages in a row, of rounds that came to nothing, are sent as one.
        _, order, rest = "\n".join(texts(message["content"])).rpartition(ORDER)
        if order:
            return json.JSONDecoder().raw_decode(rest)[0], turns
    raise LookupError("nobody was told to do their worst")


def texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content if part.get("type") == "text"]


def say(what: Any) -> None:
    sys.stdout.write((what if isinstance(what, str) else json.dumps(what)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
