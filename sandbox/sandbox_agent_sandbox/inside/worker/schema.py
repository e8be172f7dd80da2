"""From a msgspec Struct to the JSON Schema that a model gets."""

from __future__ import annotations

from typing import Any

import msgspec

_REF = "#/$defs/"


def object_schema(struct: type[msgspec.Struct], custom: Any) -> dict[str, Any]:
    """The schema of a Struct's JSON object, self-contained.

    Shared types are written out where they are used, because several providers do not follow
    `$ref`; only a type that contains itself keeps one. custom: the schema hook for types that
    msgspec lacks. Raises TypeError for a type that has no JSON form.
    """
    (root,), shared = msgspec.json.schema_components(
        [struct], schema_hook=custom, ref_template=_REF + "{name}"
    )
    kept: set[str] = set()
    schema: dict[str, Any] = _inline(root, shared, (), kept)
    # A kept definition may need others: go on until there is no new one.
    definitions: dict[str, Any] = {}
    while missing := sorted(kept - definitions.keys()):
        for name in missing:
            definitions[name] = _inline(shared[name], shared, (name,), kept)
    schema.pop("title", None)
    schema.pop("description", None)
    schema.setdefault("properties", {})
    schema.setdefault("required", [])
    if definitions:
        schema["$defs"] = definitions
    return schema


def _inline(node: Any, shared: dict[str, Any], inside: tuple[str, ...], kept: set[str]) -> Any:
    """A copy of node with references replaced, except those to a type that contains the node."""
    if isinstance(node, list):
        return [_inline(item, shared, inside, kept) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return {key: _inline(value, shared, inside, kept) for key, value in node.items()}
    name = reference.removeprefix(_REF)
    if name in inside:
        kept.add(name)
        return dict(node)
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return _inline(shared[name], shared, (*inside, name), kept) | beside
