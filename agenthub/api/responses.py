"""Responses: aiohttp's own, silent about what serves, and lean ones for the hot paths.

aiohttp spends more on its table of headers than the hub on a cache hit.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.web_response import REASON_PHRASES


class Response(web.Response):
    """An answer with a body, without aiohttp's ``Server`` header: which versions serve is nobody's business."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self._headers.pop(hdrs.SERVER, None)


def make_whole(
    http_request: web.Request, headers: Mapping[str, str], body: bytes, status: int = 200
) -> web.StreamResponse:
    """Return a whole answer. ``headers`` are the hub's own or were read by an HTTP parser: no line breaks."""
    # Only the plain case needs no header for the connection.
    if http_request.version == HttpVersion11 and http_request.keep_alive:
        return WholeResponse(headers, body, status)
    return Response(headers=headers, body=body, status=status)


class WholeResponse(web.StreamResponse):
    """An answer to a plain HTTP/1.1 request: headers and body are rendered and written in one go."""

    def __init__(self, headers: Mapping[str, str], body: bytes, status: int = 200) -> None:
        # Not super's: its tables of headers and of state, of no use here, take longer than all the rest.
        self._status, self._reason = status, REASON_PHRASES.get(status, "")
        self._fields, self._content = headers, body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self._eof_sent or self._payload_writer is not None:
            return self._payload_writer
        self._req, self._keep_alive = request, self._keep_alive is not False
        self._payload_writer = request._payload_writer
        return self._payload_writer

    async def write_eof(self, data: bytes = b"") -> None:
        writer = self._payload_writer
        if self._eof_sent or writer is None:
            return
        await writer.write_eof(self._head() + self._content)
        self._eof_sent, self._req, self._payload_writer = True, None, None
        self._body_length = len(self._content)

    def _head(self) -> bytes:
        fields = "".join([f"{name}: {value}\r\n" for name, value in self._fields.items()])
        if fields.count("\n") != len(self._fields) or fields.count("\r") != len(self._fields):
            raise ValueError("a line break in a header")
        end = f"Content-Length: {len(self._content)}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        if not self._keep_alive:
            end = f"Connection: close\r\n{end}"
        return f"HTTP/1.1 {self._status} {self._reason}\r\n{fields}{end}".encode("utf-8", "surrogateescape")


class StreamedResponse(web.StreamResponse):
    """A stream whose headers leave together with its first frames, which are there when it is prepared."""

    _send_headers_immediately = False
    is_ending = False
    """True as soon as the end is handed to the connection, though a slow client may not have it yet."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if request.version < HttpVersion11:
            # It knows no chunks, so that the end of the connection is that of the stream. aiohttp says so to a client
            # that wants to keep the connection, and then keeps it.
            self.force_close()
        return await super().prepare(request)

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self._headers.pop(hdrs.SERVER, None)

    async def write_eof(self, data: bytes = b"") -> None:
        """Write the end, once: where the first call was broken off while it waited, its bytes are on their way."""
        if not self.is_ending:
            self.is_ending = True
            await super().write_eof(data)
