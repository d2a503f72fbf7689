"""What a dialect's endpoint offers: parse and render its requests, parse and render its events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import attrs

from agenthub.canonical import JSON, Answer, Batch, Event, Finished, RawFrames, Request
from agenthub.dialects import jsontext
from agenthub.dialects.forms import EVENTS, LINES
from agenthub.dialects.framing import DEFAULT_MAX_FRAME_BYTES, EventFramer, Framer, LineFramer
from agenthub.dialects.opening import Opening, said_in
from agenthub.dialects.words import is_object, is_scalar, not_allowed, unread
from agenthub.errors import AgentHubError, UnreadableAnswer, UpstreamError, UpstreamProtocol


class FrameParser(Protocol):
    """Knows what one endpoint's frames mean; remembers what must be known from earlier frames of the same stream.

    ``is_begun`` is true once a frame was one of an answer, be it without an event. Objects of kinds that it does not
    know are no errors: they are skipped.
    """

    is_begun: bool

    def parse(self, payload: bytes, events: list[Event]) -> None:
        """Append the events of one frame; raise UpstreamError for a frame that reports an error."""

    def skip(self, payload: bytes, events: list[Event]) -> None:
        """Take from an object that ``parse`` did not understand that the answer ends, and what it counts."""

    def close(self, events: list[Event]) -> None:
        """The stream ended: append what was held back; raise UpstreamProtocol if it ended too early.

        Where all that the answer needs has come, Finished is held back until then, though the end mark never came.
        """


class Renderer(Protocol):
    """Renders one stream; made when its first event is there."""

    def render(self, batch: Batch) -> bytes:
        """Return the frames of a batch, ready for one write; empty when it holds nothing to show yet."""


@attrs.frozen(eq=False)
class Codec:
    """One endpoint of one dialect, in pure functions.

    ``render_request`` takes a request and the upstream's name for the model; ``render_defaults`` gives the top-level
    members that carry a request's ``defaults``. In OpenAI's dialect both take a flavour besides. ``parse_whole`` and
    ``render_whole`` are for answers that are not streamed, ``make_parser``, ``make_framer`` and ``make_renderer`` for
    those that are. The rendering of events raises UpstreamProtocol for what cannot be shown in this dialect.

    ``end_mark`` is the frame that ends a stream whose events have ended, empty where its last event does.
    ``member`` is the top-level member of the request that names the model. ``complete`` makes a whole answer of the
    upstream's own bytes fit to be shown. A management verb (``is_verb``) fails by a 500 with the upstream's own words
    without any fault of the upstream's; one that ``is_patient`` may keep silent for as long as it likes, since pulling
    and verifying take minutes.
    """

    dialect: str
    path: str
    parse_request: Callable[[bytes], Request]
    render_request: Callable[..., bytes]
    render_defaults: Callable[..., Mapping[str, JSON]]
    parse_whole: Callable[[bytes], list[Event]]
    render_whole: Callable[[Any, Answer], bytes]
    make_parser: Callable[[], FrameParser]
    make_framer: Callable[[], Framer]
    make_renderer: Callable[[Any], Renderer]
    render_stream_error: Callable[[AgentHubError], bytes]
    stream_type: str
    whole_type: str
    method: str = "POST"
    member: str = "model"
    end_mark: bytes = b""
    complete: Callable[[Any, bytes], bytes] | None = None
    is_verb: bool = False
    is_patient: bool = False


class PartlyUnreadable(UnreadableAnswer):
    """A part of an answer cannot be read; ``events`` are the rest, enough where the client gets the answer's bytes."""

    def __init__(self, message: str, events: list[Event]) -> None:
        super().__init__(message)
        self.events = events


