"""Request bodies as bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.compression_utils import HAS_BROTLI, HAS_ZSTD
from aiohttp.http_exceptions import ContentEncodingError

from agenthub.errors import InvalidRequest, TooLarge


class BrokenBody(InvalidRequest):
    """The body cannot be decoded; nothing after it on its connection can be read."""


class UnknownEncoding(BrokenBody):
    """The body is compressed in a way that is not known here."""

    status = 415


_DECODED = {"identity", "gzip", "deflate", *(["br"] if HAS_BROTLI else []), *(["zstd"] if HAS_ZSTD else [])}
"""What aiohttp decodes before anybody reads."""


def _give_up(http_request: web.Request, error: BrokenBody | None = None) -> BrokenBody:
    # Else aiohttp would read on after the answer, and crash.
    http_request.content.feed_eof()
    return error or BrokenBody("the body cannot be decoded")


def _check_encoding(http_request: web.Request) -> None:
    if "Content-Encoding" not in http_request.headers:
        return
    encoding = http_request.headers["Content-Encoding"].strip().lower()
    if encoding and encoding not in _DECODED:
        known = ", ".join(sorted(_DECODED - {"identity"}))
        raise _give_up(http_request, UnknownEncoding(f"Content-Encoding must be one of {known}"))


async def read_body(http_request: web.Request) -> bytes:
    """Return the whole body; raise TooLarge beyond ``max_body_bytes``, BrokenBody for one that cannot be read."""
    content = http_request.content
    _check_encoding(http_request)
    try:
        if not content.is_eof():
            return await http_request.read()
        # It came with the headers, as most do, so it need not be waited for in pieces.
        body = content.read_nowait()
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise _give_up(http_request) from error
    if 0 < http_request.client_max_size < len(body):
        raise TooLarge("http: request body too large")
    return body


async def stream_body(http_request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes in, however large it is; raise InvalidRequest for a broken one."""
    _check_encoding(http_request)
    try:
        async for data in http_request.content.iter_any():
            yield data
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise _give_up(http_request) from error


def body_length(http_request: web.Request) -> int | None:
    """Return the size of the body in bytes as the client told it; None where it did not, or where it is decoded."""
    return None if "Content-Encoding" in http_request.headers else http_request.content_length
