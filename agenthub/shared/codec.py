"""Events of an answer as bytes and back: a closed form in JSON, which makes nothing but events of what it reads.

What is read is checked field by field, types, ranges and depth, since anybody may have written it; anything else is
``Unreadable``. Texts may hold lone surrogates, as JSON may; two that make a pair come back as the character that they
mean. Numbers are finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from agenthub.canonical import (
    JSON,
    Batch,
    ChoiceStarted,
    Embeddings,
    Event,
    Finished,
    LogprobsDelta,
    RawFrames,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallDelta,
    Usage,
)
from agenthub.dialects import jsontext
from agenthub.dialects.openai.choices import MOST_CHOICES

VERSION = 1
"""Of the form; to be raised with any change of it, and of what its events mean."""

LARGEST_BYTES = 4 * 2**20
LONGEST_S = 3600.0
"""An answer that took longer is not shared, nor believed: a replay would sleep for as long."""
_DEEPEST = 64
_MOST = 2**63


class Unreadable(ValueError):
    """Bytes that are no answer in this form: of another version, cut off, or somebody else's."""


def encode(batches: Sequence[Batch], offsets_s: Sequence[float], size_bytes: int, is_counted: bool) -> bytes:
    """Return an answer as bytes; ValueError for what the form has no place for, or what is larger than it may be."""
    if offsets_s and offsets_s[-1] > LONGEST_S:
        raise ValueError("the answer took too long to be shared")
    events = [[_written(event) for event in batch] for batch in batches]
    try:
        data = jsontext.dumps([VERSION, is_counted, size_bytes, list(offsets_s), events])
    except TypeError as error:
        raise ValueError(str(error)) from error
    if len(data) > LARGEST_BYTES:
        raise ValueError("the answer is too large to be shared")
    return data


def decode(data: bytes) -> tuple[tuple[Batch, ...], tuple[float, ...], int, bool]:
    """Return what ``encode`` was given; Unreadable for anything that it did not make."""
    if len(data) > LARGEST_BYTES:
        raise Unreadable("too large")
    try:
        return _decode(jsontext.loads_exactly(data))
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def _decode(value: JSON) -> tuple[tuple[Batch, ...], tuple[float, ...], int, bool]:
    match value:
        case [version, bool(is_counted), size_bytes, list(offsets), list(batches)] if _whole(version) == VERSION:
            offsets_s = tuple([_offset(offset) for offset in offsets])
            read = tuple([tuple([_read(event) for event in _list(batch)]) for batch in batches])
            if len(offsets_s) != len(read) or not all(read) or any(one > next_ for one, next_ in pairwise(offsets_s)):
                _refuse()
            return read, offsets_s, _count(size_bytes), is_counted
    _refuse()


def _written(event: Event) -> list[JSON]:
    match event:
        case RefusalDelta():  # before TextDelta, which it is as well
            return ["refusal", event.text]
        case TextDelta():
            return ["text", event.text]
        case ReasoningDelta():
            return ["reasoning", event.text]
        case ToolCallDelta():
            return ["call", event.index, event.id, event.name, event.arguments]
        case LogprobsDelta():
            return ["logprobs", *event.items]
        case Embeddings():
            return ["vectors", *event.vectors]
        case ChoiceStarted():
            return ["choice", event.index]
        case Finished():
            return ["finished", *_finish_written(event)]
        case Started() if event == Started():
            return ["started"]
        case Started() | RawFrames():
            raise ValueError("what belongs to a connection is not shared")


def _finish_written(event: Finished) -> list[JSON]:
    usage, timings = event.usage, event.timings
    return [
        event.reason,
        None if usage is None else [usage.prompt, usage.completion, usage.cached],
        None if timings is None else [timings.total_s, timings.load_s, timings.prompt_s, timings.completion_s],
        event.context,
        event.more_reasons,
        dict(event.aside),
    ]


def _read(event: JSON) -> Event:
    match event:
        case ["text", str(text)]:
            return TextDelta(text)
        case ["reasoning", str(text)]:
            return ReasoningDelta(text)
        case ["refusal", str(text)]:
            return RefusalDelta(text)
        case ["call", index, str(call_id), str(name), str(arguments)]:
            return ToolCallDelta(_count(index), call_id, name, arguments)
        case ["logprobs", *items]:
            if jsontext.is_deeper(items, _DEEPEST):
                _refuse()
            return LogprobsDelta(tuple([_logprob(item) for item in items]))
        case ["vectors", *vectors]:
            return Embeddings(tuple([_each(_number, vector) for vector in vectors]))
        case ["choice", index]:
            return ChoiceStarted(_count(index, MOST_CHOICES))
        case ["finished", str(reason), usage, timings, context, more_reasons, dict(aside)]:
            context, more_reasons = tuple(_each(_count, context)), tuple(_each(_text, more_reasons))
            if len(more_reasons) >= MOST_CHOICES or jsontext.is_deeper(aside, _DEEPEST):
                _refuse()
            return Finished(reason, _read_usage(usage), _read_timings(timings), context, more_reasons, aside)
        case ["started"]:
            return Started()
    _refuse()


def _read_usage(value: JSON) -> Usage | None:
    match value:
        case None:
            return None
        case [prompt, completion, cached]:
            return Usage(*[None if one is None else _count(one) for one in (prompt, completion, cached)])
    _refuse()


def _read_timings(value: JSON) -> Timings | None:
    match value:
        case None:
            return None
        case [_, _, _, _]:
            return Timings(*[None if one is None else _amount(one) for one in value])
    _refuse()


def _logprob(value: JSON) -> JSON:
    # As in agenthub.dialects.typed: the renderers rely on no more.
    match value:
        case {"token": str(), **rest}:
            if (found := rest.get("logprob", "")) is not None:
                _number(found)
            _each(_count, rest.get("bytes") or [])
            for other in _list(rest.get("top_logprobs") or []):
                _logprob(other)
            return value
    _refuse()


def _each(read: Callable[[JSON], Any], values: JSON) -> list[Any]:
    return [read(value) for value in _list(values)]


def _list(value: JSON) -> list[JSON]:
    return value if type(value) is list else _refuse()


def _text(value: JSON) -> str:
    return value if type(value) is str else _refuse()


def _whole(value: JSON) -> int:
    return value if type(value) is int else _refuse()


def _count(value: JSON, most: int = _MOST) -> int:
    return value if type(value) is int and 0 <= value < most else _refuse()


def _number(value: JSON) -> float:
    return value if type(value) is float or type(value) is int else _refuse()


def _amount(value: JSON) -> float:
    number = _number(value)
    return number if 0 <= number < _MOST else _refuse()


def _offset(value: JSON) -> float:
    number = _number(value)
    return number if 0 <= number <= LONGEST_S else _refuse()


def _refuse() -> NoReturn:
    raise Unreadable("not an answer in this form")
