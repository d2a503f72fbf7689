"""The hubs of an application: the one that serves, and those that still answer what came in before a reload."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import attrs
import structlog
from aiohttp import web

from agenthub.api.hub import Hub, Serving
from agenthub.middleware import Caller
from agenthub.opening import open_hub

_LISTS_S = 5.0
_LAST_S = 1.0
_log = structlog.get_logger("agenthub")


@attrs.define(eq=False)
class Life:
    """A hub from its opening to its closing. Both are done by one task, as some of what a hub opens demands."""

    hub: Hub
    _over: asyncio.Event = attrs.field(factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Return when the hub is open; raises what its opening raises."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(opened))
        try:
            await opened
        except BaseException:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise

    async def _live(self, opened: asyncio.Future[None]) -> None:
        try:
            async with open_hub(self.hub):
                opened.set_result(None)
                await self._over.wait()
        except Exception as error:
            if opened.done():
                _log.exception("agenthub.close_failed")
            else:
                opened.set_exception(error)

    async def end(self) -> None:
        """Close the hub as soon as it answers no request."""
        while self.hub.running:
            await asyncio.wait(list(self.hub.running))
        await self.close()

    async def close(self) -> None:
        """Close the hub, whatever it does."""
        self._over.set()
        if self._task is not None:
            await asyncio.shield(self._task)


@attrs.define(eq=False)
class Lives:
    """Opens the hub that serves, and closes each that served when the last of its requests has ended."""

    serving: Serving
    _life: Life | None = None
    _ending: dict[asyncio.Task[None], Life] = attrs.field(factory=dict)

    @property
    def running(self) -> Mapping[asyncio.Task[object], Caller]:
        """The requests that any of the hubs answers, each by its task."""
        running = dict(self.serving.hub.running)
        for life in self._ending.values():
            running |= life.hub.running
        return running

    async def open(self) -> None:
        """Open the first hub."""
        self._life = Life(self.serving.hub)
        await self._life.begin()

    async def replace(self, hub: Hub) -> None:
        """Open ``hub`` and have it answer all requests from then on; where it cannot be opened nothing changes."""
        assert self._life is not None
        life = Life(hub)
        await life.begin()
        try:
            # Else the first requests would wait for the lists; a backend that is slow to answer is not waited for.
            async with asyncio.timeout(_LISTS_S):
                await hub.router.refresh()
        except TimeoutError:
            pass
        except BaseException:
            await life.close()
            raise
        ending = asyncio.create_task(self._life.end())
        self._ending[ending] = self._life
        ending.add_done_callback(self._ending.pop)
        self._life, self.serving.hub = life, hub
        hub.take_over()

    async def close(self) -> None:
        """Close all hubs. Requests that were cut off have a moment to end."""
        if running := list(self.running):
            await asyncio.wait(running, timeout=_LAST_S)
        lives = [*self._ending.values(), *([self._life] if self._life is not None else [])]
        await asyncio.gather(*(life.close() for life in lives))
        for ending in self._ending:
            ending.cancel()


LIVES: web.AppKey[Lives] = web.AppKey("lives", Lives)
