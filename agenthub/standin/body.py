"""Request bodies, read and refused as Go's encoding/json does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from .answers import Refusal

Fields = Mapping[str, tuple[tuple[type, ...], str]]
STRING = ((str,), "string")
BOOL = ((bool,), "bool")
INT = ((int,), "int")
FLOAT = ((int, float), "float64")

_NAMES = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
_WHERE = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
}
# Each text can be read in one way only: two ways for a run of digits would take the square of its length to refuse.
_DURATION = re.compile(r"[-+]?(?:(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:ns|us|µs|μs|ms|s|m|h))++")
_INTEGERS = ("num_ctx", "num_predict", "num_keep", "num_batch", "num_gpu", "num_thread", "seed", "top_k")
_FLOATS = ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")


def parse(data: bytes, struct: str, fields: Fields, *, early: bool = False) -> dict[str, Any]:
    """Return the object with its keys in lower case and nulls left out, or raise a 400 Refusal in Go's words.

    ``struct`` is Go's name for the type, ``api.ChatRequest``; ``early`` is the Refusal's.
    """
    if not data.strip():
        raise Refusal(400, "EOF" if early else "missing request body", early=early)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _first_value(data, early)
    if not isinstance(value, dict):
        raise Refusal(400, f"json: cannot unmarshal {_kind(value)} into Go value of type {struct}", early=early)
    found = {key.lower(): item for key, item in value.items() if item is not None}
    for name, (types, go_type) in fields.items():
        if name in found and type(found[name]) not in types:
            raise mismatch(struct, name, found[name], go_type, early=early)
    return found


def mismatch(struct: str, field: str, value: object, go_type: str, *, early: bool = False) -> Refusal:
    """Return Go's complaint that ``value`` does not fit into ``field``."""
    spelled = f"number {value}" if type(value) is float and go_type == "int" else _kind(value)
    name = struct.rpartition(".")[2]
    text = f"json: cannot unmarshal {spelled} into Go struct field {name}.{field} of type {go_type}"
    return Refusal(400, text, early=early)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise the 500 that Ollama answers to an option of the wrong type."""
    for name, value in options.items():
        if value is None:
            continue
        if name in _INTEGERS and type(value) not in (int, float):
            raise Refusal(500, f'option "{name}" must be of type integer')
        if name in _FLOATS and type(value) not in (int, float):
            raise Refusal(500, f'option "{name}" must be of type float32')
        if name == "stop" and not isinstance(value, list):
            raise Refusal(500, 'option "stop" must be of type array')


def check_format(form: object) -> None:
    """Raise the 500 that Ollama answers to a ``format`` that is neither "json" nor a schema."""
    if form not in (None, "", "json") and not isinstance(form, dict):
        raw = orjson.dumps(form).decode()
        raise Refusal(500, f'invalid format: {json.dumps(raw)}; expected "json" or a valid JSON Schema object')


def unloads(body: Mapping[str, Any]) -> bool:
    """Return whether ``keep_alive`` is zero; raise a 400 Refusal where it is no duration."""
    value = body.get("keep_alive")
    if value is None:
        return False
    if type(value) in (int, float):
        return bool(value == 0)
    if not isinstance(value, str):
        raise Refusal(400, f"Unsupported type: '{_kind(value)}'")
    if value == "0":
        return True
    if _DURATION.fullmatch(value):
        return not re.search("[1-9]", value)
    missing = re.fullmatch(r"[-+]?\d+(\.\d*)?", value)
    problem = "missing unit in duration" if missing else "invalid duration"
    raise Refusal(400, f'time: {problem} "{value}"')


def _first_value(data: bytes, early: bool) -> Any:
    # Go reads the first JSON value and leaves whatever follows it.
    text = data.decode(errors="replace").lstrip()
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise Refusal(400, "unexpected EOF", early=early) from error
        where = _WHERE.get(error.msg, "looking for beginning of value")
        raise Refusal(400, f"invalid character '{text[error.pos]}' {where}", early=early) from error


def _kind(value: object) -> str:
    return _NAMES.get(type(value), "null")