BROKEN = (UpstreamError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What parsing may raise of an answer that is not what its API promises."""


FRAMERS: Mapping[str, Callable[[], Framer]] = {EVENTS: EventFramer, LINES: LineFramer}
"""What reads each form of a stream."""


@attrs.define
class StreamParser:
    """Raw chunks of a streamed answer in, events out; what follows the end has none.

    With ``raw`` the events of a chunk stand behind one RawFrames of the whole frames that it completed, in which the
    model is called ``rename`` if that is given. Objects that are not understood are among them. As long as no frame was
    understood they are held back, up to 64 KiB: a stream that ends without one is an error, in the upstream's
    own words, before anything of it was passed on. ``form`` is that of the bytes where it is not the codec's own.

    After ``feed`` or ``close``, ``error`` says whether the stream broke:
    the events returned are those of the frames before the break.
    """

    codec: Codec
    raw: bool = False
    rename: str | None = None
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    error: UpstreamError | None = None
    is_finished: bool = False
    form: str = ""
    _framer: Framer = attrs.field(init=False)
    _parser: FrameParser = attrs.field(init=False)
    _own: Framer = attrs.field(init=False)
    _is_begun: bool = False
    _opening: Opening = attrs.field(factory=Opening)

    def __attrs_post_init__(self) -> None:
        self._own = self._framer = self.codec.make_framer()
        if self.form and type(self._own) is not FRAMERS[self.form]:
            self._framer = FRAMERS[self.form]()
        self._parser = self.codec.make_parser()

    def feed(self, data: bytes) -> Batch:
        """Return the events of the frames that ``data`` completed."""
        if self.is_finished or self.error is not None:
            return ()
        size = len(self._framer.tail) + len(data)
        frames = self._framer.feed(data)
        batch = self._parse(frames, size)
        if not self._is_begun:
            batch = self._begin(batch, frames)
        if self.error is None and 0 < self.max_frame_bytes < len(self._framer.tail):
            self.error = self._too_long()
        return batch

    def close(self) -> Batch:
        """Return what is left at the end of the stream."""
        if self.is_finished or self.error is not None:
            return ()
        size = len(self._framer.tail)
        frames = self._framer.close()
        batch = self._parse(frames, size)
        if not self._is_begun:
            batch = self._begin(batch, frames)
        if self.is_finished or (self.error is not None and not isinstance(self.error, UpstreamProtocol)):
            return batch
        held: list[Event] = []
        try:
            self._parser.close(held)
        except BROKEN as error:
            # What is wrong with the last frame says more than that the end is missing.
            self.error = self.error or as_upstream_error(error, b"")
            if not self._is_begun:
                self.error = self._opening.explain(self.error, at_end=True)
            return (*batch, *held)
        # A last frame that was cut takes nothing from an answer that is complete without it.
        self.error, self.is_finished = None, bool(held) and type(held[-1]) is Finished
        return self._with_end_mark((*batch, *held)) if self.is_finished else (*batch, *held)

    def _begin(self, batch: Batch, frames: list[bytes]) -> Batch:
        """Return what is passed on of a stream of which nothing was understood before this batch."""
        opening, payload_of = self._opening, self._framer.payload
        if not self._parser.is_begun and (not batch or type(batch[-1]) is RawFrames):
            is_held = opening.hold(batch, lambda: next(filter(None, (said_in(payload_of(f), f) for f in frames)), b""))
            if self.error is not None:
                self.error = opening.explain(self.error, at_end=b"[DONE]" in frames[-1])
                return ()
            if is_held:
                return ()
            batch = ()  # so much is not held, though it is no answer yet
        self._is_begun = True
        return opening.released(batch)

    def _with_end_mark(self, batch: Batch) -> Batch:
        if not (self.raw and self.codec.end_mark):
            return batch
        first = batch[0]
        if type(first) is RawFrames:
            return (RawFrames(first.data + self.codec.end_mark), *batch[1:])
        return (RawFrames(self.codec.end_mark), *batch)

    def break_off(self) -> Batch:
        """Return the end of a stream whose connection broke or fell silent; empty where the answer is not complete."""
        if self.is_finished or self.error is not None:
            return ()
        batch = self.close()
        return batch if self.is_finished else ()

    def _parse(self, frames: list[bytes], size_bytes: int) -> Batch:
        events: list[Event] = []
        raw: list[bytes] = []
        payload_of, parse, limit = self._framer.payload, self._parser.parse, self.max_frame_bytes or sys.maxsize
        known, payload, is_as_sent = 0, b"", self.rename is None and self._framer is self._own
        if size_bytes <= limit:
            limit = 0  # together they are no longer than one may be
        rest = iter(frames)
        try:
            for frame in rest:
                known, payload = len(events), payload_of(frame)
                if 0 < limit < len(frame):
                    raise self._too_long()
                if payload:
                    try:
                        parse(payload, events)
                    except BROKEN as error:
                        del events[known:]
                        self._pass(error, payload, events)
                elif not is_as_sent:
                    continue  # a comment, a keep-alive: the clients of an alias get chunks and nothing else
                if self.raw:
                    raw.append(frame if is_as_sent else self._rewritten(frame, payload))
                if events and type(events[-1]) is Finished:
                    self.is_finished = True
                    raw += self._behind(rest)
                    break
        except BROKEN as error:
            del events[known:]
            if ended := self._end_before(as_upstream_error(error, payload)):
                events += ended
                raw += [self.codec.end_mark] if self.raw else []
        if raw:
            events.insert(0, RawFrames(b"".join(raw)))
        return tuple(events)

    def _end_before(self, error: UpstreamError) -> list[Event]:
        """Return the end of an answer of which all had come before what cannot be read; else keep the error."""
        ended: list[Event] = []
        if type(error) is UpstreamProtocol:  # and neither a report of the upstream's own nor an object of the answer
            with suppress(*BROKEN):
                self._parser.close(ended)
        self.is_finished = bool(ended) and type(ended[-1]) is Finished
        self.error = None if self.is_finished else error
        return ended if self.is_finished else []

    def _behind(self, frames: Iterable[bytes]) -> list[bytes]:
        """Return what is passed on of the frames behind the end: objects, where no mark tells clients to stop."""
        if not self.raw or self.codec.end_mark:
            return []
        is_as_sent, payload_of = self.rename is None and self._framer is self._own, self._framer.payload
        carried = [(frame, payload) for frame in frames if is_object(payload := payload_of(frame))]
        return [frame if is_as_sent else self._rewritten(frame, payload) for frame, payload in carried]

    def follow(self, batch: Batch, data: bytes) -> Batch:
        """Return the last batch with what is passed on of ``data``, which came behind it."""
        behind = self._behind(self._framer.feed(data) + self._framer.close())
        first = batch[0]
        if not behind or type(first) is not RawFrames:
            return batch
        return (RawFrames(first.data + b"".join(behind)), *batch[1:])

    def _pass(self, error: Exception, payload: bytes, events: list[Event]) -> None:
        """Take the end from an object that is passed on, though it is not understood; raise the error of the rest.

        A number or a text before the answer is nothing to us, in whichever lane.
        """
        is_passed = self.raw and (isinstance(error, PartlyUnreadable) or not isinstance(error, UpstreamError))
        if is_passed and is_object(payload):
            self._parser.skip(payload, events)
        elif self._is_begun or self._parser.is_begun or events or not is_scalar(payload):
            raise error

    def _rewritten(self, frame: bytes, payload: bytes) -> bytes:
        if not payload.lstrip().startswith(b"{"):
            return frame if self._framer is self._own else self._own.wrap(payload)
        if self.rename is not None:
            payload = jsontext.replace_top_level(payload, "model", self.rename)
        return self._own.wrap(payload)

    def _too_long(self) -> UpstreamProtocol:
        return UpstreamProtocol(f"the upstream sent a frame of more than {self.max_frame_bytes} bytes")


def as_upstream_error(error: Exception, payload: bytes) -> UpstreamError:
    """Say that a frame or body is not what the API promises; an UpstreamError is returned as it is.

    One that is a JSON object is an UnreadableAnswer.
    """
    return error if isinstance(error, UpstreamError) else unread(not_allowed(payload), payload)
