"""Putting an answer on the wire at its pace, and breaking it off where a fault says so."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from itertools import islice

from aiohttp import web

from .answers import Stream, Whole
from .faults import Ending, Fault
from .state import Standin

# Waits are cut into slices, so that a client that leaves is seen even without aiohttp's handler_cancellation.
SLICE_S = 0.05
YIELD_EVERY = 16


async def pause(standin: Standin, http_request: web.Request, seconds: float) -> None:
    """Wait; ConnectionResetError as soon as the client is gone or the server stops."""
    if seconds <= 0:
        return
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        await asyncio.sleep(min(left, SLICE_S))
        if standin.stopping or http_request.transport is None or http_request.transport.is_closing():
            raise ConnectionResetError("the client is gone or the stand-in stops")


async def play_whole(
    standin: Standin, http_request: web.Request, whole: Whole, fault: Fault | None
) -> web.StreamResponse:
    """Send a whole answer, all tokens' paces later."""
    await pause(standin, http_request, standin.pace_s * whole.tokens)
    body = whole.body
    match fault.ending if fault else None:
        case Ending.TRUNCATE:
            body = body[: len(body) // 2]
        case Ending.GARBAGE if fault:
            body = fault.body or b""
        case Ending.RESET | Ending.CLOSE | Ending.STALL if fault:
            return await _half(standin, http_request, whole, fault)
    # A body of nothing has no type.
    kind = [("Content-Type", whole.content_type)] if whole.content_type else []
    return web.Response(body=body, status=whole.status, headers=[*kind, *whole.headers])


async def play_stream(
    standin: Standin, http_request: web.Request, stream: Stream, fault: Fault | None
) -> web.StreamResponse:
    """Send the frames, ``burst`` of them a write, ``pace_s`` a frame between the writes."""
    response = web.StreamResponse(headers={"Content-Type": stream.content_type})
    standin.open_streams += 1
    try:
        await response.prepare(http_request)
        frames = stream.frames()
        if fault and fault.ending:
            frames = islice(frames, fault.after) if fault.after is not None else iter(stream.deltas)
        await _write(standin, http_request, response, frames)
        if fault:
            await _break(standin, http_request, response, stream, fault)
    finally:
        standin.open_streams -= 1
    return response


async def stay_silent(standin: Standin, http_request: web.Request, limit_s: float) -> None:
    """Send nothing for ``limit_s`` seconds, then close the connection."""
    await pause(standin, http_request, limit_s)
    cut(http_request, reset=False)


def cut(http_request: web.Request, *, reset: bool) -> None:
    """End the TCP connection in the middle of the HTTP message, with RST or with FIN."""
    transport = http_request.transport
    if transport is None:
        return
    if not reset:
        transport.close()
        return
    # Without linger abort() would send a FIN, which many clients report differently.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _write(
    standin: Standin, http_request: web.Request, response: web.StreamResponse, frames: Iterator[bytes]
) -> None:
    writes = 0
    burst = max(1, standin.burst)
    while data := b"".join(islice(frames, burst)):
        if writes and standin.pace_s > 0:
            await pause(standin, http_request, standin.pace_s * burst)
        elif writes % YIELD_EVERY == YIELD_EVERY - 1:
            # A write does not suspend while the client keeps up, and other connections must get their turn.
            await asyncio.sleep(0)
            if standin.stopping:
                raise ConnectionResetError("the stand-in stops")
        await response.write(data)
        writes += 1


async def _break(
    standin: Standin, http_request: web.Request, response: web.StreamResponse, stream: Stream, fault: Fault
) -> None:
    match fault.ending:
        case Ending.ERROR:
            await response.write(stream.failure(fault.message))
        case Ending.GARBAGE:
            await response.write(fault.body or b"")
        case Ending.STALL:
            await stay_silent(standin, http_request, fault.limit_s)
        case Ending.RESET | Ending.CLOSE:
            cut(http_request, reset=fault.ending is Ending.RESET)


async def _half(standin: Standin, http_request: web.Request, whole: Whole, fault: Fault) -> web.StreamResponse:
    """Send half of the body that Content-Length promises, then do what the fault says."""
    response = web.StreamResponse(status=whole.status, headers={"Content-Type": whole.content_type})
    response.content_length = len(whole.body)
    await response.prepare(http_request)
    await response.write(whole.body[: len(whole.body) // 2])
    if fault.ending is Ending.STALL:
        await stay_silent(standin, http_request, fault.limit_s)
    else:
        cut(http_request, reset=fault.ending is Ending.RESET)
    return response
