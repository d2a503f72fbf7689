"""Connections to an upstream: their every end is noticed, and one that had ended while it was idle is told apart."""

from __future__ import annotations

import asyncio
import select
import socket
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

_receive = ResponseHandler.data_received


class ReusedConnectionClosed(aiohttp.ServerDisconnectedError):
    """A connection that had served before was closed or reset, and nothing of an answer had come.

    The upstream may have closed it for being idle, before it saw the request, or may have read it and died of it.
    """


@attrs.define
class _Generation:
    """The newest connections of one connector: those of an older generation are not taken again."""

    number: int = 0


class Handler(ResponseHandler):
    """Tells the reader of a body that the connection is gone, whatever it was that ended it.

    aiohttp 3.14.5 closes a connection on which no HTTP chunk comes where one must, and tells nobody: who reads the body
    would wait for as long as its patience lasts.

    It also knows whether it was reused, and whether anything of the answer has come: see ``ReusedConnectionClosed``.
    """

    _is_idle = False
    _is_reused = False
    _has_data = False
    _poll: select.poll | None = None
    _held: socket.socket | None = None

    def __init__(self, newest: _Generation, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._newest, self._generation = newest, newest.number

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        made = transport.get_extra_info("socket")
        if made is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(made.fileno(), select.POLLIN)

    def is_connected(self) -> bool:
        """Say whether it may serve; changes nothing, since aiohttp asks it of those that it only keeps, too.

        One that has something to read has been closed by the upstream, though the event loop has not come to it yet.
        """
        if (
            not super().is_connected()
            or self._generation < self._newest.number
            or (self._is_idle and self.should_close)
        ):
            return False
        return self._poll is None or not self._poll.poll(0)

    def taken(self) -> None:
        """Serve the next request, after the first one."""
        if self._is_idle:
            self._is_reused, self._is_idle, self._has_data = True, False, False

    def rest(self) -> None:
        """Wait in the pool for the next request."""
        self._is_idle = True
        self._release_socket()

    def hold_socket(self) -> None:
        """Keep hold of the socket while a long body is sent.

        An upstream may answer without reading all of it and close the connection, which resets it. Where the next write
        is told so before the answer was read, the event loop drops the connection and what has come on it.
        """
        transport = self.transport
        if transport is None or self._held is not None or transport.get_extra_info("sslcontext") is not None:
            return
        if (made := transport.get_extra_info("socket")) is not None:
            self._held = socket.fromfd(made.fileno(), made.family, made.type)
            self._held.setblocking(False)

    def _release_socket(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _read_held(self) -> None:
        """Take what has come before the connection was reset."""
        held, self._held = self._held, None
        if held is None:
            return
        with held, suppress(OSError):
            while data := held.recv(2**16):
                self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._is_idle:
            # Nobody asked for it; the answer to the next request must not begin with it. aiohttp's reader passes empty
            # data to have its parser go on.
            if data:
                self.close()
            return
        self._has_data = True
        _receive(self, data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        self._read_held()
        is_closed = isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
        if is_closed and self._is_reused and not self._has_data:
            # The others may be as stale: what is sent again goes on a new one.
            self._newest.number += 1
            exc = ReusedConnectionClosed()
        super().set_exception(exc, *cause)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._read_held()
        payload: aiohttp.StreamReader | None = getattr(self, "_payload", None)
        super().connection_lost(exc)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("the body is not framed as HTTP says"))


@attrs.define(eq=False)
class IdleConnections:
    """Connections to one server that wait for a request, for ``keepalive_s`` seconds each; 0: none does."""

    keepalive_s: float
    loop: asyncio.AbstractEventLoop
    _idle: deque[tuple[float, Connection]] = attrs.field(factory=deque, repr=False)
    _sweep: asyncio.TimerHandle | None = None

    def take(self) -> Connection | None:
        """Return the one that served last, if it may serve again."""
        oldest = self.loop.time() - self.keepalive_s if self._idle else 0.0
        while self._idle:
            since, connection = self._idle.pop()
            protocol = connection.protocol
            if since >= oldest and isinstance(protocol, Handler) and protocol.is_connected():
                protocol.taken()
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep one whose answer was read to its end; close any other."""
        protocol = connection.protocol
        if protocol is None or protocol.should_close or not self.keepalive_s:
            connection.close()
            return
        if isinstance(protocol, Handler):
            protocol.rest()
        self._idle.append((self.loop.time(), connection))
        if self._sweep is None:
            self._sweep = self.loop.call_later(self.keepalive_s, self._close_old)

    def close(self) -> None:
        """Close all that wait."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._idle:
            self._idle.pop()[1].close()

    def _close_old(self) -> None:
        self._sweep, oldest = None, self.loop.time() - self.keepalive_s
        while self._idle and self._idle[0][0] <= oldest:
            self._idle.popleft()[1].close()
        if self._idle:
            left_s = self._idle[0][0] - oldest
            self._sweep = self.loop.call_later(left_s, self._close_old)


class _Connector(aiohttp.TCPConnector):
    async def connect(self, *arguments: Any, **named: Any) -> Connection:
        connection = await super().connect(*arguments, **named)
        if isinstance(connection.protocol, Handler):
            connection.protocol.taken()
        return connection

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        if isinstance(protocol, Handler):
            protocol.rest()


def make_connector(**settings: Any) -> aiohttp.TCPConnector:
    """Return aiohttp's own, with ``settings``, whose connections are of this kind."""
    connector = _Connector(**settings)
    connector._factory = partial(Handler, _Generation(), loop=asyncio.get_running_loop())  # type: ignore[assignment]
    return connector
