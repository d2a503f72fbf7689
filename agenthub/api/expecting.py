"""What a client may ask before it sends a body, as curl does before a large one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

from agenthub.api.admission import Admission
from agenthub.api.body_budget import TOO_LARGE
from agenthub.api.context import dialect_of, make_caller
from agenthub.api.errors import failure_response
from agenthub.api.hub import SERVING
from agenthub.errors import HubStopping, RequestError, TooLarge
from agenthub.middleware import Caller


class ExpectationFailed(RequestError):
    """The client waits for what nobody here knows."""

    status = 417


def expectation(
    admission: Admission, *, uploads: bool
) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
    """Return what answers a client of an endpoint that asks first; where it ``uploads``, a body may be of any size."""

    async def expect(http_request: web.Request) -> web.StreamResponse | None:
        """Let the client send its body, or refuse it by its head: 401, 403, 413, 417, 429 or 503."""
        caller = make_caller(http_request.headers, dialect_of(http_request.path))
        try:
            refused = await _check(http_request, caller, admission, uploads=uploads)
        except Exception as error:
            refused = failure_response(caller, error)
            error.__traceback__ = None
        if refused is None:
            if http_request.version == HttpVersion11:
                await http_request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                # What is sent before the answer is none of it.
                http_request.writer.output_size = 0
            return None
        refused.headers["X-Request-Id"] = caller.request_id
        refused.headers.update(caller.reply_headers)
        # Whether the body follows all the same only the client knows.
        refused.force_close()
        http_request.content.feed_eof()
        return refused

    return expect


async def _check(
    http_request: web.Request, caller: Caller, admission: Admission, *, uploads: bool
) -> web.Response | None:
    serving = http_request.app[SERVING]
    if serving.is_closed:
        raise HubStopping
    refused = await admission.check(serving.hub, http_request, caller)
    if refused is not None:
        return refused
    if http_request.headers["Expect"].lower() != "100-continue":
        raise ExpectationFailed("of what a client may expect only 100-continue is known here")
    if 0 < http_request.client_max_size < (http_request.content_length or 0) and not uploads:
        raise TooLarge(TOO_LARGE)
    return None
