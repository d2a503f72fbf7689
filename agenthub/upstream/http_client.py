"""HTTP client: requests to one server, without what a session does for the general case.

aiohttp's connector makes, keeps and closes the connections, and its protocol and parser read them, so that names, TLS,
flow control and HTTP itself are aiohttp's. What ``ClientSession.request`` costs beside these is more than the rest of a
short dispatch.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias

import aiohttp
import attrs
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from yarl import URL

from agenthub.upstream.connecting import Handler, IdleConnections, make_connector
from agenthub.upstream.payload import LargePayload, StreamPayload
from agenthub.upstream.rehearsal import STAGE
from agenthub.upstream.upload import Upload

READ_BYTES = 2**16
_LARGE_BYTES = 2**18
_MOST_TEMPLATES = 256
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(r"(?<=\r\ncontent-length: )1(?=\r\n)", re.IGNORECASE)


def _is_known() -> bool:
    connect = inspect.signature(aiohttp.BaseConnector.connect).parameters
    settings = inspect.signature(ResponseHandler.set_response_params).parameters
    return (
        list(connect) == ["self", "req", "traces", "timeout"]
        and settings.keys() >= {"read_until_eof", "auto_decompress", "read_bufsize", "timer", "skip_payload"}
        and not inspect.signature(ResponseHandler.read).parameters.keys() - {"self"}
        and all(hasattr(Connection, name) for name in ("protocol", "transport", "close"))
    )


IS_KNOWN = _is_known()
"""True where aiohttp's connector and protocol are used as those of 3.14 are; else all goes through its session."""


@attrs.frozen
class Template:
    """The head that requests of one method to one URL share: ``before`` their length and ``after`` it.

    ``request`` is the one that aiohttp made of them, which is never sent: the connector reads from it where to connect.
    """

    request: aiohttp.ClientRequest = attrs.field(repr=False)
    idle: IdleConnections
    before: bytes = attrs.field(repr=False)
    after: bytes = attrs.field(repr=False)

    def render(self, body: bytes | None) -> bytes:
        """Return the whole request."""
        return self.before if body is None else b"%b%d%b%b" % (self.before, len(body), self.after, body)

    def render_head(self, length: int) -> bytes:
        """Return the head of a request with a body of so many bytes."""
        return b"%b%d%b" % (self.before, length, self.after)


class LeanResponse:
    """What an upstream answers: as much of aiohttp's response as is used here.

    When its block ends, the connection serves again if the answer was read to its end, and is closed if not.
    """

    __slots__ = ("_connection", "_idle", "content", "headers", "status")

    def __init__(
        self, connection: Connection, idle: IdleConnections, message: RawResponseMessage, content: aiohttp.StreamReader
    ) -> None:
        self._connection, self._idle = connection, idle
        self.status, self.headers, self.content = message.code, message.headers, content

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        transport = self._connection.transport
        if transport is not None and transport.get_write_buffer_size():
            self._connection.close()  # The answer came before the request was sent: another must not follow its half.
        else:
            self._idle.give_back(self._connection)


Response: TypeAlias = aiohttp.ClientResponse | LeanResponse


