"""Answer JSON: an upstream's JSON, also where its server takes JSON less strictly than clients may.

NaN and infinity, which is what Python writes for the log-probability of nothing, are null; a byte order mark means
nothing.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

from agenthub.dialects import jsontext
from agenthub.dialects.sizes import LARGE_BYTES


def loads(data: bytes) -> Any:
    """Parse JSON; raise ValueError where there is none, or where it is nested too deeply."""
    try:
        return orjson.loads(data) if len(data) <= LARGE_BYTES else jsontext.loads(data)
    except ValueError:
        return _read(data)


def loads_exactly(data: bytes) -> Any:
    """Parse JSON and keep integers of any length; raise ValueError."""
    try:
        return jsontext.loads_exactly(data)
    except ValueError:
        return _read(data)


def is_object(data: bytes) -> bool:
    """Say whether it is a JSON object."""
    try:
        return isinstance(loads(data), dict)
    except ValueError:
        return False


def _read(data: bytes) -> Any:
    try:
        return _LENIENT.decode(data.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("exceeded max depth") from None


def _finite(text: str) -> float | None:
    value = float(text)
    return None if math.isinf(value) else value


def _integer(text: str) -> int | None:
    return None if math.isinf(float(text)) else int(text)


_LENIENT = json.JSONDecoder(parse_constant=lambda constant: None, parse_float=_finite, parse_int=_integer)
