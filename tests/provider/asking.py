"""A client for the stub's own tests, in plain HTTP: nothing that reads between the lines."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from provider.stub import Stub

Json = dict[str, Any]
USER: Json = {"role": "user", "content": "go on"}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
PATIENCE = 10.0


@contextmanager
def asked(stub: Stub | str, provider: str = "openai", **more: Any) -> Iterator[Any]:
    """A connection on which a request has been sent; its answer is not read yet."""
    address = stub if isinstance(stub, str) else stub.address
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE)
    body = {"model": "m", "max_tokens": 9, "messages": [USER], **more}
    headers = {"Content-Type": "application/json", "Authorization": "Bearer key"}
    connection.request("POST", PATHS[provider], json.dumps(body), headers)
    try:
        yield connection
    finally:
        connection.close()


def ask(stub: Stub | str, provider: str = "openai", **more: Any) -> Json:
    """The answer, read to its end."""
    with asked(stub, provider, **more) as connection:
        return dict(json.loads(connection.getresponse().read()))


def stream(stub: Stub, provider: str = "openai", **more: Any) -> list[Json]:
    """The data of all events of a stream but [DONE]."""
    with asked(stub, provider, stream=True, **more) as connection:
        lines = connection.getresponse().read().decode().splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def text(answer: Json) -> str:
    """What an answer says, of either provider."""
    if "choices" in answer:
        return str(answer["choices"][0]["message"]["content"])
    return str(answer["content"][0]["text"])
