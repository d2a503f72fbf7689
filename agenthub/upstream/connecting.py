"""Connections to an upstream: their every end is noticed, and one that had ended while it was idle is told apart."""

from __future__ import annotations

import asyncio
import select
from functools import partial
from typing import Any

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler

_receive = ResponseHandler.data_received


class ReusedConnectionClosed(aiohttp.ServerDisconnectedError):
    """A connection that had served before was closed or reset, and nothing of an answer had come.

    The upstream may have closed it for being idle, before it saw the request, or may have read it and died of it.
    """


@attrs.define
class _Pool:
    """The connections of one connector: those made before the current ``generation`` are not taken again."""

    generation: int = 0


class _Handler(ResponseHandler):
    """Tells the reader of a body that the connection is gone, whatever it was that ended it.

    aiohttp 3.14.5 closes a connection on which no HTTP chunk comes where one must, and tells nobody: who reads the body
    would wait for as long as its patience lasts.

    It also knows whether it was reused, and whether anything of the answer has come: see ``ReusedConnectionClosed``.
    """

    _is_idle = False
    _is_reused = False
    _has_data = False
    _poll: select.poll | None = None

    def __init__(self, pool: _Pool, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._pool, self._generation = pool, pool.generation

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        made = transport.get_extra_info("socket")
        if made is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(made.fileno(), select.POLLIN)

    def is_connected(self) -> bool:
        """Say whether it may serve again; aiohttp asks this of an idle connection only, before it takes it.

        One that has something to read has been closed by the upstream, though the event loop has not come to it yet.
        """
        if not super().is_connected() or self._generation < self._pool.generation:
            return False
        if self._poll is not None and self._poll.poll(0):
            return False
        self._is_reused, self._is_idle, self._has_data = True, False, False
        return True

    def rest(self) -> None:
        """Wait in the pool for the next request."""
        self._is_idle = True

    def data_received(self, data: bytes) -> None:
        if self._is_idle:
            self.close()  # Nobody asked for it; the answer to the next request must not begin with it.
            return
        self._has_data = True
        _receive(self, data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        is_closed = isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
        if is_closed and self._is_reused and not self._has_data:
            # The others may be as stale: what is sent again goes on a new one.
            self._pool.generation += 1
            exc = ReusedConnectionClosed()
        super().set_exception(exc, *cause)

    def connection_lost(self, exc: BaseException | None) -> None:
        payload: aiohttp.StreamReader | None = getattr(self, "_payload", None)
        super().connection_lost(exc)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError("the body is not framed as HTTP says"))


class _Connector(aiohttp.TCPConnector):
    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        if isinstance(protocol, _Handler):
            protocol.rest()


def make_connector(**settings: Any) -> aiohttp.TCPConnector:
    """Return aiohttp's own, with ``settings``, whose connections are of this kind."""
    connector = _Connector(**settings)
    connector._factory = partial(_Handler, _Pool(), loop=asyncio.get_running_loop())  # type: ignore[assignment]
    return connector
