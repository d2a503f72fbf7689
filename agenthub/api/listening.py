"""aiohttp's server with what it lacks: an end to its patience with clients that send slowly, or what is no HTTP."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import structlog
from aiohttp import HttpVersion10, HttpVersion11, web, web_protocol
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong, PayloadEncodingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from agenthub.api.context import dialect_of
from agenthub.api.described import MOST_FIELDS, has_route_length
from agenthub.api.direct_routes import make_direct
from agenthub.api.errors import error_response
from agenthub.errors import RequestError, RequestTimeout
from agenthub.middleware import Caller
from agenthub.settings import Settings

_log = structlog.get_logger("agenthub")
_TARGET = re.compile(rb"[A-Z]{1,16} (\S{1,64})")
_PLAIN = re.compile(r"[A-Za-z0-9 ,.'`/-]{0,200}")
_READ_BYTES = 2**16
"""A connection is read on as long as less than twice that has come of a body that nobody has read yet."""

_ErrInfo: Any = getattr(web_protocol, "_ErrInfo", None)
_received = web.RequestHandler.data_received  # with each read of a socket, and super() is slower
_USED = {"_loop", "_messages", "_request_count", "_waiter"}


def is_known() -> bool:
    """Say whether aiohttp's server is made as the one of 3.14 is; any other is left as it is."""
    slots = {name for kind in web.RequestHandler.__mro__ for name in getattr(kind, "__slots__", ())}
    methods = (
        (web.RequestHandler, "handle_error"),
        (web.RequestHandler, "log_exception"),
        (web.AppRunner, "_make_server"),
    )
    return _ErrInfo is not None and slots >= _USED and all(hasattr(kind, name) for kind, name in methods)


def make_runner(app: web.Application, settings: Settings, *, shutdown_timeout_s: float) -> web.AppRunner:
    """Return what serves ``app`` as ``[protection]`` says; it is still to be set up."""
    most = settings.protection.max_header_bytes
    kwargs: dict[str, Any] = {"max_line_size": most, "max_field_size": most, "max_headers": MOST_FIELDS}
    kwargs |= {"access_log": None, "handler_cancellation": True, "shutdown_timeout": shutdown_timeout_s}
    if not is_known():
        _log.warning("agenthub.protection_off", reason="this version of aiohttp is not known", lost="header_timeout_s")
        return web.AppRunner(app, **kwargs)
    # A body is unpacked when it is read, as far as there is memory for it: not before anybody knows whose it is.
    runner = Runner(app, **kwargs, auto_decompress=False, read_bufsize=_READ_BYTES)
    runner.head_timeout_s = settings.protection.header_timeout_s
    return runner


