"""What replicas of the hub have in common, through Redis: the cache, the breakers' states and the clients' limits.

While Redis is not there each replica goes on with what it has in memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

import attrs

from agenthub.settings import CachingSettings
from agenthub.settings.redis_url import DEFAULT_URL, parse_redis_url
from agenthub.shared.board import Board
from agenthub.shared.link import Link
from agenthub.shared.places import Places

if TYPE_CHECKING:
    from agenthub.shared.store import SharedCache


@attrs.define(eq=False)
class Shared:
    """Everything shared, over one guarded connection, which is open as long as any hub is in its ``async with``.

    At a reload the hub before and the next are, for a while.
    """

    link: Link
    board: Board
    places: Places
    stores: WeakSet[SharedCache] = attrs.field(factory=WeakSet)
    _users: int = 0
    _running: list[asyncio.Task[None]] = attrs.field(factory=list)

    async def __aenter__(self) -> Self:
        self._users += 1
        if self._users == 1:
            await self.link.open()
            self._running = [asyncio.create_task(self.board.run()), asyncio.create_task(self.places.run())]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._users -= 1
        if self._users:
            return
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for store in list(self.stores):
            await store.finish()
        await self.places.finish()
        await self.link.close()


def make_shared(settings: CachingSettings) -> Shared | None:
    """Return what is shared, not yet open, or None where nothing is; raises ConfigError where redis-py is missing."""
    if settings.backend != "redis":
        return None
    link = Link(parse_redis_url(settings.url.reveal() or DEFAULT_URL))
    return Shared(link, Board(link), Places(link))