@attrs.define(eq=False)
class HttpClient:
    """Sends requests by ``session``, each once: what fails is not repeated. Redirects are answers like any other.

    ``timeout`` is the session's own, of which connecting is all that a short request needs. Its connections serve again
    within ``keepalive_s`` seconds, or not at all.
    """

    session: aiohttp.ClientSession
    timeout: aiohttp.ClientTimeout
    keepalive_s: float
    _templates: dict[object, Template | None] = attrs.field(factory=dict, repr=False)
    _idle: dict[object, IdleConnections] = attrs.field(factory=dict, repr=False)

    async def close(self) -> None:
        """Close all connections."""
        self.drop_idle()
        await self.session.close()

    def drop_idle(self) -> None:
        """Close the connections that wait for a request: the next one has a new connection."""
        for idle in self._idle.values():
            idle.close()

    def send(
        self, method: str, url: URL, body: bytes | Upload | None = None, headers: Mapping[str, str] | None = None
    ) -> Awaitable[Response]:
        """Return the answer as soon as its head is there. ``headers`` replace those of the session."""
        if isinstance(body, Upload):
            return self._upload(method, url, body, headers)
        if not IS_KNOWN or method == "HEAD" or STAGE.get() is not None:
            return self._request(method, url, _payload(body), headers)
        key = (method, url, body is None) if headers is None else (method, url, body is None, *headers.items())
        template = self._templates.get(key)
        return self._send_first(key, method, url, body, headers) if template is None else self._exchange(template, body)

    async def _upload(self, method: str, url: URL, body: Upload, headers: Mapping[str, str] | None) -> Response:
        response = await self._request(method, url, StreamPayload(body), {**(headers or {}), **body.headers})
        body.answered(response)
        return response

    async def _request(
        self, method: str, url: URL, data: Any, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        return await self.session.request(
            method, url, data=data, headers=headers, allow_redirects=False, middlewares=STAGE.get()
        )

    async def _send_first(
        self, key: object, method: str, url: URL, body: bytes | None, headers: Mapping[str, str] | None
    ) -> Response:
        if key not in self._templates:
            template = await self._learn(method, url, b"1" if body is not None else None, headers)
            if len(self._templates) >= _MOST_TEMPLATES:
                self._templates.clear()
            self._templates[key] = template
        template = self._templates[key]
        if template is None:
            return await self._request(method, url, _payload(body), headers)
        return await self._exchange(template, body)

    async def _exchange(self, template: Template, body: bytes | None) -> LeanResponse:
        connection = template.idle.take() or await self._connect(template.request)
        try:
            protocol = connection.protocol
            assert protocol is not None, "it is in use"
            protocol.set_response_params(read_until_eof=True, read_bufsize=READ_BYTES)
            if protocol.transport is not None:  # else it is closed already, as read() tells
                if body is not None and len(body) > _LARGE_BYTES:
                    _write_large(protocol, template, body)
                else:
                    protocol.transport.write(template.render(body))
            message, content = await protocol.read()
            while 100 <= message.code <= 199 and message.code != 101:
                message, content = await protocol.read()
        except HttpProcessingError as error:
            connection.close()
            raise _no_http(template.request, error) from error
        except BaseException:
            connection.close()
            raise
        return LeanResponse(connection, template.idle, message, content)

    async def _connect(self, request: aiohttp.ClientRequest) -> Connection:
        connector = self.session.connector
        assert connector is not None, "the session is open"
        try:
            return await connector.connect(request, [], self.timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {request.url} in time") from error

    async def _learn(
        self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str] | None
    ) -> Template | None:
        """Return what aiohttp would send, found out by the very code that sends; None where only a session can."""
        found: list[aiohttp.ClientRequest] = []

        async def take(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> NoReturn:
            found.append(request)
            raise _Taken

        with suppress(_Taken):
            await self.session.request(
                method, url, data=body, headers=headers, allow_redirects=False, middlewares=(take,)
            )
        request = found[0]
        idle = self._idle.get(request.connection_key)
        if idle is None:
            idle = self._idle[request.connection_key] = IdleConnections(self.keepalive_s, request.loop)
        return _make_template(request, idle, has_body=body is not None)


def open_client(
    headers: Mapping[str, str], timeout: aiohttp.ClientTimeout, keepalive_s: float, **connections: Any
) -> HttpClient:
    """Return a client whose requests all have the ``headers``; ``connections`` are settings of aiohttp's connector."""
    reuse: dict[str, Any] = {"keepalive_timeout": keepalive_s} if keepalive_s else {"force_close": True}
    session = aiohttp.ClientSession(
        connector=make_connector(limit=0, **reuse, **connections),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        read_bufsize=READ_BYTES,
    )
    # Else aiohttp sends GET, HEAD and DELETE twice, whatever the connection and the verb.
    session._retry_connection = False
    return HttpClient(session, timeout, keepalive_s)


class _Taken(Exception):
    """The request is made, and is not to be sent."""


def _make_template(request: aiohttp.ClientRequest, idle: IdleConnections, *, has_body: bool) -> Template | None:
    headers = request.headers
    lines = [f"{name}: {value}" for name, value in headers.items()]
    is_plain = not any(map(_CONTROL.search, lines)) and request.proxy is None
    head = "\r\n".join([f"{request.method} {request.url.raw_path_qs} HTTP/1.1", *lines, "", ""])
    places = list(_LENGTH.finditer(head))
    if not is_plain or len(places) != has_body or "Content-Type" not in headers or "Expect" in headers:
        return None
    start, end = places[0].span() if places else (len(head), len(head))
    try:
        before, after = (part.encode("utf-8", "surrogateescape") for part in (head[:start], head[end:]))
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return None
    return Template(request, idle, before, after)


def _write_large(protocol: ResponseHandler, template: Template, body: bytes) -> None:
    """Write a body that goes in several pieces, as the upstream takes them, and is not copied for its head."""
    assert protocol.transport is not None, "it is open"
    if isinstance(protocol, Handler):
        protocol.hold_socket()
    protocol.transport.write(template.render_head(len(body)))
    protocol.transport.write(body)


def _payload(body: bytes | None) -> bytes | LargePayload | None:
    # aiohttp writes bytes in one go, and warns that a large body would stop everything else meanwhile.
    return LargePayload(io.BytesIO(body)) if body is not None and len(body) > _LARGE_BYTES else body


def _no_http(request: aiohttp.ClientRequest, error: HttpProcessingError) -> aiohttp.ClientResponseError:
    return aiohttp.ClientResponseError(
        request.request_info, (), status=error.code, message=error.message, headers=error.headers
    )
