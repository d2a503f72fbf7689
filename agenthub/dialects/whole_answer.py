"""Whole answers: the events of one that is not streamed, in any dialect."""

from __future__ import annotations

from contextlib import suppress

from agenthub.canonical import Batch, Event, Finished, RawFrames
from agenthub.dialects import jsontext
from agenthub.dialects.codec import BROKEN, Codec, PartlyUnreadable, as_upstream_error
from agenthub.dialects.framing import BOM
from agenthub.dialects.words import complained, is_object, unread
from agenthub.errors import UpstreamError, UpstreamProtocol


def _end_of(codec: Codec, body: bytes) -> list[Event]:
    """Return the last event of a whole answer of which the rest is not understood, with what can be read of it."""
    parser, events = codec.make_parser(), list[Event]()
    with suppress(*BROKEN):
        parser.skip(body, events)
        parser.close(events)
    return events[-1:] or [Finished()]


def parse_whole(codec: Codec, body: bytes, *, raw: bool = False, rename: str | None = None) -> Batch:
    """Return the events of a whole answer, behind its RawFrames with ``raw``; raise UpstreamError.

    With ``raw`` an object of a kind that is not understood is one without events, but not one that only complains.
    """
    try:
        events = codec.parse_whole(body)
    except PartlyUnreadable as error:
        if not raw:
            raise
        events = error.events or _end_of(codec, body)
    except BROKEN as error:
        failure = unread(complained(as_upstream_error(error, body), body), body)
        is_unknown = isinstance(failure, UpstreamProtocol) and not isinstance(error, UpstreamError) and is_object(body)
        if not (raw and is_unknown):
            raise failure from error
        events = _end_of(codec, body)
    try:
        if raw and rename is not None:
            body = jsontext.replace_top_level(body.removeprefix(BOM), "model", rename)
    except BROKEN as error:
        raise as_upstream_error(error, body) from error
    return (RawFrames(body), *events) if raw else tuple(events)
