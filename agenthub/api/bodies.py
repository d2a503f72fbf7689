"""Request bodies as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.compression_utils import HAS_BROTLI, HAS_ZSTD
from aiohttp.http_exceptions import ContentEncodingError
from multidict import CIMultiDictProxy

from agenthub.api.described import Head
from agenthub.api.hub import hub_of
from agenthub.errors import InvalidRequest, RequestError, RequestTimeout, TooLarge


class BrokenBody(InvalidRequest):
    """The body cannot be decoded; nothing after it on its connection can be read."""


class UnknownEncoding(BrokenBody):
    """The body is compressed in a way that is not known here."""

    status = 415


_TOO_LARGE = "http: request body too large"
_DECODED = {"identity", "gzip", "deflate", *(["br"] if HAS_BROTLI else []), *(["zstd"] if HAS_ZSTD else [])}
"""What aiohttp decodes before anybody reads."""


def _give_up(http_request: web.Request, error: RequestError | None = None) -> RequestError:
    # Else aiohttp would read on after the answer, and crash or wait for what never comes.
    http_request.content.feed_eof()
    return error or BrokenBody("the body cannot be decoded")


def check_body(headers: CIMultiDictProxy[str], size: int, most: int) -> None:
    """Raise for a body of that size what ``read_body`` would; ``most`` is ``max_body_bytes``."""
    _check_known(headers)
    if 0 < most < size:
        raise TooLarge(_TOO_LARGE)


def _check_known(headers: CIMultiDictProxy[str]) -> None:
    if "Content-Encoding" not in headers:
        return
    encoding = headers["Content-Encoding"].strip().lower()
    if encoding and encoding not in _DECODED:
        known = ", ".join(sorted(_DECODED - {"identity"}))
        raise UnknownEncoding(f"Content-Encoding must be one of {known}")


def _check_encoding(http_request: web.Request) -> None:
    try:
        _check_known(http_request.headers)
    except UnknownEncoding as error:
        raise _give_up(http_request, error) from None


async def read_body(http_request: web.Request) -> bytes:
    """Return the whole body; raise TooLarge beyond ``max_body_bytes``, RequestTimeout, BrokenBody where it is unfit."""
    content = http_request.content
    _check_encoding(http_request)
    if not content.is_eof():
        return await _read_on(http_request)
    try:
        # It came with the headers, as most do, so it need not be waited for in pieces.
        body = content.read_nowait()
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise _give_up(http_request) from error
    if 0 < http_request.client_max_size < len(body):
        raise _too_large(http_request)
    return body


async def _read_on(http_request: web.Request) -> bytes:
    most, body = http_request.client_max_size, bytearray()
    if 0 < most < (body_length(http_request) or 0):
        raise _too_large(http_request)
    async for data in stream_body(http_request):
        body += data
        if 0 < most < len(body):
            raise _too_large(http_request)
    return bytes(body)


def _too_large(http_request: web.Request) -> RequestError:
    error = TooLarge(_TOO_LARGE)
    # What follows of a plain body is read and dropped for a while, so that the client comes to read its answer. What is
    # compressed would be unpacked for that.
    return error if "Content-Encoding" not in http_request.headers else _give_up(http_request, error)


async def stream_body(http_request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes in, however large it is; raise BrokenBody, or RequestTimeout for a silent client."""
    _check_encoding(http_request)
    content, silence_s = http_request.content, hub_of(http_request).settings.protection.body_timeout_s
    try:
        while True:
            async with asyncio.timeout(silence_s or None):
                data = await content.readany()
            if not data:
                return
            yield data
    except TimeoutError as error:
        late = RequestTimeout(f"the request's body did not go on for {silence_s:g} s")
        raise _give_up(http_request, late) from error
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise _give_up(http_request) from error


def body_length(head: Head) -> int | None:
    """Return the size of the body in bytes as the client told it; None where it did not, or where it is decoded."""
    return None if "Content-Encoding" in head.headers else head.content_length
