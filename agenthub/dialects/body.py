"""Request bodies, read as strictly as Ollama reads them and refused in the words of Go's ``encoding/json``.

Source: (gin ``ShouldBindJSON``); clients and their tests match these words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import attrs

from agenthub.canonical import JSON
from agenthub.dialects import jsontext
from agenthub.errors import InvalidRequest

T = TypeVar("T")


def parse_fields(body: bytes, struct: str, *, package: str = "api", empty: str = "missing request body") -> Fields:
    """Return the fields of a body that must hold a JSON object; keys match in any case, as in Go.

    Raises InvalidRequest; ``struct`` and ``package`` are Go's names for what the endpoint takes.
    """
    if not body.strip():
        raise InvalidRequest(empty)
    try:
        value = jsontext.loads(body)
    except (ValueError, RecursionError):
        value = _first_value(body)
    if not isinstance(value, dict):
        raise InvalidRequest(f"json: cannot unmarshal {_kind(value)} into Go value of type {package}.{struct}")
    return Fields(struct, {key if key.islower() else key.lower(): item for key, item in value.items()})


def _first_value(body: bytes) -> JSON:
    # Go reads one value and leaves the rest of the body alone.
    try:
        text = body.decode("utf-8", "replace").lstrip()
        return jsontext.loads_first(text)
    except RecursionError:
        raise InvalidRequest("exceeded max depth") from None
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        if not rest or error.msg.startswith("Unterminated string"):
            raise InvalidRequest("unexpected EOF") from None
        raise InvalidRequest(f"invalid character {rest[0]!r} looking for beginning of value") from None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _kind(value: JSON) -> str:
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

    def integer(self, name: str) -> int | None:
        """Return an integer or None; a float with no fraction counts, as JavaScript clients write 10.0."""
        value = self.take(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            self.refuse(name, value, "int")
        return value

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

    def strings(self, name: str) -> tuple[str, ...]:
        values = self.array(name, "string")
        for value in values:
            if not isinstance(value, str):
                self.refuse(name, value, "string")
        return tuple(values)

    def rest(self) -> dict[str, JSON]:
        """Return the fields that nobody took, without nulls."""
        return {name: value for name, value in self.values.items() if value is not None}

    def refuse(self, name: str, value: JSON, wanted: str) -> NoReturn:
        """Raise what Go says of a value of the wrong type."""
        raise InvalidRequest(
            f"json: cannot unmarshal {_kind(value)} into Go struct field {self.struct}.{name} of type {wanted}",
            param=name,
        )

    def _typed(self, name: str, kind: type[T], wanted: str, default: T) -> T:
        value: Any = self.values.pop(name, None)
        if value is None:
            return default
        if type(value) is not kind:
            self.refuse(name, value, wanted)
        return value
