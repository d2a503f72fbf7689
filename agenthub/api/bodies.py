"""Request bodies as bytes."""

from __future__ import annotations

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from agenthub.errors import InvalidRequest, TooLarge


async def read_body(http_request: web.Request) -> bytes:
    """Return the whole body; raise TooLarge beyond ``max_body_bytes``, InvalidRequest for a broken one."""
    content = http_request.content
    try:
        if not content.is_eof():
            return await http_request.read()
        # It came with the headers, as most do, so it need not be waited for in pieces.
        body = content.read_nowait()
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise InvalidRequest("the body cannot be decoded") from error
    if 0 < http_request.client_max_size < len(body):
        raise TooLarge("http: request body too large")
    return body
