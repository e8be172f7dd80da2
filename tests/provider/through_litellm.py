"""Run as a process: what the real litellm makes of the stub's answers, told as JSON.

Reads {case: arguments of acompletion} from its standard input, asks for all of them at once, and
writes {case: what came} to its standard output. litellm's import costs seconds, so it is done once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

litellm.suppress_debug_info = True  # it prints advice to standard output otherwise
Json = dict[str, Any]


async def exchange(arguments: Json) -> Json:
    """One request. pieces: the deltas of a stream; answer: the whole message; error: what was
    raised, with the pieces that had come before."""
    arguments = dict(arguments)
    cancel_after = arguments.pop("cancel_after", None)
    pieces: list[Json] = []
    chunks: list[Any] = []
    try:
        answer = await litellm.acompletion(num_retries=0, max_retries=0, **arguments)
        if arguments.get("stream"):
            async for chunk in answer:
                chunks.append(chunk)
                pieces.append(chunk.model_dump(exclude_none=True))
                if cancel_after is not None and len(chunks) >= cancel_after:
                    await answer.aclose()
                    return {"pieces": pieces, "cancelled": True}
            received = answer.received_finish_reason
            answer = litellm.stream_chunk_builder(chunks, messages=arguments["messages"])
        else:
            received = answer.choices[0].finish_reason
        whole = answer and answer.model_dump(exclude_none=True)
        return {"pieces": pieces, "answer": whole, "finish_received": received}
    except Exception as error:
        return {"pieces": pieces, "error": told(error)}


def told(error: Exception) -> Json:
    response = getattr(error, "response", None)
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {
        "kinds": kinds[: kinds.index("Exception")],
        "status": getattr(error, "status_code", None),
        "provider": getattr(error, "llm_provider", None),
        "code": getattr(error, "code", None),
        "words": str(error),
        "retry_after": response.headers.get("retry-after") if response is not None else None,
        "litellm_headers": dict(getattr(error, "litellm_response_headers", None) or {}),
        "body": repr(getattr(error, "body", None))[:500],
        "original": repr(getattr(error, "original_exception", None))[:300],
        "original_kind": type(getattr(error, "original_exception", None)).__name__,
        "cause": repr(error.__cause__ or error.__context__)[:300],
    }


async def main() -> None:
    cases = json.load(sys.stdin)
    answers = await asyncio.gather(*(exchange(one) for one in cases.values()))
    json.dump(dict(zip(cases, answers, strict=True)), sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.flush()
    os._exit(0)  # its teardown takes a second, for nothing
