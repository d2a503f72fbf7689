"""The hub on its port, from opening to closing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from types import TracebackType

import attrs
from aiohttp import web

from agenthub.api.hub import SERVING, Serving
from agenthub.api.listening import make_runner
from agenthub.app import make_app
from agenthub.cli.addresses import check_backends
from agenthub.cli.draining import accept_waiting, drain
from agenthub.cli.ports import BACKLOG, open_port, url_of
from agenthub.errors import ConfigError
from agenthub.lives import LIVES, Lives
from agenthub.settings import Settings

_LINGER_S = 1.0


@attrs.define
class Server:
    """The hub on its port for the length of an ``async with``, which gives the URL, without a slash at its end.

    Where the port is in use, the first free one of ``spare_ports`` is taken; ``sockets`` that listen already are taken
    instead of any. At the end no new connection is taken; running requests have ``drain_s`` to finish, and are then cut
    off with an answer that says so. Entering raises ConfigError and CannotListen.
    """

    settings: Settings
    spare_ports: Iterable[int] = ()
    sockets: Sequence[socket.socket] = ()
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> str:
        app = make_app(self.settings)
        # Before the backends are opened, so that a port in use is the first and only thing said.
        self.sockets = self.sockets or open_port(self.settings.host, self.settings.port, self.spare_ports)
        try:
            check_backends(self.settings, self.port)
        except ConfigError:
            await self._close()
            raise
        self._runner = make_runner(app, self.settings, shutdown_timeout_s=_LINGER_S)
        try:
            await self._runner.setup()
            for opened in self.sockets:
                await web.SockSite(self._runner, opened, backlog=BACKLOG).start()
        except BaseException:
            await self._close()
            raise
        return url_of(self.settings.host, self.sockets)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drain()
        await self._close()

    @property
    def serving(self) -> Serving:
        """What the application serves with; only while it does."""
        assert self._runner is not None
        return self._runner.app[SERVING]

    @property
    def port(self) -> int:
        """Where it listens; only while it does."""
        port: int = self.sockets[0].getsockname()[1]
        return port

    @property
    def lives(self) -> Lives:
        """The hubs that answer; only while they do."""
        assert self._runner is not None
        return self._runner.app[LIVES]

    async def _drain(self) -> None:
        runner = self._runner
        if runner is None or runner.server is None:
            return
        self.serving.is_stopping = True
        await accept_waiting(self.sockets)
        for site in runner.sites:
            await site.stop()
        await drain(self.lives, runner.server, self.serving.hub.settings.drain_s)

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        for opened in self.sockets:
            opened.close()

    async def write_log(self) -> None:
        """Write the lines that the hub still holds."""
        self.serving.hub.dispatcher.close()
        await asyncio.sleep(0)  # lines leave at the end of the loop's turn

    def cut(self) -> None:
        """Break off every connection, as if all clients had left, so that the end need not wait for them."""
        if self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                connection.force_close()
