"""Stand-ins for model providers: OpenAI's and Anthropic's APIs over real HTTP, from a script.

`with Stub([...])` in a test, or `python -m provider --script FILE.json` as a process of its own.
"""

from provider.requests import Request
from provider.script import Answer, By, End, Fault, Kind, Script, Then, ToolCall, Usage
from provider.stub import Stub

__all__ = [
    "Answer",
    "By",
    "End",
    "Fault",
    "Kind",
    "Request",
    "Script",
    "Stub",
    "Then",
    "ToolCall",
    "Usage",
]
