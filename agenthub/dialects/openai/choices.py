"""What the answers of both text endpoints have in common: choices, counts and the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from agenthub.canonical import JSON, ChoiceStarted, Event, Finished, Timings, Usage
from agenthub.dialects import answerjson, typed
from agenthub.dialects.openai import fields as common
from agenthub.dialects.openai.errors import raise_error
from agenthub.errors import UnreadableAnswer, UpstreamProtocol

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
    _begun: set[int] = attrs.field(factory=lambda: {0})

    def parse(self, payload: bytes, events: list[Event]) -> None:
        if self._done:
            return
        if not payload.startswith(b"{") and payload.strip(_AROUND_DONE) == b"[DONE]":
            if not self.is_begun:
                raise UpstreamProtocol("the upstream ended the stream without an answer")
            self._done = True
            events.append(self._finish())
            return
        frame = answerjson.loads(payload)
        raise_error(frame)
        if frame.get("usage"):
            self._parse_counts(frame)
        for choice in frame.get("choices") or ():
            self.is_begun = True
            index = choice.get("index") or 0
            if index != self._index and (index := checked_index(index)) != self._index:
                self._index = index
                self._begun.add(index)
                events.append(ChoiceStarted(index))
            self.parse_choice(choice, events)
            if reason := choice.get("finish_reason"):
                self._end_choice(frame, index, reason)

    def parse_choice(self, choice: JSON, events: list[Event]) -> None:
        """Append the events of a choice."""
        raise NotImplementedError

    def skip(self, payload: bytes, events: list[Event]) -> None:
        """Take the counts and the reasons from a chunk of which the rest is not understood."""
        frame = answerjson.loads(payload)
        self._parse_counts(frame)
        choices = frame.get("choices")
        for choice in choices if type(choices) is list else ():
            self.is_begun = True
            if reason := typed.mapping(choice).get("finish_reason"):
                self._end_choice(frame, typed.count(choice.get("index")) or 0, reason)

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


def checked_index(value: JSON) -> int:
    """Return the index of a choice."""
    index = typed.count(value)
    if index is None or index >= MOST_CHOICES:
        raise UnreadableAnswer("the upstream's number of a choice is no number, or beyond all bounds")
    return index


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
    for choice in answer["choices"]:
        index = checked_index(choice.get("index"))
        if index or reasons:
            events.append(ChoiceStarted(index))
        parse_choice(choice, events)
        reasons[index] = common.parse_reason(typed.words(choice.get("finish_reason")) or "stop")
    if not reasons:
        raise UnreadableAnswer("the upstream's answer has no choices")
    usage, timings = common.parse_usage(answer.get("usage")), parse_timings(answer.get("timings"))
    aside = common.parse_aside(answer) | common.parse_details(answer.get("usage"))
    aside |= common.parse_beside(answer["choices"][0].get("message") or {})
    return [*events, finish(reasons, usage, timings, aside)]
