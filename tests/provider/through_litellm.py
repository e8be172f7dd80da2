"""Run as a process: what the real litellm makes of the stub's answers, printed as JSON.

Reads {"exchanges": {name: arguments of acompletion}, "questions": {name: [function, arguments]}}
from its standard input and writes {name: what came} to its standard output. litellm's import costs
seconds, so it is done once, and all is asked for at once; what waits for a time-out comes last,
when nothing else holds the loop up.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

litellm.suppress_debug_info = True  # it prints advice to standard output otherwise
Json = dict[str, Any]


async def exchange(arguments: Json) -> Json:
    """One request. pieces: what a stream brought, up to its end or `error`. received: the finish
    reason that really came, None where litellm made one up. answer: one that was not streamed.
    given_up: when the task was cancelled, after `give_up` seconds."""
    arguments = dict(arguments)
    give_up = arguments.pop("give_up", None)
    found: Json = {"pieces": []}
    task = asyncio.create_task(ask(arguments, found))
    if give_up is not None:
        await asyncio.sleep(give_up)
        found["given_up"] = time.monotonic()
        task.cancel()
    await asyncio.wait([task])
    return found


async def ask(arguments: Json, found: Json) -> None:
    try:
        answer = await litellm.acompletion(num_retries=0, max_retries=0, **arguments)
        if not arguments.get("stream"):
            found["answer"] = answer.model_dump(exclude_none=True)
            return
        async for chunk in answer:
            found["pieces"].append(chunk.model_dump(exclude_none=True))
        found["received"] = answer.received_finish_reason
    except Exception as error:
        found["error"] = told(error)


def told(error: Exception) -> Json:
    original = getattr(error, "original_exception", None)
    headers = getattr(error, "litellm_response_headers", None) or {}
    return {
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "status": getattr(error, "status_code", None),
        "words": str(error),
        "retry_after": headers.get("retry-after"),
        "original": original and type(original).__name__,
        "cause": type(error.__cause__ or error.__context__).__name__,
    }


def answered(function: str, arguments: Json) -> Json:
    try:
        value = getattr(litellm, function)(**arguments)
        return {"value": value if isinstance(value, (dict, float)) else list(value)}
    except Exception as error:
        return {"error": told(error)}


async def main() -> None:
    asked = json.load(sys.stdin)
    told = {name: answered(*question) for name, question in asked["questions"].items()}
    exchanges = asked["exchanges"]
    patient = {name for name, one in exchanges.items() if "give_up" in one or "timeout" in one}
    for group in (exchanges.keys() - patient, patient):
        names = sorted(group)
        found = await asyncio.gather(*(exchange(exchanges[name]) for name in names))
        told.update(zip(names, found, strict=True))
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.flush()
    os._exit(0)  # its teardown takes a second, for nothing
