"""JSON as text: change one top-level value and leave every other byte as it was."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_SPACE = re.compile(r"[ \t\n\r]*")


def loads(data: bytes) -> Any:
    """Parse JSON; raise ValueError where there is none."""
    try:
        return orjson.loads(data)
    except ValueError:
        # orjson refuses what Go and Python take, such as lone surrogates in escapes.
        return json.loads(data, parse_constant=_refuse)


def loads_first(text: str) -> Any:
    """Parse the first JSON value of ``text`` and leave the rest alone; raise json.JSONDecodeError."""
    return _DECODER.raw_decode(text)[0]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def dumps(value: Any, *, sort_keys: bool = False) -> bytes:
    """Render compact JSON as UTF-8, keys in their order or sorted."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:  # integers beyond 64 bits, lone surrogates
        text = json.dumps(value, separators=(",", ":"), default=_fragment, sort_keys=sort_keys)
        return text.encode("utf-8")


def _fragment(value: Any) -> Any:
    if isinstance(value, orjson.Fragment):
        return json.loads(value.contents)
    raise TypeError(f"{type(value).__name__} is not JSON")


def fragment(text: str) -> orjson.Fragment:
    """Embed JSON text in what ``dumps`` renders, spelled as it is."""
    return orjson.Fragment(text)


def replace_top_level(data: bytes, key: str, value: Any) -> bytes:
    """Return the JSON object ``data`` with each top-level ``key`` (any case, as Go reads it) set to ``value``.

    Everything else keeps its bytes: order, spacing, spelling of numbers. Raises ValueError if ``data`` is no object.
    """
    text = data.decode("utf-8")
    replacement = dumps(value).decode("utf-8")
    spans = [span for name, span in _members(text) if name.lower() == key]
    for start, end in reversed(spans):
        text = text[:start] + replacement + text[end:]
    return text.encode("utf-8")


def set_top_level(data: bytes, key: str, value: Any) -> bytes:
    """Return the JSON object ``data`` with its top-level ``key`` set to ``value``, put last where it was absent."""
    text = data.decode("utf-8")
    members = _members(text)
    if any(name.lower() == key for name, _ in members):
        return replace_top_level(data, key, value)
    position = members[-1][1][1] if members else text.index("{") + 1
    member = ("," if members else "") + dumps({key: value}).decode("utf-8")[1:-1]
    return (text[:position] + member + text[position:]).encode("utf-8")


def _members(text: str) -> list[tuple[str, tuple[int, int]]]:
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        raise ValueError("not a JSON object")
    members = []
    position = _skip(text, position + 1)
    while text[position : position + 1] == '"':
        name, position = _DECODER.raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)  # past the colon
        end = _DECODER.raw_decode(text, position)[1]
        members.append((name, (position, end)))
        position = _skip(text, _skip(text, end) + 1)  # past the comma
    return members


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


_DECODER = json.JSONDecoder(parse_constant=_refuse)
