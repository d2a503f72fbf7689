"""A process that serves, as gunicorn's child. Needs gunicorn."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import structlog
from aiohttp.worker import GunicornWebWorker

from agenthub import signal_hold
from agenthub.cli.banner import Banner
from agenthub.cli.ports import open_port
from agenthub.cli.reloading import Reloader
from agenthub.cli.server import Server
from agenthub.cli.serving import find_loop_factory, spare_collector, spare_generators
from agenthub.cli.signals import on_each_signal
from agenthub.routing import Router

HELD = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT})
"""The signals that the master sends; they are held back until the worker has ears for them."""

_SIGN_OF_LIFE_S = 1.0


class HubWorker(GunicornWebWorker):
    """aiohttp's worker with the hub's own server: its backlog, its drain, its reload.

    SIGTERM has it let its requests finish, SIGQUIT ends it at once, SIGHUP has it reload. SIGINT is the master's.
    """

    def init_process(self) -> None:
        self.loop = (find_loop_factory() or asyncio.new_event_loop)()
        asyncio.set_event_loop(self.loop)
        super(GunicornWebWorker, self).init_process()

    def init_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    async def _run(self) -> None:
        settings = self.app.settings
        server = Server(settings, sockets=open_port(settings.host, self.app.port, is_shared=True))
        stop, reload = asyncio.Event(), asyncio.Event()

        def end_at_once() -> None:
            stop.set()
            server.cut()

        living = asyncio.create_task(self._say_that_it_lives(stop))
        with (
            on_each_signal(signal.SIGHUP, reload.set),
            on_each_signal(signal.SIGTERM, stop.set),
            on_each_signal(signal.SIGQUIT, end_at_once),
        ):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
            try:
                async with server, Banner() as banner:
                    self.booted = True
                    spare_collector()
                    spare_generators()
                    log = structlog.get_logger("agenthub").bind(pid=self.pid)
                    if self.app.speaker.starts(self.age):
                        banner.tell(server.serving.hub.router)

                    def told(router: Router) -> None:
                        if self.app.speaker.is_me():
                            banner.tell(router)

                    async with Reloader(server.lives, self.app.load_settings, reload, server.port, log, told).running():
                        await stop.wait()
            finally:
                # What comes now would kill the worker, and the master would take that for a failure.
                signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        signal_hold.ignore(HELD)
        living.cancel()
        with suppress(asyncio.CancelledError):
            await living

    async def _say_that_it_lives(self, stop: asyncio.Event) -> None:
        """Tell the master, also while requests finish; without a master, stop."""
        while True:
            self.notify()
            if self.ppid != os.getppid():
                stop.set()
            await asyncio.sleep(_SIGN_OF_LIFE_S)