class Runner(web.AppRunner):
    """aiohttp's, with connections of our kind."""

    head_timeout_s: float = 0.0

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = Server(
            make_direct(self.app, made.request_handler),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        server.head_timeout_s = self.head_timeout_s
        return server


class Server(web.Server):
    """Makes a connection for each client."""

    head_timeout_s: float = 0.0

    def __call__(self) -> Connection:
        return Connection(self, head_timeout_s=self.head_timeout_s, loop=self._loop, **self._kwargs)


class BadHttp(RequestError):
    """What came is no HTTP request, or its head is too large."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Connection(web.RequestHandler):
    """A connection of a client.

    Its first head must be whole ``head_timeout_s`` after it was opened, each later one as long after its first bytes;
    between two requests it may be idle for as long as aiohttp's keep-alive lets it. What is no HTTP is answered in the
    asking dialect where that can be told, and logged in one line.
    """

    leaves_bodies_packed = True
    """The code that reads a body unpacks it."""
    __slots__ = ("_body", "_dialect", "_has_begun", "_head_timeout_s", "_timer")

    def __init__(self, manager: web.Server, *, head_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._head_timeout_s = head_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._has_begun = False
        self._body: StreamReader = EMPTY_PAYLOAD
        self._dialect = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        count, is_inside = self._request_count, not self._body.is_eof()
        _received(self, data)
        if self._request_count != count:
            if self._timer is not None:
                self._stop_timer()
            message: Any
            message, body = self._messages[-1]
            if type(message) is _ErrInfo:
                self._is_broken(data, is_inside)
                return
            path = message.path
            is_plain = path[0] == "/" and has_route_length(path)
            if message.version is not HttpVersion11 or message.upgrade or not is_plain:
                self._messages[-1] = _tamed(message, body)
            self._body, self._has_begun = body, False
        elif data and not is_inside:
            self._has_begun = True
            if self._timer is None:
                self._expect_head()

    def _is_broken(self, data: bytes, is_inside: bool) -> None:
        if not is_inside or self._body.is_eof():
            target = _TARGET.match(data)
            self._dialect = dialect_of(target[1].decode("latin-1")) if target is not None else ""
            return
        # The parser does not tell the handler, which would wait for the rest of the body until its client goes. Its
        # answer is the last on this connection: nobody knows where another request would begin.
        self._messages.pop()
        self._body.set_exception(web.RequestPayloadError("the body breaks the rules of HTTP"))
        self._body.feed_eof()
        self.close()

    def _expect_head(self) -> None:
        if self._head_timeout_s:
            self._timer = self._loop.call_later(self._head_timeout_s, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None:
            # Another request is being answered: the head that has begun behind it gets its time afterwards.
            self._expect_head()
        elif not self._has_begun:
            self.force_close()
        elif not waiter.done():
            error = RequestTimeout("the head of the request did not come in time")
            self._messages.append((_ErrInfo(error.status, error, str(error)), EMPTY_PAYLOAD))
            waiter.set_result(None)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError):
            error: RequestError = _as_ours(exc)
        elif isinstance(exc, RequestError):
            error = exc
        else:
            super().handle_error(request, status, exc, message)  # logs it, and raises where an answer has begun
            error = BadHttp(status, "internal error" if status >= 500 or not message else message)
            return self._refusal(error, dialect_of(request.path))
        _log.info("agenthub.request_refused", status=error.status, error=str(error), peer=request.remote)
        return self._refusal(error, self._dialect)

    def _refusal(self, error: RequestError, dialect: str) -> web.StreamResponse:
        response = error_response(Caller(dialect=dialect), error)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        error = kwargs.get("exc_info")
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            _log.info("agenthub.request_refused", error=type(error).__name__)
        else:
            super().log_exception(*args, **kwargs)


def _tamed(message: RawRequestMessage, body: StreamReader) -> tuple[Any, StreamReader]:
    """Return what aiohttp is to handle in the place of a request that it would take for more than it is.

    It would answer HTTP/0.9, which has neither headers nor a Host. Of what follows an ``Upgrade`` that it does not know
    it drops as much as one read brought, so that the next request could begin anywhere. A URL in the place of a path
    stands for its path. A path of hundreds of parts, which would be slow to route, has no route.
    """
    error: RequestError
    if message.version < HttpVersion10:
        error = BadHttp(505, "HTTP/1.1 is spoken here")
    elif message.method == "CONNECT" or message.path == "*":
        error = BadHttp(405, "405 method not allowed")
    elif not has_route_length(message.path):
        error = BadHttp(404, "404 page not found")
    else:
        return message._replace(should_close=message.should_close or message.upgrade), body
    return _ErrInfo(error.status, error, str(error)), EMPTY_PAYLOAD


def _as_ours(error: HttpProcessingError) -> BadHttp:
    """Return the refusal, without the bytes that aiohttp quotes: they may hold a key."""
    if isinstance(error, LineTooLong):
        return BadHttp(431, f"a line of the request's head is longer than {error.args[1]} bytes")
    if error.message == "Too many headers received":
        return BadHttp(431, f"the request has more than {MOST_FIELDS} header fields")
    if isinstance(error, InvalidURLError):
        return BadHttp(400, "this is no HTTP request: its target is neither a path nor a URL")
    if isinstance(error, PayloadEncodingError):
        return BadHttp(400, "the body cannot be decoded")
    found = _PLAIN.match(error.message)
    return BadHttp(400, f"this is no HTTP request: {found[0].strip() if found and found[0] else type(error).__name__}")
