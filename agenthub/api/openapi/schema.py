"""JSON Schema in few words: what the descriptions of the endpoints are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]


def _typed(kind: str, about: str, more: Mapping[str, Any]) -> Schema:
    return {"type": kind} | ({"description": about} if about else {}) | dict(more)


def text(about: str = "", **more: Any) -> Schema:
    return _typed("string", about, more)


def integer(about: str = "", **more: Any) -> Schema:
    return _typed("integer", about, {"format": "int64", **more})


def number(about: str = "", **more: Any) -> Schema:
    return _typed("number", about, more)


def flag(about: str = "", **more: Any) -> Schema:
    return _typed("boolean", about, more)


def array(items: Schema, about: str = "", **more: Any) -> Schema:
    return _typed("array", about, {"items": items, **more})


def anything(about: str) -> Schema:
    """A value that the hub does not look at: whoever answers judges it."""
    return {"description": about}


def choice(*values: str, about: str = "") -> Schema:
    return text(about, enum=list(values))


def either(*schemas: Schema, about: str = "") -> Schema:
    return {"anyOf": list(schemas)} | ({"description": about} if about else {})


def ref(name: str) -> Schema:
    """A schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(kind := schema.get("type"), str):
        values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
        return schema | {"type": [kind, "null"]} | values
    if "anyOf" in schema:
        return schema | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    return either(schema, {"type": "null"}) if "$ref" in schema else schema


def taken(required: Mapping[str, Schema], optional: Mapping[str, Schema], about: str = "", **more: Any) -> Schema:
    """An object that a client sends: null is as good as absent, and members without a name here are let through."""
    members = dict(required) | {name: or_null(schema) for name, schema in optional.items()}
    return _typed("object", about, ({"required": list(required)} if required else {}) | {"properties": members} | more)


def given(required: Mapping[str, Schema], optional: Mapping[str, Schema], about: str = "") -> Schema:
    """An object of an answer; an upstream may have put more into it."""
    return _typed("object", about, {"required": list(required), "properties": {**required, **optional}})
