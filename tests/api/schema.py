"""A JSON Schema's part of the surface: one entry for each field, by its path."""

from __future__ import annotations

from typing import Any

Entries = dict[str, Any]

_PROSE = ("description", "title", "examples", "$defs", "$schema")


def fields(schema: Any) -> Entries:
    """One entry for each field, by its path: "budgets.turns", "ended.outcome", "tools[].spec"."""
    entries: Entries = {}
    _flatten(schema, schema.get("$defs", {}), "", (), entries)
    return entries


def _flatten(node: Any, defs: Any, path: str, above: tuple[str, ...], entries: Entries) -> None:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name not in above:
            _flatten(defs[name], defs, path, (*above, name), entries)
        return
    properties = node.get("properties", {})
    tag = next((one["enum"][0] for one in properties.values() if len(one.get("enum", "")) == 1), "")
    if not path and tag:
        path = tag  # an event, by its kind
        entries[path] = "event"
    for name, child in properties.items():
        full = f"{path}.{name}" if path else name
        needed = {"required": True} if name in node.get("required", ()) else {}
        entry = {**_entry(child, defs), **needed}
        same = entries.get(full, entry) == entry
        entries[full] = entry if same else {"oneOf": [entries[full], entry]}
        _flatten(child, defs, full, above, entries)
    for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for child in node.get(word, ()):
            _flatten(child, defs, path, above, entries)
    for word, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(node.get(word), dict):
            _flatten(node[word], defs, path + suffix, above, entries)


def _entry(node: Any, defs: Any) -> Any:
    """A schema without its prose and without the fields of objects, which have own entries."""
    if isinstance(node, list):
        return [_entry(one, defs) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        meant = defs[name]
        rest = {word: one for word, one in node.items() if word not in ("$ref", *_PROSE)}
        body = {"type": "object"} if "properties" in meant else _entry(meant, defs)
        return {**body, **rest} if isinstance(body, dict) else body
    kept = {word: one for word, one in node.items() if word not in (*_PROSE, "properties")}
    if "properties" in node:
        kept = {word: one for word, one in kept.items() if word not in ("required", "$defs")}
    return {
        word: one if word in ("default", "const", "enum") else _entry(one, defs)
        for word, one in kept.items()
    }
