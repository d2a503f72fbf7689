"""Runs the application: opens the port, waits for a signal, lets running requests finish."""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import attrs
import structlog
from aiohttp import web

from agenthub.api.hub import SERVING
from agenthub.api.listening import make_runner
from agenthub.app import make_app
from agenthub.cli.ports import BACKLOG, open_port
from agenthub.settings import Settings

Result = TypeVar("Result")
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_GC_THRESHOLD = 50_000
_log = structlog.get_logger("agenthub")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run ``main`` to its end: on uvloop where that is installed, else on asyncio's own loop."""
    with asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
        return runner.run(main)


async def serve(settings: Settings, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests finish for up to ``drain_s``, or to a second signal.

    ``ready`` is called with the URL once requests are taken. Raises ConfigError and CannotListen.
    """
    server, stop = Server(settings), asyncio.Event()
    with on_signals(stop.set, server.cut):
        async with server as url:
            _log.info("agenthub.listening", url=url, loop=type(asyncio.get_running_loop()).__module__)
            if ready is not None:
                ready(url)
            _spare_collector()
            await stop.wait()
            _log.info("agenthub.stopping", drain_s=settings.drain_s)
    _log.info("agenthub.stopped")


def _spare_collector() -> None:
    """Let the garbage collector look neither at what lives as long as the process nor after each few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)


@attrs.define
class Server:
    """The hub on its port for the length of an ``async with``, which gives the URL, without a slash at its end.

    Where the port is in use, the first free one of ``spare_ports`` is taken. At the end no request is taken any more,
    and running ones have ``drain_s`` to finish. Entering raises ConfigError and CannotListen.
    """

    settings: Settings
    spare_ports: Iterable[int] = ()
    _runner: web.AppRunner | None = None
    _sockets: Sequence[socket.socket] = ()

    async def __aenter__(self) -> str:
        app, host = make_app(self.settings), self.settings.host
        # Before the backends are opened, so that a port in use is the first and only thing said.
        self._sockets = open_port(host, self.settings.port, self.spare_ports)
        # aiohttp waits twice, for the handler and then for its connection, and takes 0 for "without end".
        wait_s = max(self.settings.drain_s / 2, 0.001)
        self._runner = make_runner(app, self.settings, shutdown_timeout_s=wait_s)
        try:
            await self._runner.setup()
            for opened in self._sockets:
                await web.SockSite(self._runner, opened, backlog=BACKLOG).start()
        except BaseException:
            await self._close()
            raise
        return f"http://{f'[{host}]' if ':' in host else host}:{self._sockets[0].getsockname()[1]}"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        for opened in self._sockets:
            opened.close()

    async def write_log(self) -> None:
        """Write the lines that the hub still holds."""
        if self._runner is not None:
            self._runner.app[SERVING].hub.dispatcher.close()
        await asyncio.sleep(0)  # lines leave at the end of the loop's turn

    def cut(self) -> None:
        """Break off every connection, as if all clients had left, so that the end need not wait for them."""
        if self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                connection.force_close()


@contextmanager
def on_signals(*actions: Callable[[], None]) -> Iterator[None]:
    """While the block runs, answer SIGTERM or SIGINT with the next of ``actions``; after the last, with the default."""
    loop, remaining = asyncio.get_running_loop(), list(actions)

    def act() -> None:
        remaining.pop(0)()
        if not remaining:
            release()

    def release() -> None:
        for number in _STOPPING:
            loop.remove_signal_handler(number)

    for number in _STOPPING:
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        release()


def _find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return factory
