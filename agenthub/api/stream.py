"""One stream to one client: opened by its first batch, or by a comment where the upstream keeps silent for long."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

import attrs
from aiohttp import web

from agenthub.api.headers import make_headers
from agenthub.api.hub import SERVING
from agenthub.api.responses import StreamedResponse
from agenthub.canonical import Batch, Event, Finished
from agenthub.middleware import Dispatch

PING = b": ping\n"
"""The one comment that every SDK takes: a blank line after it, or an ``id:``, would be an event to some of them."""


@attrs.define
class Stream:
    """Writes to the client, and pings it after each ``ping_s`` seconds of silence while the block runs; 0: never.

    After the first ping the status is 200, whatever comes: a failure can only be told in a frame. Writing raises
    ConnectionResetError for a client that left.
    """

    http_request: web.Request
    dispatch: Dispatch
    content_type: str
    ping_s: float = 0.0
    _response: StreamedResponse | None = None
    _loop: asyncio.AbstractEventLoop = attrs.field(init=False)
    _wrote_at: float = 0.0
    _timer: asyncio.TimerHandle | None = None
    _pinging: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        if self.ping_s:
            # Not asyncio.get_running_loop(), which is a system call before Python 3.12.
            self._loop = self.http_request.task.get_loop()
            self._wrote_at = self._loop.time()
            self._timer = self._loop.call_later(self.ping_s, self._ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._pinging is not None:
            self._pinging.cancel()

    @property
    def is_open(self) -> bool:
        """True once the status is decided."""
        return self._response is not None

    @property
    def response(self) -> StreamedResponse:
        """What the client is answered with."""
        assert self._response is not None, "the stream is not open"
        return self._response

    async def open(self, started: Event | None) -> None:
        """Decide the headers, which leave with what is written first; does nothing where a ping has done so."""
        if self._pinging is not None:
            await self._settle()
        if self._response is None:
            await self._open(started)

    async def _open(self, started: Event | None) -> None:
        headers = make_headers(self.dispatch, started)
        headers |= {"Content-Type": self.content_type, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self._response = StreamedResponse(headers=headers)
        if self.http_request.app[SERVING].is_stopping:
            self._response.force_close()
        self.dispatch.status = 200
        await self._response.prepare(self.http_request)

    async def send(self, batch: Batch, data: bytes) -> None:
        """Write what a batch was rendered to; that of the last one ends the message in the same write."""
        if type(batch[-1]) is Finished:
            await self.end(data)
        elif data:
            # As ``write`` does: one more coroutine for each batch would be felt.
            if self._pinging is not None:
                await self._settle()
            await self.response.write(data)
            self._wrote()
        self.dispatch.sent(batch, len(data))

    async def write(self, data: bytes) -> None:
        """Write to the open stream."""
        if self._pinging is not None:
            await self._settle()
        await self.response.write(data)
        self._wrote()

    def _wrote(self) -> None:
        if self._timer is not None:
            self._wrote_at = self._loop.time()

    async def end(self, data: bytes = b"") -> None:
        """End the message, with ``data`` as its last bytes."""
        if self._timer is not None:
            # The connection may take its time for the end, and a ping behind that would be read as the next answer's.
            self._timer.cancel()
        if self._pinging is not None:
            await self._settle()
        await self.response.write_eof(data)

    async def _settle(self) -> None:
        """Let a ping that is being written get out of the way."""
        while self._pinging is not None and not self._pinging.done():
            await asyncio.wait([self._pinging])
        self._pinging = None

    def _ring(self) -> None:
        due = self._wrote_at + self.ping_s
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._ring)
            return
        if self._pinging is None or self._pinging.done():  # else the client does not even take the last one
            self._pinging = self._loop.create_task(self._ping())
        self._timer = self._loop.call_later(self.ping_s, self._ring)

    async def _ping(self) -> None:
        with suppress(ConnectionResetError):
            if self._response is None:
                await self._open(None)
            await self.response.write(PING)
