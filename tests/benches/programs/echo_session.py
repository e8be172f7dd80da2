"""A session that answers each request with what it got."""

from __future__ import annotations

from typing import Any


def serve(end: Any) -> None:
    end.ready()
    while (asked := end.receive()) is not None:
        end.done(asked, asked.body)
        asked.close()
