"""Answer: an upstream's response as batches of events, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from functools import lru_cache

import aiohttp
import attrs

from agenthub.canonical import Batch, RawFrames, Started
from agenthub.dialects import StreamParser, parse_whole
from agenthub.dialects.forms import LINES, USUAL, WHOLE, form_of
from agenthub.dialects.lane import Lane
from agenthub.dialects.opening import HELD_BYTES
from agenthub.dialects.whole import NoFrames
from agenthub.errors import UnreadableAnswer, UpstreamError, UpstreamProtocol
from agenthub.offload import is_large, offload
from agenthub.settings import BackendSettings
from agenthub.upstream.errors import kept_headers, tells_of_death
from agenthub.upstream.http_client import Response
from agenthub.upstream.patience import Patience
from agenthub.upstream.reading import read_any, read_whole

_TAIL_S = 0.05
_NONE, _ANY = ("", b""), (LINES, b"")


@attrs.define
class Arrival:
    """An answer whose first bytes are there: ``form`` is what they are, ``head`` those that were read to find it."""

    form: str
    head: bytes = attrs.field(repr=False)
    pieces: AsyncIterator[bytes] = attrs.field(repr=False)

    @property
    def is_streamed(self) -> bool:
        return self.form != WHOLE


async def _nothing() -> AsyncGenerator[bytes, None]:
    nothing: tuple[bytes, ...] = ()
    for data in nothing:
        yield data


_UNREAD = Arrival(WHOLE, b"", _nothing())


async def arrive(lane: Lane, response: Response, patience: Patience, settings: BackendSettings) -> Arrival:
    """Return how the upstream answers. Where a stream is asked for, or promised, the first bytes have the last word."""
    codec = lane.codec
    is_promised = _media_type(response.headers.get("Content-Type", "")) == codec.stream_type
    if (lane.is_whole and not is_promised) or codec.make_parser is NoFrames:
        return _UNREAD
    promised, usual = USUAL.get(codec.stream_type, _ANY) if is_promised else _NONE
    pieces = read_any(response.content, settings.max_answer_bytes if lane.is_whole else 0)
    head = await anext(pieces, b"")
    if promised and head.startswith(usual):
        return Arrival(promised, head, pieces)
    form = form_of(head, is_all=not head, promised=promised)
    while not form:
        patience.resume(patience.limit_s)
        piece = await anext(pieces, b"")
        head += piece
        form = form_of(head, is_all=not piece, promised=promised)
    return Arrival(form, head, pieces)


@lru_cache(64)
def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def make_started(lane: Lane, response: Response, *, is_streamed: bool) -> Started:
    """Return the first event: that the upstream answers, and how."""
    status = 201 if response.status == 201 else 200  # of other words for yes no client of these APIs knows
    return Started(is_streamed, lane.codec.path if lane.raw else "", kept_headers(response.headers), status)


def make_parser(lane: Lane, arrival: Arrival, settings: BackendSettings) -> StreamParser:
    """Return what reads an answer that is streamed."""
    return StreamParser(lane.codec, lane.raw, lane.rename, settings.max_frame_bytes, form=arrival.form)


async def read_stream(
    lane: Lane, parser: StreamParser, arrival: Arrival, patience: Patience, settings: BackendSettings
) -> AsyncGenerator[Batch, None]:
    """Yield the events of a stream, a batch for each read of the socket; raise UpstreamError."""
    limit_s, idle_s = patience.limit_s, 0.0 if lane.codec.is_patient else settings.idle_timeout_s
    data, following = arrival.head, arrival.pieces.__anext__
    while data:
        if batch := parser.feed(data):
            if type(batch[-1]) is not RawFrames:
                limit_s = idle_s
            patience.pause()
            yield batch
        if parser.error is not None:
            raise _marked(parser.error)
        # Whatever it was, the upstream lives: a comment, a blank line, a part of a frame.
        patience.resume(limit_s)
        try:
            data = await following()
        except StopAsyncIteration:
            break
    patience.pause()
    if batch := parser.close():
        yield batch
    if parser.error is not None:
        raise _marked(parser.error, at_end=True)


async def read_answer(
    lane: Lane, arrival: Arrival, response: Response, patience: Patience, settings: BackendSettings
) -> Batch:
    """Return the events of a whole answer, Started among them; raise UpstreamError."""
    # Not response.read(): that waits for the upload's end, even when the answer came before it.
    data = await read_whole(response.content, settings.max_answer_bytes, patience, arrival.head)
    patience.pause()
    if is_large(len(data)):
        return await offload(len(data), _parse, lane, data, response)
    return _parse(lane, data, response)


def _parse(lane: Lane, data: bytes, response: Response) -> Batch:
    try:
        batch = parse_whole(lane.codec, data, raw=lane.raw, rename=lane.rename)
        return (make_started(lane, response, is_streamed=False), *batch)
    except UpstreamError as error:
        if batch := _parse_stream(lane, data):
            return (make_started(lane, response, is_streamed=True), *batch)
        # A body without a length ends where the connection does, be that its end or not.
        is_framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
        _marked(error, at_end=not data or not is_framed)
        raise


def _parse_stream(lane: Lane, data: bytes) -> Batch:
    """Return the events of a stream that its type does not name, where a whole answer was asked for; else nothing.

    An error that it reports is raised.
    """
    form = form_of(data, is_all=True)
    if form == WHOLE or lane.codec.make_parser is NoFrames:
        return ()
    parser = StreamParser(lane.codec, lane.raw, lane.rename, 0, form=form)
    batch = parser.feed(data) + parser.close()
    if parser.error is not None:
        raise _marked(parser.error)
    return batch


def complete(opening: Batch, parser: StreamParser | None) -> Batch:
    """Return the end of an answer that lacked nothing when its connection failed; empty where it did."""
    rest = parser.break_off() if parser is not None else ()
    return opening + rest if rest else ()


async def drain(content: aiohttp.StreamReader) -> bytes:
    """Take the end of a body, so that the connection can serve again; one that is late is not waited for.

    Return what it was, as far as that is worth keeping.
    """
    rest = b""
    if content.at_eof():
        return rest
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(_TAIL_S):
            while data := await content.readany():
                rest += data if len(rest) < HELD_BYTES else b""
    return rest


def _marked(error: UpstreamError, *, at_end: bool = False) -> UpstreamError:
    """Return the error of an answer, with a mark whether it is wrong or broke off."""
    was_cut = at_end and isinstance(error, UpstreamProtocol) and not isinstance(error, UnreadableAnswer)
    error.broke_off = was_cut or tells_of_death(error)
    return error
