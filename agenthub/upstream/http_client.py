"""HTTP client: requests to one server, short ones in one write and without what a session does for the general case.

aiohttp's connector makes, keeps and closes the connections, and its protocol and parser read them, so that names, TLS,
flow control and HTTP itself are aiohttp's. What ``ClientSession.request`` costs beside these is more than the rest of a
short dispatch.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias

import aiohttp
import attrs
from aiohttp.client_middlewares import ClientHandlerType
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

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
        and all(hasattr(Connection, name) for name in ("protocol", "release", "close"))
    )


IS_KNOWN = _is_known()
"""True where aiohttp's connector and protocol are used as those of 3.14 are; else all goes through its session."""


@attrs.frozen
class Template:
    """The head that requests of one method to one URL share: ``before`` their length and ``after`` it.

    ``request`` is the one that aiohttp made of them, which is never sent: the connector reads from it where to connect.
    """

    request: aiohttp.ClientRequest = attrs.field(repr=False)
    before: bytes = attrs.field(repr=False)
    after: bytes = attrs.field(repr=False)

    def render(self, body: bytes | None) -> bytes:
        """Return the whole request."""
        return self.before if body is None else b"%b%d%b%b" % (self.before, len(body), self.after, body)


class LeanResponse:
    """What an upstream answers: as much of aiohttp's response as is used here.

    When its block ends, the connection serves again if the answer was read to its end, and is closed if not.
    """

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(
        self, connection: Connection, status: int, headers: CIMultiDictProxy[str], content: aiohttp.StreamReader
    ) -> None:
        self._connection = connection
        self.status, self.headers, self.content = status, headers, content

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip().lower()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        protocol = self._connection.protocol
        transport = protocol.transport if protocol is not None else None
        if transport is not None and transport.get_write_buffer_size():
            self._connection.close()  # The answer came before the request was sent: another must not follow its half.
        else:
            self._connection.release()


Response: TypeAlias = aiohttp.ClientResponse | LeanResponse


@attrs.define(eq=False)
class HttpClient:
    """Sends requests by ``session``, each once: what fails is not repeated. Redirects are answers like any other.

    ``timeout`` is the session's own, of which connecting is all that a short request needs.

    Raises aiohttp.ClientError, TimeoutError and OSError, as the session does.
    """

    session: aiohttp.ClientSession
    timeout: aiohttp.ClientTimeout
    _templates: dict[object, Template | None] = attrs.field(factory=dict, repr=False)

    async def close(self) -> None:
        """Close all connections."""
        await self.session.close()

    async def send(
        self, method: str, url: URL, body: bytes | Upload | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the answer as soon as its head is there. ``headers`` replace those of the session."""
        if isinstance(body, Upload):
            return await self._upload(method, url, body, headers)
        if IS_KNOWN and method != "HEAD" and (body is None or len(body) <= _LARGE_BYTES) and STAGE.get() is None:
            key = (method, url, body is None) if headers is None else (method, url, body is None, *headers.items())
            template = self._templates.get(key)
            if template is None and key not in self._templates:
                template = await self._learn(key, method, url, b"1" if body is not None else None, headers)
            if template is not None:
                return await self._exchange(template, template.render(body))
        # aiohttp writes bytes in one go, and warns that a large body would stop everything else meanwhile.
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE_BYTES else body
        return await self._request(method, url, data, headers)

    async def _upload(self, method: str, url: URL, body: Upload, headers: Mapping[str, str] | None) -> Response:
        response = await self._request(method, url, body, {**(headers or {}), **body.headers})
        body.answered(response)
        return response

    async def _request(
        self, method: str, url: URL, data: Any, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        return await self.session.request(
            method, url, data=data, headers=headers, allow_redirects=False, middlewares=STAGE.get()
        )

    async def _exchange(self, template: Template, data: bytes) -> LeanResponse:
        connector = self.session.connector
        assert connector is not None, "the session is open"
        try:
            connection = await connector.connect(template.request, [], self.timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {template.request.url} in time") from error
        try:
            protocol = connection.protocol
            assert protocol is not None, "just made"
            protocol.set_response_params(read_until_eof=True, read_bufsize=READ_BYTES)
            if protocol.transport is not None:  # else it is closed already, as read() tells
                protocol.transport.write(data)
            message, content = await protocol.read()
            while 100 <= message.code <= 199 and message.code != 101:
                message, content = await protocol.read()
        except HttpProcessingError as error:
            connection.close()
            raise _no_http(template.request, error) from error
        except BaseException:
            connection.close()
            raise
        return LeanResponse(connection, message.code, message.headers, content)

    async def _learn(
        self, key: object, method: str, url: URL, body: bytes | None, headers: Mapping[str, str] | None
    ) -> Template | None:
        """Return what aiohttp would send, found out by the very code that sends; None where only a session can."""
        found: list[aiohttp.ClientRequest] = []

        async def take(request: aiohttp.ClientRequest, handler: ClientHandlerType) -> NoReturn:
            found.append(request)
            raise _Taken

        try:
            await self.session.request(
                method, url, data=body, headers=headers, allow_redirects=False, middlewares=(take,)
            )
        except _Taken:
            template = _make_template(found[0], has_body=body is not None)
        if len(self._templates) >= _MOST_TEMPLATES:
            self._templates.clear()
        self._templates[key] = template
        return template


def open_client(
    connector: aiohttp.BaseConnector, timeout: aiohttp.ClientTimeout, headers: Mapping[str, str]
) -> HttpClient:
    """Return a client whose requests all have the ``headers``."""
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        read_bufsize=READ_BYTES,
    )
    # Else aiohttp sends GET, HEAD and DELETE twice, whatever the connection and the verb.
    session._retry_connection = False
    return HttpClient(session, timeout)


class _Taken(Exception):
    """The request is made, and is not to be sent."""


def _make_template(request: aiohttp.ClientRequest, *, has_body: bool) -> Template | None:
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    is_plain = not any(map(_CONTROL.search, lines)) and request.proxy is None and "Content-Type" in request.headers
    head = "\r\n".join([f"{request.method} {request.url.raw_path_qs} HTTP/1.1", *lines, "", ""])
    places = list(_LENGTH.finditer(head))
    if not is_plain or len(places) != has_body:
        return None
    start, end = places[0].span() if places else (len(head), len(head))
    before, after = (part.encode("utf-8", "surrogateescape") for part in (head[:start], head[end:]))
    return Template(request, before, after)


def _no_http(request: aiohttp.ClientRequest, error: HttpProcessingError) -> aiohttp.ClientResponseError:
    return aiohttp.ClientResponseError(
        request.request_info, (), status=error.code, message=error.message, headers=error.headers
    )
