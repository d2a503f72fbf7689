"""Typed values: the members of an upstream's answer, as their types promise or as they are meant.

Strict readers are for what an answer cannot do without: its text, the names of the tools it calls, its vectors. They
read what is meant too, but where nothing can be read they raise a TypeError, which becomes UnreadableAnswer. Lenient
readers are for what only stands beside it (counts, durations, ids, log-probabilities, thoughts): they read what is
meant and leave the rest out, since a finished answer is never thrown away for a detail.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import NoReturn

from agenthub.canonical import JSON

_BEYOND = 2**63
_LONGEST_DIGITS = 19
_TEXTS = ("text", "content", "thinking", "reasoning", "summary", "thought", "value")
"""What objects call the text that they are."""
_NOTHING: Mapping[str, JSON] = {}

# --- strict


def text(value: JSON) -> str:
    """Return a text, empty for nothing: that of a number, a list or an object, where these have one."""
    if type(value) is str:
        return value
    said = "".join([_number_or_words(item) for item in (value if type(value) is list else [value])])
    return said if said or is_nothing(value) else _refuse(value)


def _number_or_words(value: JSON) -> str:
    return str(value) if type(value) in (int, float) else words(value)


def required(value: JSON) -> str:
    """Return a text that must be there; a whole number is its digits."""
    return value if type(value) is str else label(value) or _refuse(value)


def entries(value: JSON) -> list[JSON]:
    """Return a list, empty for nothing; anything else is a list of one."""
    if type(value) is list:
        return value
    return [] if is_nothing(value) else [value]


def present(value: JSON) -> list[JSON]:
    """Return a list that must be there."""
    return value if type(value) is list else _refuse(value)


def vectors(value: Sequence[JSON]) -> tuple[Sequence[float], ...]:
    """Return lists of numbers."""
    for vector in value:
        if type(vector) is not list:
            _refuse(vector)
        array("d", vector)
    return tuple(value)


def _refuse(value: JSON) -> NoReturn:
    raise TypeError(f"{type(value).__name__} where another type belongs")


# --- lenient


def count(value: JSON) -> int | None:
    """Return a whole number that counts something, 0 for null; 12.0 and "12" are 12.

    None for anything else, be it negative, a fraction or beyond 64 bits.
    """
    if type(value) is not int:
        if value is None:
            return 0
        value = int(value) if _is_whole(value) else -1
    return value if 0 <= value < _BEYOND else None


def _is_whole(value: JSON) -> bool:
    if type(value) is str:
        return len(value) <= _LONGEST_DIGITS and value.isascii() and value.isdigit()
    return type(value) is float and value.is_integer()


def amount(value: JSON) -> int | float | None:
    """Return a number that measures something, 0 for null; None for what is no number, negative or beyond 64 bits."""
    if type(value) is float or type(value) is int:
        return value if 0 <= value < _BEYOND else None
    return 0.0 if value is None else None


def label(value: JSON) -> str:
    """Return a text that only names something, such as an id: a whole number is its digits, anything else is empty."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int:
        return str(value) if -_BEYOND < value < 2 * _BEYOND else ""
    return value if type(value) is str else ""


def words(value: JSON) -> str:
    """Return what a text beside the answer says: also that of an object's member for it, or of a list."""
    if type(value) is str:
        return value
    if type(value) is list:
        return "".join([words(item) for item in value])
    if type(value) is dict:
        return next(filter(None, (words(value.get(name)) for name in _TEXTS)), "")
    return ""


def mapping(value: JSON) -> Mapping[str, JSON]:
    """Return an object, empty for anything else."""
    return value if type(value) is dict else _NOTHING


def numbers(value: JSON) -> tuple[int, ...]:
    """Return a list of counts, empty where it is anything else."""
    if type(value) is not list:
        return ()
    found = [count(item) if item is not None else None for item in value]
    return tuple([number for number in found if number is not None]) if None not in found else ()


def is_nothing(value: JSON) -> bool:
    """Say whether a value says nothing: null, false, 0, a blank text, or a list or an object of nothing else."""
    if type(value) is dict:
        return all(map(is_nothing, value.values()))
    if type(value) is list:
        return all(map(is_nothing, value))
    return not (value.strip() if type(value) is str else value)


def logprobs(value: JSON) -> tuple[JSON, ...]:
    """Return log-probabilities: objects with a token and its number, which is null for minus infinity.

    Empty where one of them is anything else: the tokens of a text are told one after the other, so that none may be
    missing.
    """
    found = [_logprob(item) for item in value] if type(value) is list else []
    return () if None in found else tuple(found)


def _logprob(item: JSON) -> JSON:
    if type(item) is not dict or type(item.get("token")) is not str or not is_logprob(item.get("logprob", "")):
        return None
    spelled, tops = item.get("bytes"), item.get("top_logprobs")
    if spelled and not numbers(spelled):
        item = {**item, "bytes": None}
    if tops and (read := list(logprobs(tops))) != tops:
        item = {**item, "top_logprobs": read}
    return item


def is_logprob(value: JSON) -> bool:
    """Say whether a value is a log-probability: a finite number, or null for minus infinity."""
    return value is None or type(value) is int or (type(value) is float and math.isfinite(value))
