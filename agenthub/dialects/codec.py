"""What a dialect's endpoint offers: parse and render its requests, parse and render its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from agenthub.canonical import JSON, Answer, Batch, Event, RawFrames, Request
from agenthub.dialects import jsontext
from agenthub.dialects.framing import DEFAULT_MAX_FRAME_BYTES, Framer
from agenthub.errors import AgentHubError, UpstreamError, UpstreamProtocol


class FrameParser(Protocol):
    """Knows what one endpoint's frames mean; remembers what must be known from earlier frames of the same stream."""

    def parse(self, payload: bytes, events: list[Event]) -> None:
        """Append the events of one frame; raise UpstreamError for a frame that reports an error."""

    def close(self, events: list[Event]) -> None:
        """The stream ended: append what was held back; raise UpstreamProtocol if it ended too early."""


class Renderer(Protocol):
    """Renders one stream; made when its first event is there."""

    def render(self, batch: Batch) -> bytes:
        """Return the frames of a batch, ready for one write; empty when it holds nothing to show yet."""


@attrs.frozen
class Codec:
    """One endpoint of one dialect, in pure functions.

    ``render_request`` takes the upstream's name for the model; ``render_defaults`` gives the top-level members that
    carry a request's ``defaults``. ``parse_whole`` and ``render_whole`` are for answers that are not streamed,
    ``make_parser``, ``make_framer`` and ``make_renderer`` for those that are.
    """

    dialect: str
    path: str
    parse_request: Callable[[bytes], Request]
    render_request: Callable[[Any, str], bytes]
    render_defaults: Callable[[Any], Mapping[str, JSON]]
    parse_whole: Callable[[bytes], list[Event]]
    render_whole: Callable[[Any, Answer], bytes]
    make_parser: Callable[[], FrameParser]
    make_framer: Callable[[int], Framer]
    make_renderer: Callable[[Any], Renderer]
    render_stream_error: Callable[[AgentHubError], bytes]
    stream_type: str
    whole_type: str


@attrs.define
class StreamParser:
    """Raw chunks of a streamed answer in, events out.

    With ``raw`` the events of a chunk stand behind one RawFrames of the whole frames that it completed, in which the
    model is called ``rename`` if that is given. After ``feed`` or ``close``, ``error`` says whether the stream broke:
    the events returned are those before the break.
    """

    codec: Codec
    raw: bool = False
    rename: str | None = None
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    error: UpstreamError | None = None
    _framer: Framer = attrs.field(init=False)
    _parser: FrameParser = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._framer = self.codec.make_framer(self.max_frame_bytes)
        self._parser = self.codec.make_parser()

    def feed(self, data: bytes) -> Batch:
        """Return the events of the frames that ``data`` completed."""
        try:
            return self._parse(self._framer.feed(data))
        except UpstreamError as error:
            self.error = error
            return ()

    def close(self) -> Batch:
        """Return what is left at the end of the stream."""
        batch = self._parse(self._framer.close())
        if self.error is not None:
            return batch
        held: list[Event] = []
        try:
            self._parser.close(held)
        except UpstreamError as error:
            self.error = error
        return (*batch, *held)

    def _parse(self, frames: list[bytes]) -> Batch:
        events: list[Event] = []
        good = len(frames)
        for number, frame in enumerate(frames):
            payload = self._framer.payload(frame)
            if not payload:
                continue
            try:
                self._parser.parse(payload, events)
            except (UpstreamError, ValueError, KeyError, TypeError, AttributeError) as error:
                self.error = as_upstream_error(error, payload)
                good = number
                break
        if self.raw and good:
            events.insert(0, RawFrames(self._raw(frames[:good])))
        return tuple(events)

    def _raw(self, frames: list[bytes]) -> bytes:
        if self.rename is not None:
            frames = [self._renamed(frame) for frame in frames]
        return self._framer.separator.join([*frames, b""])

    def _renamed(self, frame: bytes) -> bytes:
        payload = self._framer.payload(frame)
        if not payload.startswith(b"{"):
            return frame
        prefix = b"data: " if frame.lstrip().startswith(b"data:") else b""
        return prefix + jsontext.replace_top_level(payload, "model", self.rename)


def as_upstream_error(error: Exception, payload: bytes) -> UpstreamError:
    """Say that a frame or body is not what the API promises; an UpstreamError is returned as it is."""
    if isinstance(error, UpstreamError):
        return error
    start = payload[:80].decode("utf-8", "replace")
    return UpstreamProtocol(f"the upstream sent what its API does not allow: {start!r}")


def parse_whole(codec: Codec, body: bytes, *, raw: bool = False, rename: str | None = None) -> Batch:
    """Return the events of a whole answer, behind its RawFrames with ``raw``; raise UpstreamError."""
    try:
        events = codec.parse_whole(body)
        if raw and rename is not None:
            body = jsontext.replace_top_level(body, "model", rename)
    except (UpstreamError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise as_upstream_error(error, body) from error
    return (RawFrames(body), *events) if raw else tuple(events)
