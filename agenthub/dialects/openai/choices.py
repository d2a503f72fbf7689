"""What the answers of both text endpoints have in common: choices, counts and the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from agenthub.canonical import JSON, ChoiceStarted, Event, Finished, Timings, Usage
from agenthub.dialects import answerjson, typed
from agenthub.dialects.codec import PartlyUnreadable
from agenthub.dialects.openai import fields as common
from agenthub.dialects.openai.errors import raise_error
from agenthub.errors import UnreadableAnswer, UpstreamProtocol, shortened

_AROUND_DONE = b' \t\r\n"'
"""What stands around the end mark of some servers, which write it as JSON."""
MOST_CHOICES = 4096
"""What an answer may hold: 128 choices for each of several prompts."""


@attrs.define
class ChoiceParser:
    """Chunks of a stream; a subclass says what a choice holds.

    The end comes in any order: the reason, the counts (some servers put them on the chunk with the reason), ``[DONE]``.
    The reasons of all choices come with Finished. A stream without ``[DONE]`` is complete when each choice that it
    began has its reason; counts that did not come are unknown.
    """

    is_begun: bool = False
    _reasons: dict[int, str] = attrs.field(factory=dict)
    _usage: Usage | None = None
    _timings: Timings | None = None
    _aside: dict[str, JSON] = attrs.field(factory=dict)
    _done: bool = False
    _index: int = 0
    _odd: list[JSON] = attrs.field(factory=list)
    _begun: set[int] = attrs.field(factory=lambda: {0})

    def parse(self, payload: bytes, events: list[Event]) -> None:
        if self._done:
            return
        if not payload.startswith(b"{") and self._is_end_mark(payload.strip(_AROUND_DONE)):
            if not self.is_begun:
                raise UpstreamProtocol("the upstream ended the stream without an answer")
            self._done = True
            events.append(self._finish())
            return
        frame = answerjson.loads(payload)
        raise_error(frame)
        if frame.get("usage"):
            self._parse_counts(frame)
        choices = frame.get("choices") or ()
        for choice in choices:
            self.is_begun = True
            index = choice.get("index") or 0
            if index != self._index and (index := self._place_of(index, len(choices))) != self._index:
                self._index = index
                self._begun.add(index)
                events.append(ChoiceStarted(index))
            self.parse_choice(choice, events)
            if reason := choice.get("finish_reason"):
                self._end_choice(frame, index, reason)

    def parse_choice(self, choice: JSON, events: list[Event]) -> None:
        """Append the events of a choice."""
        raise NotImplementedError

    def _is_end_mark(self, said: bytes) -> bool:
        # In other letters it is one where nothing more is expected.
        return said == b"[DONE]" or (bool(self._reasons) and said.upper() == b"[DONE]")

    def _place_of(self, value: JSON, count: int) -> int:
        """Return the index of a choice; whatever it is, that of the only choice of a stream is 0."""
        index = read_index(value)
        if index is None and count == 1 and len(self._begun) == 1 and self._odd in ([], [value]):
            self._odd = [value]
            return 0
        if index is None or (index and self._odd):
            raise _unplaced(value)
        return index

    def skip(self, payload: bytes, events: list[Event]) -> None:
        """Take the counts and the reasons from a chunk of which the rest is not understood."""
        frame = answerjson.loads(payload)
        self._parse_counts(frame)
        choices = frame.get("choices")
        for choice in choices if type(choices) is list else ():
            self.is_begun = True
            if reason := typed.mapping(choice).get("finish_reason"):
                self._end_choice(frame, read_index(choice.get("index")) or 0, reason)

    def _parse_counts(self, frame: Mapping[str, JSON]) -> None:
        if usage := frame.get("usage"):
            self._usage = common.parse_usage(usage) or self._usage
            self._aside |= common.parse_details(usage)
            self._timings = self._timings or parse_timings(frame.get("timings"))

    def _end_choice(self, frame: Mapping[str, JSON], index: int, reason: JSON) -> None:
        self._reasons[index] = common.parse_reason(typed.words(reason) or "stop")
        self._timings = self._timings or parse_timings(frame.get("timings"))
        self._aside |= common.parse_aside(frame)

    def close(self, events: list[Event]) -> None:
        if self._done:
            return
        if not self._reasons:
            raise UpstreamProtocol("the upstream ended the stream without a finish reason")
        if missing := self._begun - self._reasons.keys():
            raise UpstreamProtocol(f"the upstream ended the stream without a finish reason for choice {min(missing)}")
        events.append(self._finish())

    def _finish(self) -> Finished:
        return finish(self._reasons, self._usage, self._timings, self._aside)


def read_index(value: JSON) -> int | None:
    """Return the index of a choice, None where it is not the number of one."""
    index = typed.count(value)
    return index if index is not None and index < MOST_CHOICES else None


def _unplaced(value: JSON) -> PartlyUnreadable:
    return PartlyUnreadable(f"the upstream sent several choices, one with the index {shortened(repr(value))}", [])


def finish(
    reasons: dict[int, str], usage: Usage | None, timings: Timings | None, aside: Mapping[str, JSON]
) -> Finished:
    """Return the last event; a choice without a reason has stopped."""
    more = tuple([reasons.get(index, "stop") for index in range(1, max(reasons, default=0) + 1)])
    return Finished(reasons.get(0, "stop"), usage, timings, more_reasons=more, aside=aside)


def parse_timings(value: JSON) -> Timings | None:
    """Return what llama.cpp's server tells in milliseconds, beyond the API of others; None where it is no duration."""
    if not isinstance(value, dict) or "predicted_ms" not in value:
        return None
    prompt, completion = typed.amount(value.get("prompt_ms")), typed.amount(value["predicted_ms"])
    if prompt is None or completion is None:
        return None
    return Timings(prompt_s=prompt / 1000, completion_s=completion / 1000)


def parse_choices(answer: JSON, parse_choice: Callable[[JSON, list[Event]], None]) -> list[Event]:
    """Return the events of an answer that was not streamed, choice after choice."""
    raise_error(answer)
    events: list[Event] = []
    reasons: dict[int, str] = {}
    choices: Sequence[JSON] = answer["choices"] or ()
    for choice in choices:
        index = read_index(choice.get("index"))
        if index is None and len(choices) > 1:
            raise _unplaced(choice["index"])
        index = index or 0
        if index or reasons:
            events.append(ChoiceStarted(index))
        parse_choice(choice, events)
        reasons[index] = common.parse_reason(typed.words(choice.get("finish_reason")) or "stop")
    if not reasons:
        raise UnreadableAnswer("the upstream's answer has no choices")
    usage, timings = common.parse_usage(answer.get("usage")), parse_timings(answer.get("timings"))
    aside = common.parse_aside(answer) | common.parse_details(answer.get("usage"))
    aside |= common.parse_beside(typed.mapping(choices[0].get("message")))
    return [*events, finish(reasons, usage, timings, aside)]
