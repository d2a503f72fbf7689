"""The closed union of events that every answer consists of, whole or streamed; match on the class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

from agenthub.canonical.requests import JSON, Loss, ToolCall
from agenthub.canonical.sealed import sealed


@sealed
class Started:
    """The upstream accepted; always the first event.

    ``streamed`` says how the upstream answers, whatever was asked for. ``raw_path`` is the endpoint whose raw frames
    follow, empty when there are none. ``headers`` may be shown to the client. ``status`` is the upstream's own, which a
    whole answer of raw frames keeps. ``losses`` are those that only the asking showed; with any, the answer is not kept
    for others.
    """

    streamed: bool = False
    raw_path: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    status: int = 200
    losses: tuple[Loss, ...] = ()


# The events that streams are full of are not frozen, though nobody may change them: freezing doubles the cost of each.
@attrs.define(unsafe_hash=True)
class RawFrames:
    """The upstream's own bytes, cut at frame ends, beside the events that they were parsed into."""

    data: bytes = attrs.field(repr=False)


@attrs.frozen
class ChoiceStarted:
    """What follows belongs to the choice ``index``; before the first of these it belongs to choice 0."""

    index: int


@attrs.define(unsafe_hash=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@attrs.define(unsafe_hash=True)
class RefusalDelta(TextDelta):
    """A piece of the words in which the model refuses to answer: a text to those who know no refusals."""


@attrs.define(unsafe_hash=True)
class ReasoningDelta:
    """A piece of what the model thinks aloud."""

    text: str


@attrs.frozen
class ToolCallDelta:
    """A tool call or a piece of one.

    Pieces of equal ``index`` belong together; ``id`` and ``name`` come with the first.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@attrs.frozen
class LogprobsDelta:
    """Log-probabilities of the text beside it: ``token``, ``logprob``, maybe ``bytes`` and ``top_logprobs`` each."""

    items: tuple[JSON, ...]


@attrs.frozen
class Embeddings:
    """One vector for each input, in order."""

    vectors: tuple[Sequence[float], ...]

    @property
    def count(self) -> int:
        """How many numbers these are."""
        return sum(map(len, self.vectors))


@attrs.frozen
class Usage:
    """Tokens as the upstream counted them, None for what is no count; ``prompt`` includes ``cached``."""

    prompt: int | None = 0
    completion: int | None = 0
    cached: int | None = None


@attrs.frozen
class Timings:
    """Where the time went, in seconds, None for what is no duration."""

    total_s: float | None = 0.0
    load_s: float | None = 0.0
    prompt_s: float | None = 0.0
    completion_s: float | None = 0.0


@sealed
class Finished:
    """The last event; a stream that ends without it was cut.

    ``reason`` is stop (also when tools are called), length, load, unload, content_filter or the upstream's own word.
    ``context`` is Ollama's deprecated token memory of generate; ``more_reasons`` are those of the choices after the
    first, to which ``reason`` belongs. ``aside`` is what only the upstream's dialect has a place for.
    """

    reason: str = "stop"
    usage: Usage | None = None
    timings: Timings | None = None
    context: tuple[int, ...] = ()
    more_reasons: tuple[str, ...] = ()
    aside: Mapping[str, JSON] = attrs.field(factory=dict, eq=False, repr=False)


Event: TypeAlias = (
    Started
    | RawFrames
    | ChoiceStarted
    | TextDelta
    | RefusalDelta
    | ReasoningDelta
    | ToolCallDelta
    | LogprobsDelta
    | Embeddings
    | Finished
)
Batch: TypeAlias = tuple[Event, ...]
"""The events that arrived together in one read of the upstream's socket."""


@attrs.define
class Answer:
    """The same events, assembled. ``text`` holds the ``refusal`` too, if there is one; ``plain`` is it without.

    ``more`` are the choices after the first, whose ``finished`` is but a reason.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[JSON, ...] = ()
    vectors: tuple[Sequence[float], ...] = ()
    finished: Finished | None = None
    more: tuple[Answer, ...] = ()
    refusal: str = ""
    plain: str = ""


def assemble(events: Iterable[Event]) -> Answer:
    """Put a whole stream's events together; ``finished`` stays None for a stream that was cut."""
    answer = Answer()
    text: list[str] = []
    plain: list[str] = []
    refusal: list[str] = []
    reasoning: list[str] = []
    logprobs: list[JSON] = []
    calls: dict[int, list[ToolCallDelta]] = {}
    events = iter(events)
    for event in events:
        match event:
            case RefusalDelta():
                text.append(event.text)
                refusal.append(event.text)
            case TextDelta():
                text.append(event.text)
                plain.append(event.text)
            case ReasoningDelta():
                reasoning.append(event.text)
            case ToolCallDelta():
                calls.setdefault(event.index, []).append(event)
            case LogprobsDelta():
                logprobs += event.items
            case Embeddings():
                answer.vectors += event.vectors
            case Finished():
                answer.finished = event
            case ChoiceStarted():
                seen: list[Event] = [
                    TextDelta("".join(plain)),
                    RefusalDelta("".join(refusal)),
                    ReasoningDelta("".join(reasoning)),
                    LogprobsDelta(tuple(logprobs)),
                ]
                called = [piece for pieces in calls.values() for piece in pieces]
                return _assemble_choices([*seen, *called, event, *events])
            case Started() | RawFrames():
                pass
    answer.text, answer.reasoning = "".join(text), "".join(reasoning)
    answer.logprobs, answer.refusal = tuple(logprobs), "".join(refusal)
    answer.plain = "".join(plain) if answer.refusal else ""
    answer.tool_calls = tuple([_joined(pieces) for pieces in calls.values()])
    return answer


def _assemble_choices(events: Iterable[Event]) -> Answer:
    of_choice: dict[int, list[Event]] = {0: []}
    index, finished = 0, None
    for event in events:
        match event:
            case ChoiceStarted():
                index = event.index
            case Finished():
                finished = event
            case _:
                of_choice.setdefault(index, []).append(event)
    reasons = (finished.reason, *finished.more_reasons) if finished is not None else ()
    for index in range(len(reasons)):
        of_choice.setdefault(index, [])
    answer, *more = (assemble(of_choice[index]) for index in sorted(of_choice))
    for one, reason in zip(more, reasons[1:], strict=False):
        one.finished = Finished(reason)
    answer.finished, answer.more = finished, tuple(more)
    return answer


def _joined(pieces: Sequence[ToolCallDelta]) -> ToolCall:
    arguments = "".join(piece.arguments for piece in pieces)
    return ToolCall(id=pieces[0].id, name=pieces[0].name, arguments=arguments or "{}")
