"""What is told of the built-in tools is what their signatures say."""

from __future__ import annotations

from api.surface import built_in_tools
from sandbox_agent.tools.built_in import BUILT_IN, DESCRIBED, described


def test_the_file_says_what_the_tools_are() -> None:
    """If not: run scripts/api, and commit the file."""
    assert DESCRIBED.read_bytes() == built_in_tools()


def test_each_built_in_function_is_described_with_its_parameters() -> None:
    functions = [one for references in BUILT_IN.values() for one in references]
    assert list(described()) == functions
    for function, spec in described().items():
        assert spec.name == function.qualname
        assert spec.description
        assert spec.parameters["properties"]
