"""Answer: an upstream's response as batches of events, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import aiohttp

from agenthub.canonical import Batch, RawFrames, Started
from agenthub.dialects import StreamParser, parse_whole
from agenthub.dialects.lane import Lane
from agenthub.errors import UnreadableAnswer, UpstreamError, UpstreamProtocol
from agenthub.offload import offload
from agenthub.settings import BackendSettings
from agenthub.upstream.errors import kept_headers, tells_of_death
from agenthub.upstream.patience import Patience
from agenthub.upstream.reading import read_any, read_whole

_TAIL_S = 0.05


def make_started(lane: Lane, response: aiohttp.ClientResponse) -> Started:
    """Return the first event: that the upstream answers, and how."""
    streamed = response.content_type == lane.codec.stream_type
    status = 201 if response.status == 201 else 200  # of other words for yes no client of these APIs knows
    return Started(streamed, lane.codec.path if lane.raw else "", kept_headers(response.headers), status)


async def read_stream(
    lane: Lane, parser: StreamParser, content: aiohttp.StreamReader, patience: Patience, settings: BackendSettings
) -> AsyncGenerator[Batch, None]:
    """Yield the events of a stream, a batch for each read of the socket; raise UpstreamError."""
    limit_s, idle_s = patience.limit_s, 0.0 if lane.codec.is_patient else settings.idle_timeout_s
    async for data in read_any(content, settings.max_answer_bytes if lane.is_whole else 0):
        if batch := parser.feed(data):
            if type(batch[-1]) is not RawFrames:
                limit_s = idle_s
            patience.pause()
            yield batch
        if parser.error is not None:
            raise _marked(parser.error)
        # Whatever it was, the upstream lives: a comment, a blank line, a part of a frame.
        patience.resume(limit_s)
    patience.pause()
    if batch := parser.close():
        yield batch
    if parser.error is not None:
        raise _marked(parser.error, at_end=True)


async def read_answer(
    lane: Lane, response: aiohttp.ClientResponse, patience: Patience, settings: BackendSettings
) -> Batch:
    """Return the events of a whole answer; raise UpstreamError."""
    # Not response.read(): that waits for the upload's end, even when the answer came before it.
    data = await read_whole(response.content, settings.max_answer_bytes, patience)
    patience.pause()
    return await offload(len(data), _parse, lane, data, response)


def _parse(lane: Lane, data: bytes, response: aiohttp.ClientResponse) -> Batch:
    try:
        return parse_whole(lane.codec, data, raw=lane.raw, rename=lane.rename)
    except UpstreamError as error:
        # A body without a length ends where the connection does, be that its end or not.
        is_framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
        _marked(error, at_end=not data or not is_framed)
        raise


def complete(opening: Batch, parser: StreamParser | None) -> Batch:
    """Return the end of an answer that lacked nothing when its connection failed; empty where it did."""
    rest = parser.break_off() if parser is not None else ()
    return opening + rest if rest else ()


async def drain(content: aiohttp.StreamReader) -> None:
    """Take the end of a body, so that the connection can serve again; one that is late is not waited for."""
    if content.at_eof():
        return
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(_TAIL_S):
            while await content.readany():
                pass


def _marked(error: UpstreamError, *, at_end: bool = False) -> UpstreamError:
    """Return the error of an answer, with a mark whether it is wrong or broke off."""
    was_cut = at_end and isinstance(error, UpstreamProtocol) and not isinstance(error, UnreadableAnswer)
    error.broke_off = was_cut or tells_of_death(error)
    return error
