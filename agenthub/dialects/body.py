"""Request bodies, read as strictly as Ollama reads them and refused in the words of Go's ``encoding/json``.

Clients, and the tests of clients, match these words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

import attrs
import orjson

from agenthub.canonical import JSON
from agenthub.dialects import jsontext
from agenthub.dialects.large import TOO_DEEP, read_members, stream_items
from agenthub.dialects.sizes import LARGE_BYTES, MAX_DEPTH
from agenthub.errors import InvalidRequest

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS = (
    ("Expecting property name", "looking for beginning of object key string"),
    ("Illegal trailing comma before end of object", "looking for beginning of object key string"),
    ("Expecting ':'", "after object key"),
    ("Expecting ','", "after object key:value pair or array element"),
    ("Invalid control character", "in string literal"),
    ("Invalid \\", "in string escape code"),
    ("", "looking for beginning of value"),
)
"""Go's words for the beginnings of Python's."""


def parse_fields(
    body: bytes,
    struct: str,
    *,
    package: str = "api",
    empty: str = "missing request body",
    known: Collection[str] | None = None,
) -> Fields:
    """Return the fields of a body that must hold a JSON object; keys match in any case, as in Go.

    Raises InvalidRequest; ``struct`` and ``package`` are Go's names for what the endpoint takes. Of a large body the
    fields that are not ``known`` may be left as text, see ``agenthub.dialects.large.read_members``.
    """
    if not body or body.isspace():
        raise InvalidRequest(empty)
    value = _parse(body) if len(body) <= LARGE_BYTES else read_members(body, _first_value, known)
    if not isinstance(value, dict):
        raise InvalidRequest(f"json: cannot unmarshal {kind(value)} into Go value of type {package}.{struct}")
    return Fields(struct, {key if key.islower() else key.lower(): item for key, item in value.items()})


def _parse(body: bytes) -> JSON:
    try:
        # The arguments of a call become text for other APIs, with every digit.
        is_exact = b"tool_calls" in body and jsontext.has_long_integers(body)
        value = _first_value(body) if is_exact else orjson.loads(body)
    except ValueError:
        value = _first_value(body)
    # Counting is quick; a short or flat body is not walked through.
    if (
        body.count(b"{") + body.count(b"[") > MAX_DEPTH
        and isinstance(value, dict)
        and jsontext.is_deeper(value, MAX_DEPTH)
    ):
        raise InvalidRequest(TOO_DEEP)
    return value


def _first_value(body: bytes) -> JSON:
    # Go reads one value and leaves the rest of the body alone.
    try:
        return _without_lone_surrogates(jsontext.loads_first(body.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8: invalid byte 0x{body[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        # Go complains of the depth where it is reached, and how deep Python's parser goes depends on its version.
        is_too_deep = jsontext.is_text_deeper(error.doc[: error.pos], MAX_DEPTH)
        raise InvalidRequest(TOO_DEEP if is_too_deep else _words(error)) from None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _words(error: json.JSONDecodeError) -> str:
    rest = error.doc[error.pos :]
    if error.msg.startswith(("Invalid \\", "Illegal")):
        rest = rest[1:]  # the character in question is the next
    if not error.msg.startswith("Invalid control"):
        rest = rest.lstrip(" \t\n\r")
    if not rest or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    where = next(words for start, words in _WORDS if error.msg.startswith(start))
    return f"invalid character {rest[0]!r} {where}"


def _without_lone_surrogates(value: JSON) -> JSON:
    # Go reads them as U+FFFD. Here they would break whatever encodes the text later.
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    if not _SURROGATE.search(text):
        return value
    return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


def kind(value: JSON) -> str:
    """Return Go's word for what a JSON value is."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case None:
            return "null"
    return "object"


@attrs.define
class Fields:
    """A parsed JSON object that is taken apart field by field; what is left over are the extras. null means absent."""

    struct: str
    values: dict[str, JSON]

    def take(self, name: str) -> JSON:
        """Remove and return any value, None when absent."""
        return self.values.pop(name, None)

    def text(self, name: str, default: str = "") -> str:
        return self._typed(name, str, "string", default)

    def flag(self, name: str, default: bool = False) -> bool:
        return self._typed(name, bool, "bool", default)

    def choice(self, name: str) -> bool | None:
        """Return a bool, None when absent."""
        return self.flag(name) if self.values.get(name) is not None else self.take(name)

    def integer(self, name: str) -> int | None:
        """Return an integer of 64 bits or None; a float with no fraction counts, as JavaScript clients write 10.0."""
        value = self.take(name)
        # A number that 64 bits do not hold is a float here, which may have been rounded into them.
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
            value = int(value)
        if value is None or (type(value) is int and -(2**63) <= value < 2**63):
            return value
        self.refuse(name, value, "int")

    def number(self, name: str) -> float | int | None:
        value = self.take(name)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
            self.refuse(name, value, "float64")
        return value

    def object(self, name: str) -> Mapping[str, JSON]:
        empty: dict[str, JSON] = {}
        return self._typed(name, dict, "map[string]interface {}", empty)

    def array(self, name: str, of: str) -> list[JSON]:
        """Return a list, empty when absent; ``of`` is Go's type of its items."""
        empty: list[JSON] = []
        return self._typed(name, list, f"[]{of}", empty)

    def stream(self, name: str, of: str) -> Iterable[JSON]:
        """Return the items of a list, to be read once; of a large one each is made as it is read."""
        value = self.values.get(name)
        if type(value) is not jsontext.Passage:
            return self.array(name, of)
        if value.is_object:
            self.refuse(name, {}, f"[]{of}")
        return stream_items(self.take(name), _first_value)

    def strings(self, name: str) -> tuple[str, ...]:
        return tuple(self._each(name, str, "string"))

    def objects(self, name: str, of: str) -> tuple[dict[str, JSON], ...]:
        """Return a list of objects, empty when absent; ``of`` is Go's type of an item."""
        return tuple(self._each(name, dict, of))

    def rest(self) -> dict[str, JSON]:
        """Return the fields that nobody took, without nulls."""
        return {name: value for name, value in self.values.items() if value is not None}

    def refuse(self, name: str, value: JSON, wanted: str) -> NoReturn:
        """Raise what Go says of a value of the wrong type."""
        raise InvalidRequest(
            f"json: cannot unmarshal {kind(value)} into Go struct field {self.struct}.{name} of type {wanted}",
            param=name,
        )

    def _each(self, name: str, wanted: type[T], of: str) -> list[T]:
        values = self.array(name, of)
        for value in values:
            if type(value) is not wanted:
                self.refuse(name, value, of)
        return values

    def _typed(self, name: str, of: type[T], wanted: str, default: T) -> T:
        value: Any = self.values.pop(name, None)
        if value is None:
            return default
        if type(value) is not of:
            self.refuse(name, value, wanted)
        return value
