"""What is kept of an answer: its events in the batches as they came, and when."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import attrs

from agenthub.canonical import (
    JSON,
    Answer,
    Batch,
    ChoiceStarted,
    Embeddings,
    Event,
    Finished,
    LogprobsDelta,
    Loss,
    RawFrames,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    assemble,
)

# What CPython takes for a small object with its string, and for a float in a list.
_EVENT_BYTES, _FLOAT_BYTES = 128, 32
# Its tuple, its offset, and its part of the tuples that hold them.
_BATCH_BYTES = 128
_SILENT = (Started, ChoiceStarted, Finished)
PENDING_BYTES = 16 * 2**20
"""How much of an answer is held that has not ended: enough for 60,000 tokens that came one by one."""


@attrs.frozen
class Entry:
    """A finished answer of one plain Started, then what came; an estimate of its size in memory.

    ``offsets_s`` says for each of the ``batches`` how many seconds after the first it came. ``is_counted`` is False for
    an OpenAI stream without ``include_usage``: its counts never came, so it is good for such streams only.
    """

    batches: tuple[Batch, ...]
    offsets_s: tuple[float, ...]
    size_bytes: int
    is_counted: bool
    batch: Batch = attrs.field(init=False, eq=False, repr=False)
    """All of it as one; made once, since it is read more often than written."""
    _answers: list[Answer] = attrs.field(factory=list, init=False, eq=False, repr=False)

    @batch.default
    def _join(self) -> Batch:
        return tuple(chain.from_iterable(self.batches))

    @property
    def answer(self) -> Answer:
        """What the events come to; assembled when a whole answer is first asked for."""
        if not self._answers:
            self._answers.append(assemble(self.batch))
        return self._answers[0]


@attrs.define
class Room:
    """What all recordings together may take, in bytes."""

    max_bytes: int = sys.maxsize
    used_bytes: int = 0


@attrs.define
class Recording:
    """One answer so far, as it will be kept; ``clock`` gives monotonic seconds.

    It is given up as soon as it is larger than ``max_bytes``, or than ``PENDING_BYTES`` while its end has not come, or
    when the ``room`` for all is used up, or where a part of the request turned out to be lost; and at its end where its
    events are empty, since only the bytes of such an answer can be used (a picture). ``release`` it in the
    end, when nobody needs it any more.
    """

    max_bytes: int
    clock: Callable[[], float] = time.monotonic
    room: Room = attrs.field(factory=Room)
    size_bytes: int = 0
    batches: list[Batch] = attrs.field(factory=list, repr=False)
    is_given_up: bool = False
    says_something: bool = False
    _came_at: list[float] = attrs.field(factory=list, repr=False)

    def add(self, batch: Batch, known: Sequence[Loss] = ()) -> tuple[Batch, int]:
        """Take in a batch; return what is kept of it, which may be nothing, and its size in bytes.

        ``known`` are the losses under which it is kept.
        """
        kept = tuple([event for event in batch if type(event) is not RawFrames and type(event) is not Started])
        losses: tuple[Loss, ...] = ()
        if not self.size_bytes:
            # In the place of the one that belongs to a connection.
            told = batch[0].losses if isinstance(batch[0], Started) else ()
            losses = tuple([loss for loss in told if loss not in known]) if told else ()
            kept = (Started(losses=losses), *kept)
        size_bytes = size_of(kept)
        if self.is_given_up:
            return kept, size_bytes
        self.size_bytes += size_bytes
        self.room.used_bytes += size_bytes
        is_end = bool(kept) and type(kept[-1]) is Finished
        if not self.says_something:
            self.says_something = _says_something(kept)
        max_bytes = self.max_bytes if is_end else min(self.max_bytes, PENDING_BYTES)
        is_useless = bool(losses) or (is_end and not self.says_something)
        if is_useless or self.size_bytes > max_bytes or self.room.used_bytes > self.room.max_bytes:
            self.release()
        elif kept:
            self.batches.append(kept)
            self._came_at.append(self.clock())
        return kept, size_bytes

    def release(self) -> None:
        """Give it up, if that was not yet done."""
        if not self.is_given_up:
            self.is_given_up = True
            self.room.used_bytes -= self.size_bytes
            self.batches.clear()
            self._came_at.clear()

    @property
    def is_finished(self) -> bool:
        return bool(self.batches) and type(self.batches[-1][-1]) is Finished

    def entry(self) -> Entry:
        """Return what is to be kept of a finished answer."""
        finished = self.batches[-1][-1]
        is_counted = isinstance(finished, Finished) and finished.usage is not None
        offsets = tuple([came_at - self._came_at[0] for came_at in self._came_at])
        return Entry(tuple(self.batches), offsets, self.size_bytes, is_counted)


def _says_something(events: Batch) -> bool:
    return any(type(event) not in _SILENT for event in events)


def size_of(batch: Batch) -> int:
    """Return an estimate of what a batch takes in memory, in bytes."""
    return _BATCH_BYTES + sum(map(_size, batch))


def _size(event: Event) -> int:
    match event:
        case TextDelta() | ReasoningDelta():
            return _EVENT_BYTES + len(event.text)
        case ToolCallDelta():
            return _EVENT_BYTES + len(event.id) + len(event.name) + len(event.arguments)
        case Embeddings():
            return _EVENT_BYTES + sum(_FLOAT_BYTES * len(vector) for vector in event.vectors)
        case RawFrames():
            return _EVENT_BYTES + len(event.data)
        case LogprobsDelta():
            # Each with its bytes and a list of others at its place, which are small objects again.
            return _EVENT_BYTES + sum(_weigh(item) for item in event.items)
        case Finished():
            reasons = _EVENT_BYTES * len(event.more_reasons)
            return 4 * _EVENT_BYTES + _FLOAT_BYTES * len(event.context) + reasons + _held(event.aside)
    return 4 * _EVENT_BYTES


_OF_A_TOKEN = {"token", "logprob", "bytes", "top_logprobs"}
_LONG_BYTES = 32
"""Of a token's text and bytes; a longer one is counted."""


def _weigh(item: JSON) -> int:
    others, spelled = item.get("top_logprobs"), item.get("bytes") or []
    is_short = type(spelled) is list and max(len(item["token"]), len(spelled)) <= _LONG_BYTES
    size = 4 * _EVENT_BYTES + (0 if is_short and item.keys() <= _OF_A_TOKEN else _held(item))
    return size + (sum([_weigh(other) for other in others]) if others else 0)


def _held(value: JSON) -> int:
    """Return an estimate of what parsed JSON takes beside what holds it: nothing for an empty object."""
    size, found = 0, [value]
    while found:
        inside = found.pop()
        if isinstance(inside, str):
            size += len(inside)
        elif isinstance(inside, Mapping):
            found.extend(inside.values())
            size += sum([_EVENT_BYTES + len(name) for name in inside])
        elif isinstance(inside, list):
            found.extend(inside)
            size += _EVENT_BYTES * len(inside)
    return size
