"""Files of tests that run one after the other in one process, since they share what is slow."""

from __future__ import annotations

GROUPS = {
    f"tests/runtime/models/{name}.py": group
    for group, names in {
        "litellm, asked directly": (
            "test_completion",
            "test_answer_ends",
            "test_answer_fuzz",
            "test_stream_limits",
        ),
        "litellm, in a model process": ("test_images", "test_provider"),
    }.items()
    for name in names
}


def of(nodeid: str) -> str:
    """The group of a test; most files are a group of their own."""
    file = nodeid.partition("::")[0]
    return GROUPS.get(file, file)
