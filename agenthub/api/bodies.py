"""Request bodies as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDictProxy

from agenthub.api import encoding as encodings
from agenthub.api.body_budget import FREE_BYTES, TOO_LARGE, Share
from agenthub.api.described import Head
from agenthub.api.encoding import COSTLY, CannotUnpack, Unpacker
from agenthub.api.hub import SHARE, hub_of
from agenthub.errors import InvalidRequest, RequestError, RequestTimeout, TooLarge
from agenthub.stream_reader import take_whole


class BrokenBody(InvalidRequest):
    """The body cannot be decoded; nothing after it on its connection can be read."""


class UnknownEncoding(BrokenBody):
    """The body is compressed in a way that is not known here."""

    status = 415


_BROKEN = (web.RequestPayloadError, ContentEncodingError, CannotUnpack)


def _give_up(http_request: web.Request, error: RequestError | None = None) -> RequestError:
    # Else aiohttp would read on after the answer, and crash or wait for what never comes.
    http_request.content.feed_eof()
    return error or BrokenBody("the body cannot be decoded")


def check_body(headers: CIMultiDictProxy[str], size: int, most: int) -> None:
    """Raise for a body of that size what ``read_body`` would; ``most`` is ``max_body_bytes``."""
    _encoding_in(headers)
    if 0 < most < size:
        raise TooLarge(TOO_LARGE)


def _encoding_in(headers: CIMultiDictProxy[str]) -> str:
    """Return the encoding of a body, empty for a plain one; raise UnknownEncoding."""
    if "Content-Encoding" not in headers:
        return ""
    encoding = ", ".join(headers.getall("Content-Encoding")).strip().lower()
    if encoding in ("", "identity"):
        return ""
    if encoding not in encodings.KNOWN:
        raise UnknownEncoding(f"Content-Encoding must be one of {', '.join(encodings.KNOWN)}")
    return encoding


def _encoding_of(http_request: web.Request) -> str:
    """Return the encoding that is still to be undone, empty where there is none; raise UnknownEncoding."""
    try:
        encoding = _encoding_in(http_request.headers)
    except UnknownEncoding as error:
        raise _give_up(http_request, error) from None
    # On a connection of another server than the hub's own it is aiohttp that unpacks, before anybody reads.
    return encoding if getattr(http_request.protocol, "leaves_bodies_packed", False) else ""


async def read_body(http_request: web.Request) -> bytes:
    """Return the whole body, unpacked.

    Raises TooLarge beyond ``max_body_bytes``, RequestTimeout and BrokenBody where it is unfit, HubBusy where all bodies
    together take what memory they may. What this one takes is given back when ``give_back`` says so, or at the end of
    the task.
    """
    content = http_request.content
    encoding = _encoding_of(http_request)
    if encoding or not content.is_eof():
        return await _read_on(http_request, encoding)
    try:
        # It came with the headers, as most do, so it need not be waited for in pieces.
        body = take_whole(content)
    except _BROKEN as error:
        raise _give_up(http_request) from error
    if 0 < http_request.client_max_size < len(body):
        raise _too_large(http_request)
    if len(body) > FREE_BYTES:
        await _share_of(http_request).grow(len(body))
    return body


def give_back(http_request: web.Request) -> None:
    """Let others have the memory that the body of the request was given: the request has been handed on."""
    if (share := http_request.get(SHARE)) is not None:
        share.give_back()


def _share_of(http_request: web.Request) -> Share:
    task = asyncio.current_task()
    assert task is not None
    share = http_request[SHARE] = Share(hub_of(http_request).body_budget, task.get_loop().time)
    # Whatever becomes of the request.
    task.add_done_callback(share.give_back)
    return share


async def _read_on(http_request: web.Request, encoding: str) -> bytes:
    most, length = http_request.client_max_size, http_request.content_length or 0
    if 0 < most < length:
        raise _too_large(http_request)
    share, body = _share_of(http_request), bytearray()
    if length > FREE_BYTES:
        await share.grow(length)
    share.begin()
    while data := await _read_piece(http_request, share):
        body += data
        if 0 < most < len(body):
            raise _too_large(http_request)
        if len(body) > FREE_BYTES:
            await share.grow(len(body))
        share.came(len(body))
    share.end_reading()
    return bytes(body) if not encoding else await _unpack(http_request, encoding, bytes(body), share)


async def _unpack(http_request: web.Request, encoding: str, packed: bytes, share: Share) -> bytes:
    """Return the body: a small one at once, a large one when it is its turn, beside the loop."""
    most = http_request.client_max_size
    try:
        body = _unpack_small(encoding, packed) if encoding not in COSTLY else None
        if body is None:
            # From the start again: what a decompressor takes while it waits may be far more than the body.
            async with share.budget.turn():
                body = await _unpack_large(encoding, packed, most, share)
    except CannotUnpack as error:
        raise _give_up(http_request) from error
    if 0 < most < len(body):
        raise TooLarge(TOO_LARGE)
    return body


def _unpack_small(encoding: str, packed: bytes) -> bytes | None:
    body, unpacker = bytearray(), Unpacker(encoding)
    for piece in unpacker.feed(packed):
        body += piece
        if len(body) > FREE_BYTES:
            return None
    unpacker.close()
    return bytes(body)


async def _unpack_large(encoding: str, packed: bytes, most: int, share: Share) -> bytes:
    body, unpacker = bytearray(), Unpacker(encoding)
    pieces = unpacker.feed(packed)
    while piece := await asyncio.to_thread(next, pieces, b""):
        body += piece
        if 0 < most < len(body):
            raise TooLarge(TOO_LARGE)
        await share.grow(len(packed) + len(body))
    unpacker.close()
    return bytes(body)


def _too_large(http_request: web.Request) -> RequestError:
    error = TooLarge(TOO_LARGE)
    # What follows is read and dropped for a while, so that the client comes to read its answer; unless it would be
    # unpacked for that.
    is_unpacked = "Content-Encoding" in http_request.headers and not _encoding_of(http_request)
    return _give_up(http_request, error) if is_unpacked else error


async def _read_piece(http_request: web.Request, share: Share | None = None) -> bytes:
    """Return what has come of the body, as soon as there is anything; empty at its end."""
    silence_s = hub_of(http_request).settings.protection.body_timeout_s
    try:
        async with asyncio.timeout(silence_s or None) as limit:
            if share is None:
                return await http_request.content.readany()
            with share.reading_within(limit):
                return await http_request.content.readany()
    except TimeoutError as error:
        if share is not None and share.is_broken_off:
            raise RequestTimeout("the request's body came too slowly while others waited for memory") from error
        late = RequestTimeout(f"the request's body did not go on for {silence_s:g} s")
        raise _give_up(http_request, late) from error
    except _BROKEN as error:
        raise _give_up(http_request) from error


async def stream_body(http_request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes in, however large it is; raise BrokenBody, or RequestTimeout for a silent client."""
    encoding = _encoding_of(http_request)
    unpacker = Unpacker(encoding) if encoding else None
    while data := await _read_piece(http_request):
        if unpacker is None:
            yield data
            continue
        try:
            for piece in unpacker.feed(data):
                yield piece
        except CannotUnpack as error:
            raise _give_up(http_request) from error
    if unpacker is not None:
        try:
            unpacker.close()
        except CannotUnpack as error:
            raise _give_up(http_request) from error


def body_length(head: Head) -> int | None:
    """Return the size of the body in bytes as the client told it; None where it did not, or where it is decoded."""
    return None if "Content-Encoding" in head.headers else head.content_length
