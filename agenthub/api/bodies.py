"""Request bodies as bytes."""

from __future__ import annotations

from aiohttp import web

from agenthub.errors import TooLarge


async def read_body(http_request: web.Request) -> bytes:
    """Return the whole body; raise TooLarge beyond ``max_body_bytes``."""
    content = http_request.content
    if not content.is_eof():
        return await http_request.read()
    # It came with the headers, as most do, so it need not be waited for in pieces.
    body = content.read_nowait()
    if 0 < http_request.client_max_size < len(body):
        raise TooLarge("http: request body too large")
    return body
