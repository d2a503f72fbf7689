"""A value that fits a JSON schema, filled with what a text says. It knows neither dialect."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,300}(?:\.\d{1,300})?(?!\w)")
_QUOTED = re.compile(r"(?<!\w)(['\"])(.{1,1000}?)\1(?!\w)")
_NAME = re.compile(r"(?<=[\w,;:] )[A-Z]\w*(?:,? [A-Z]\w*)*")
_FORMATS: Mapping[str, str] = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "email": "someone@example.org",
    "ipv4": "192.0.2.1",
    "time": "03:04:05Z",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_TURNS = 2
_CHOICES = ("anyOf", "oneOf")


@attrs.define
class Clues:
    """What a text offers to fill a schema with; each clue is given out once, in the order of the text.

    ``words`` are what stands in quotes and then the names, which are capitals in the middle of a sentence.
    """

    text: str
    numbers: list[float] = attrs.field(init=False)
    words: list[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.numbers = [float(found) if "." in found else int(found) for found in _NUMBER.findall(self.text)]
        unquoted = _QUOTED.sub(" ", self.text)
        self.words = [*self.quoted(), *_NAME.findall(unquoted)]

    def quoted(self) -> list[str]:
        """Return what stands in quotes."""
        return [text for _, text in _QUOTED.findall(self.text)]


def instance(schema: object, clues: Clues) -> object:
    """Return a value that fits ``schema``; of its keywords ``pattern``, ``not``, ``if`` and ``uniqueItems`` count not.

    ``const``, ``default`` and a member of ``enum`` that the text names come first, then clues, then plain constants. A
    schema that refers to itself is followed twice; after that only what is required is filled.
    """
    return _Filling(schema, clues).value(schema, ())


@attrs.frozen
class _Filling:
    """One filling: ``root`` is where references start. ``path`` below holds the references that led to a schema."""

    root: object
    clues: Clues

    def value(self, schema: object, path: tuple[str, ...]) -> object:
        if not isinstance(schema, dict):
            return None
        if reference := schema.get("$ref"):
            return self.value(_referred(self.root, reference), (*path, reference))
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        if schema.get("enum"):
            named = (member for member in schema["enum"] if isinstance(member, str) and member in self.clues.text)
            return next(named, schema["enum"][0])
        if schema.get("allOf"):
            return self.value(_merged(self.root, schema), path)
        for key in _CHOICES:
            if schema.get(key):
                return self.value(_variant(schema, schema[key]), path)
        return self._typed(schema, path)

    def _typed(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> object:
        kind = schema.get("type", "array" if "items" in schema else "object")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        match kind:
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema, whole=kind == "integer")
            case "boolean":
                return True
        return None

    def _object(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, object]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or ()
        deep = any(path.count(reference) > _TURNS for reference in path)
        names = [name for name in properties if name in required or not deep]
        filled = {name: self.value(properties[name], path) for name in names}
        return filled | {name: "text" for name in required if name not in properties}

    def _array(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> list[object]:
        items = schema.get("items")
        least = schema.get("minItems", 0)
        if not isinstance(items, dict):
            return [None] * least
        if any(path.count(reference) > _TURNS for reference in path):
            return [self.value(items, path) for _ in range(least)]
        numeric = items.get("type") in ("integer", "number")
        count = max(least, len(self.clues.numbers) if numeric else 1)
        return [self.value(items, path) for _ in range(min(count, schema.get("maxItems", count)))]

    def _string(self, schema: Mapping[str, Any]) -> str:
        text = _FORMATS.get(schema.get("format", "")) or (self.clues.words.pop(0) if self.clues.words else "text")
        return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> float:
        for index, number in enumerate(self.clues.numbers):
            if _fits(number, schema, whole=whole):
                return self.clues.numbers.pop(index)
        plain = 1 if whole else 1.5
        return plain if _fits(plain, schema, whole=whole) else _least(schema, whole=whole)


def _least(schema: Mapping[str, Any], *, whole: bool) -> float:
    """Return a number that fits: a multiple near a bound, or the middle; 0 where nothing fits."""
    low, high = _bounds(schema)
    step = schema.get("multipleOf", 1 if whole else 0.5)
    start, turn = (low, step) if low > -math.inf else (high, -step)
    first = (math.ceil(start / step) if turn > 0 else math.floor(start / step)) * step if math.isfinite(start) else 0
    candidates = [first, first + turn, (low + high) / 2]
    return next((number for number in candidates if _fits(number, schema, whole=whole)), 0)


def _fits(number: float, schema: Mapping[str, Any], *, whole: bool) -> bool:
    low, high = _bounds(schema)
    step = schema.get("multipleOf")
    stepped = not step or math.isclose(number / step, round(number / step), abs_tol=1e-9)
    strict = number not in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))
    return low <= number <= high and strict and stepped and not (whole and number % 1)


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    lows = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
    highs = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
    return max(lows, default=-math.inf), min(highs, default=math.inf)


def _variant(schema: Mapping[str, Any], variants: Sequence[object]) -> object:
    """Return the first variant that is not null, with the keywords that stand beside the variants."""
    beside = {key: value for key, value in schema.items() if key not in _CHOICES}
    told = next((one for one in variants if isinstance(one, dict) and one.get("type") != "null"), variants[0])
    return beside | told if isinstance(told, dict) else told


def _merged(root: object, schema: Mapping[str, Any]) -> dict[str, Any]:
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        one = _referred(root, part["$ref"]) if isinstance(part, dict) and "$ref" in part else part
        if isinstance(one, dict):
            properties = {**merged.get("properties", {}), **one.get("properties", {})}
            required = [*merged.get("required", ()), *one.get("required", ())]
            merged |= one | {"properties": properties, "required": required}
    return merged


def _referred(root: object, reference: str) -> object:
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found
