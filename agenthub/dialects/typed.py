"""Values of an upstream's answer: of the type that its API promises, else TypeError, which becomes UpstreamProtocol."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NoReturn

from agenthub.canonical import JSON


def text(value: JSON) -> str:
    """Return a text, empty for null."""
    if type(value) is str:
        return value
    return "" if value is None else _refuse(value)


def required(value: JSON) -> str:
    """Return a text that must be there."""
    return value if type(value) is str else _refuse(value)


def count(value: JSON) -> int:
    """Return an integer, 0 for null; 12.0 counts. What counts something is not negative, nor beyond 64 bits."""
    found = int(value) if type(value) is float and value.is_integer() else value
    if type(found) is int and 0 <= found < 2**63:
        return found
    return 0 if value is None else _refuse(value)


def number(value: JSON) -> float:
    """Return a number, 0 for null."""
    if type(value) is float or type(value) is int:
        return value
    return 0.0 if value is None else _refuse(value)


def amount(value: JSON) -> int | float:
    """Return a number that measures something, 0 for null: neither negative nor beyond 64 bits."""
    found = number(value)
    return found if 0 <= found < 2**63 else _refuse(value)


def items(value: JSON) -> list[JSON]:
    """Return a list, empty for null."""
    if type(value) is list:
        return value
    return [] if value is None else _refuse(value)


def vectors(value: JSON) -> tuple[Sequence[float], ...]:
    """Return lists of numbers."""
    for vector in value:
        if type(vector) is not list:
            _refuse(vector)
        array("d", vector)
    return tuple(value)


def logprobs(value: JSON) -> tuple[JSON, ...]:
    """Return log-probabilities: objects with a token and its number, which is null for minus infinity."""
    found = items(value)
    for item in found:
        required(item["token"])
        number(item["logprob"])
        logprobs(item.get("top_logprobs"))
    return tuple(found)


def _refuse(value: JSON) -> NoReturn:
    raise TypeError(f"{type(value).__name__} is of no use here")
