"""JSON as text: change one top-level value and leave every other byte as it was."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs
import orjson

from agenthub.dialects import pieces, scan
from agenthub.dialects.ends import end_of_value
from agenthub.dialects.sizes import LARGE_BYTES, PIECE_BYTES

_SPACE = re.compile(r"[ \t\n\r]*")
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_STEPS = {"{": 1, "[": 1, "}": -1, "]": -1}
_LONG_DIGITS = 19
_LONG = re.compile(rb"[0-9]{%d}" % _LONG_DIGITS)
_TOO_DEEP = "exceeded max depth"
MOST_REPEATED = 16
"""How often one object may have a member that is to be changed: each gets the new value, which may be large."""


def loads(data: bytes) -> Any:
    """Parse JSON; raise ValueError where there is none, or where it is nested too deeply."""
    try:
        return orjson.loads(data) if len(data) <= LARGE_BYTES else _loads_large(data)
    except ValueError:
        # orjson refuses what Go and Python take, such as lone surrogates in escapes.
        return _decode(_STRICT.decode, data.decode("utf-8"))


def loads_exactly(data: bytes) -> Any:
    """Parse JSON and keep integers of any length, which ``loads`` rounds beyond 64 bits; raise ValueError."""
    if not has_long_integers(data):
        return loads(data)
    return _decode(_STRICT.decode, data.decode("utf-8")) if len(data) <= LARGE_BYTES else _loads_large(data, True)


def _loads_large(data: bytes, is_exact: bool = False) -> Any:
    return pieces.loads(data, _Parser(is_exact)) if scan.is_container(data) else orjson.loads(data)


@attrs.frozen
class _Parser:
    is_exact: bool = False

    def run(self, run: scan.Run) -> Any:
        return self.single(run.text)

    def single(self, text: bytes) -> Any:
        return loads_exactly(text) if self.is_exact else loads(text)


def has_long_integers(data: bytes) -> bool:
    """Say whether there may be integers of more than 64 bits."""
    steps = range(0, len(data), PIECE_BYTES)
    return any(_LONG.search(data, start, start + PIECE_BYTES + _LONG_DIGITS) is not None for start in steps)


def loads_first(text: str) -> Any:
    """Parse the first JSON value of ``text`` and leave the rest alone; raise ValueError."""
    return _decode(_STRICT.raw_decode, text[_skip(text, 0) :])[0]


def _decode(decode: Callable[..., Any], text: str, *start: int) -> Any:
    try:
        return decode(text, *start)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"json: cannot unmarshal number {text[:40]} into Go value of type float64")
    return value


def _integer(text: str) -> int:
    _finite(text)  # beyond it is no number in Go, and soon none in Python
    return int(text)


@attrs.frozen
class Fragment:
    """JSON text that ``dumps`` embeds, spelled as it is wherever that is possible."""

    text: str | bytes


@attrs.frozen
class Passage:
    """JSON within a larger text, which ``dumps`` embeds as it is; kept where nobody needs the value itself."""

    text: bytes = attrs.field(repr=False)
    start: int
    end: int

    @property
    def is_object(self) -> bool:
        """True for an object, False for a list."""
        return self.text[self.start : self.start + 1] == b"{"

    @property
    def json(self) -> bytes:
        """The JSON itself."""
        return self.text[self.start : self.end]


def fragment(text: str) -> Fragment:
    """Embed JSON text in what ``dumps`` renders."""
    return Fragment(text)


def dumps(value: Any, *, sort_keys: bool = False) -> bytes:
    """Render compact JSON as UTF-8, keys in their order or sorted; raise ValueError for what is nested too deeply."""
    try:
        return orjson.dumps(value, default=_embedded, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:  # integers beyond 64 bits, lone surrogates, more than 254 levels
        pass
    try:
        text = json.dumps(value, separators=(",", ":"), default=_parsed, sort_keys=sort_keys)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    return text.encode("utf-8")


def dump_text(text: str) -> bytes:
    """Render one text: the same as ``dumps``, at half its cost, for the pieces of streams."""
    try:
        return orjson.dumps(text)
    except TypeError:  # lone surrogates
        return json.dumps(text).encode("utf-8")


def _embedded(value: Any) -> orjson.Fragment:
    if isinstance(value, Passage):
        return orjson.Fragment(value.json)
    return orjson.Fragment(_fragment(value).text)


def _parsed(value: Any) -> Any:
    if isinstance(value, Passage):
        return json.loads(value.json)
    return json.loads(_fragment(value).text)


def _fragment(value: Any) -> Fragment:
    if not isinstance(value, Fragment):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return value


def is_deeper(value: Any, levels: int) -> bool:
    """Say whether more than ``levels`` lists and objects of a parsed value stand within each other."""
    found = [value]
    for _ in range(levels + 1):
        inside = [item for item in found if isinstance(item, dict | list)]
        if not inside:
            return False
        found = [child for item in inside for child in (item.values() if isinstance(item, dict) else item)]
    return True


def is_text_deeper(text: str, levels: int) -> bool:
    """Say whether more than ``levels`` brackets of a text that need not be JSON stand open at once."""
    if text.count("{") + text.count("[") <= levels:
        return False
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth += _STEPS.get(bracket[0], 0)
        if depth > levels:
            return True
    return False


class Repeated(ValueError):
    """An object has a member so often that no client can mean it."""

    def __init__(self, key: str) -> None:
        super().__init__(f'the field "{key}" is given more than {MOST_REPEATED} times')
        self.key = key


def replace_top_level(data: bytes, key: str, value: Any) -> bytes:
    """Return the JSON object ``data`` with each top-level ``key`` (any case, as Go reads it) set to ``value``.

    Everything else keeps its bytes: order, spacing, spelling of numbers. Raises ValueError if ``data`` is no object,
    Repeated if it has the key more than ``MOST_REPEATED`` times.
    """
    return _changed(data, {key: value})


def get_top_level(data: bytes, key: str) -> bytes:
    """Return the text of the top-level ``key`` (any case, the last wins) of a JSON object, empty where it is absent.

    Raises as ``replace_top_level``.
    """
    text, count, found = data.decode("utf-8"), 0, ""
    for name, (start, end) in _each_member(text):
        if name.lower() == key:
            count, found = _counted(key, count), text[start:end]
    return found.encode("utf-8")


def set_top_level(data: bytes, values: Mapping[str, Any]) -> bytes:
    """Return the JSON object ``data`` with each of ``values`` as a top-level member, last where it was absent.

    Raises as ``replace_top_level``.
    """
    return _changed(data, values, adds=True)


def _changed(data: bytes, values: Mapping[str, Any], *, adds: bool = False) -> bytes:
    text, pieces, done, end = data.decode("utf-8"), list[str](), 0, 0
    rendered = {key: dumps(value).decode("utf-8") for key, value in values.items()}
    counts = dict.fromkeys(values, 0)
    for name, (start, end) in _each_member(text):
        if (key := name.lower()) in counts:
            counts[key] = _counted(key, counts[key])
            pieces += (text[done:start], rendered[key])
            done = end
    missing = [f"{dump_text(key).decode()}:{rendered[key]}" for key, count in counts.items() if adds and not count]
    if missing:
        place = end or text.index("{") + 1
        pieces += (text[done:place], "," if end else "", ",".join(missing))
        done = place
    return "".join((*pieces, text[done:])).encode("utf-8")


def _counted(key: str, count: int) -> int:
    if count == MOST_REPEATED:
        raise Repeated(key)
    return count + 1


Span: TypeAlias = tuple[int, int]
"""Where in a text a JSON value stands."""


def members(text: str, start: int = 0) -> list[tuple[str, Span]]:
    """Return the members of the JSON object at ``start``, in their order; raise ValueError if there is none."""
    return list(_each_member(text, start))


def _each_member(text: str, start: int = 0) -> Iterator[tuple[str, Span]]:
    position = _skip(text, start)
    if text[position : position + 1] != "{":
        raise ValueError("not a JSON object")
    position = _skip(text, position + 1)
    while text[position : position + 1] == '"':
        name, position = _decode(_SPANS.raw_decode, text, position)
        position = _skip(text, _skip(text, position) + 1)  # past the colon
        end = _end(text, position)
        yield name, (position, end)
        position = _skip(text, _skip(text, end) + 1)  # past the comma


def items(text: str, start: int = 0) -> list[Span]:
    """Return the items of the JSON list at ``start``, none where something else stands there."""
    found: list[Span] = []
    position = _skip(text, start)
    if text[position : position + 1] != "[":
        return found
    position = _skip(text, position + 1)
    while text[position : position + 1] not in ("]", ""):
        end = _end(text, position)
        found.append((position, end))
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
    return found


def _end(text: str, position: int) -> int:
    if len(text) > LARGE_BYTES:
        return end_of_value(text, position)
    end: int = _decode(_SPANS.raw_decode, text, position)[1]
    return end


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


_STRICT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_integer)
_SPANS = json.JSONDecoder()
"""For finding where values end; what they are was checked before."""
