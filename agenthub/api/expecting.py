"""What a client may ask before it sends a body, as curl does before a large one."""

from __future__ import annotations

from aiohttp import HttpVersion11, web

from agenthub.api.context import dialect_of, make_caller
from agenthub.api.errors import error_response
from agenthub.dialects.ollama import blobs
from agenthub.errors import RequestError, TooLarge


class ExpectationFailed(RequestError):
    """The client waits for what nobody here knows."""

    status = 417


async def expect(http_request: web.Request) -> web.StreamResponse | None:
    """Let a client that asks first send its body, or refuse: 413 for one that is too large, 417 for another wish."""
    error: RequestError
    most, length = http_request.client_max_size, http_request.content_length or 0
    if http_request.headers["Expect"].lower() != "100-continue":
        error = ExpectationFailed("of what a client may expect only 100-continue is known here")
    elif 0 < most < length and not http_request.path.startswith(blobs.PATH):
        error = TooLarge("http: request body too large")
    else:
        if http_request.version == HttpVersion11:
            await http_request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # What is sent before the answer is none of it.
            http_request.writer.output_size = 0
        return None
    caller = make_caller(http_request.headers, dialect_of(http_request.path))
    response = error_response(caller, error)
    response.headers["X-Request-Id"] = caller.request_id
    # Whether the body follows all the same only the client knows.
    response.force_close()
    http_request.content.feed_eof()
    return response
