"""Answers a request for a model: pulls the first batch, then sends headers, then one write a batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import attrs
import structlog
from aiohttp import web

from agenthub.api.bodies import give_back
from agenthub.api.described import Head
from agenthub.api.headers import make_headers
from agenthub.api.hub import Hub, hub_of
from agenthub.api.responses import make_whole
from agenthub.api.stream import Stream
from agenthub.canonical import Batch, Embeddings, Event, Finished, RawFrames, Request, Started, assemble
from agenthub.dialects import Codec
from agenthub.dialects.codec import BROKEN, as_upstream_error
from agenthub.dialects.openai import fields
from agenthub.errors import AgentHubError, UpstreamProtocol, UpstreamReport
from agenthub.middleware import Caller, Dispatch
from agenthub.offload import is_large, offload

_FLOAT_BYTES = 8
_log = structlog.get_logger("agenthub")


async def answer(http_request: web.Request, caller: Caller, codec: Codec, request: Request) -> web.StreamResponse:
    """Dispatch ``request`` and answer as ``codec`` renders it; raises AgentHubError before the first byte."""
    hub = hub_of(http_request)
    request = with_authorization(hub, http_request, caller, request)
    dispatch = await hub.dispatcher.dispatch(request, caller)
    batches = hub.dispatcher.run(dispatch)
    try:
        if request.wants_stream:
            return await _stream(http_request, codec, dispatch, batches)
        return await _whole(http_request, codec, dispatch, batches)
    except Exception as error:
        await _tell(batches, error)
        raise
    finally:
        await batches.aclose()


def authorization_of(hub: Hub, head: Head, caller: Caller) -> str:
    """Return what a backend is to see of the client's own, empty where none is to."""
    if not hub.forwards_authorization or caller.shows_key:
        return ""
    return head.headers.get("Authorization", "")


def with_authorization(hub: Hub, head: Head, caller: Caller, request: Request) -> Request:
    """Return the request with the client's own Authorization header, where a backend is to see that."""
    authorization = authorization_of(hub, head, caller)
    return attrs.evolve(request, authorization=authorization) if authorization else request


async def _tell(batches: AsyncGenerator[Batch, None], error: Exception) -> None:
    """Throw what went wrong in rendering into the chain, so that it does not take the end for a client's leaving."""
    with suppress(Exception):
        try:
            await batches.athrow(error)
        finally:
            # Its traceback now knows this frame, and the two would keep each other.
            del error


async def _whole(
    http_request: web.Request, codec: Codec, dispatch: Dispatch, batches: AsyncGenerator[Batch, None]
) -> web.StreamResponse:
    events: list[Event] = []
    body: bytes | None = None
    status = 200
    async for batch in batches:
        if not events:
            dispatch.began(batch)
        events += batch
        if type(batch[-1]) is Finished:
            if is_large(size_bytes := _vectors_bytes(events)):
                status, body = await offload(size_bytes, _render_whole, codec, dispatch, events)
            else:
                status, body = _render_whole(codec, dispatch, events)
            dispatch.status = status
        dispatch.sent(batch, len(body or b""))
    if body is None:
        raise UpstreamProtocol("the upstream ended its answer too early")
    headers = make_headers(dispatch, events[0])
    if body:
        headers["Content-Type"] = codec.whole_type
    return make_whole(http_request, headers, body, status)


def _vectors_bytes(events: list[Event]) -> int:
    return _FLOAT_BYTES * sum([event.count for event in events if type(event) is Embeddings])


def _render_whole(codec: Codec, dispatch: Dispatch, events: list[Event]) -> tuple[int, bytes]:
    started = events[0]
    if isinstance(started, Started) and started.raw_path == codec.path and not started.streamed:
        body = b"".join([event.data for event in events if type(event) is RawFrames])
        return started.status, body if codec.complete is None else _complete(codec, dispatch, body)
    return 200, codec.render_whole(dispatch.request, dispatch.answer or assemble(events))


def _complete(codec: Codec, dispatch: Dispatch, body: bytes) -> bytes:
    assert codec.complete is not None
    try:
        return codec.complete(dispatch.request, body)
    except BROKEN as error:
        raise as_upstream_error(error, body) from error


async def _stream(
    http_request: web.Request, codec: Codec, dispatch: Dispatch, batches: AsyncGenerator[Batch, None]
) -> web.StreamResponse:
    ping_s = hub_of(http_request).settings.sse_ping_s if codec.stream_type == fields.STREAM_TYPE else 0.0
    # A client that left is no error of ours: the upstream is closed, and there is nobody to tell.
    with suppress(ConnectionResetError), Stream(http_request, dispatch, codec.stream_type, ping_s) as stream:
        try:
            first = await anext(batches)
            give_back(http_request)
            dispatch.began(first)
            render = _renderer(codec, dispatch, first[0])
            opening = render(first)
            await stream.open(first[0])
            await stream.send(first, opening)
            async for batch in batches:
                await stream.send(batch, render(batch))
        except ConnectionResetError:
            raise
        except (Exception, asyncio.CancelledError) as raised:
            # A failure keeps its own status until the first batch, or a ping, is there.
            if not stream.is_open or not await _break_off(stream, codec, batches, raised):
                raise
        await stream.end()
    return stream.response


async def _break_off(stream: Stream, codec: Codec, batches: AsyncGenerator[Batch, None], raised: BaseException) -> bool:
    """Tell the client of what was raised in its stream; False where that is that the client itself has left."""
    dispatch = stream.dispatch
    error = raised if isinstance(raised, Exception) else cut_off(dispatch.caller)
    if error is None:
        return False
    await _tell(batches, error)
    if not (dispatch.finished or stream.response.is_ending or isinstance(error, UpstreamReport)):
        await stream.write(codec.render_stream_error(_as_ours(dispatch, error)))
    return True


def cut_off(caller: Caller) -> AgentHubError | None:
    """Return why the hub cancelled the request of ``caller``, for which it is answered; None where it did not."""
    task = asyncio.current_task()
    if caller.cut is None or task is None:
        return None
    task.uncancel()
    return caller.cut


def _as_ours(dispatch: Dispatch, error: Exception) -> AgentHubError:
    """Return the error that the client may read; one that is not ours is logged with its traceback and told to nobody.

    The status is gone by then: a second answer in the middle of the first would be none.
    """
    if isinstance(error, AgentHubError):
        return error
    _log.error("agenthub.request_crashed", request_id=dispatch.caller.request_id, exc_info=error)
    return AgentHubError("internal error")


def _renderer(codec: Codec, dispatch: Dispatch, started: Event) -> Callable[[Batch], bytes]:
    if isinstance(started, Started) and started.raw_path == codec.path and started.streamed:
        return _raw_frames
    return codec.make_renderer(dispatch.request).render


def _raw_frames(batch: Batch) -> bytes:
    return b"".join([event.data for event in batch if type(event) is RawFrames])
