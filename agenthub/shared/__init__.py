"""What replicas of the hub have in common, through Redis: the cache, the breakers' states and the clients' limits.

While Redis is not there each replica goes on with what it has in memory.
"""

from __future__ import annotations

import asyncio
from typing import Self

import attrs

from agenthub.settings import CachingSettings
from agenthub.settings.redis_url import DEFAULT_URL, parse_redis_url
from agenthub.shared.board import Board
from agenthub.shared.link import Link
from agenthub.shared.places import Places
from agenthub.shared.store import SharedCache


@attrs.define(eq=False)
class Shared:
    """Everything shared, over one guarded connection that is open for the length of an ``async with``."""

    link: Link
    board: Board
    places: Places
    stores: list[SharedCache] = attrs.field(factory=list)
    _running: list[asyncio.Task[None]] = attrs.field(factory=list)

    async def __aenter__(self) -> Self:
        await self.link.open()
        self._running = [asyncio.create_task(self.board.run()), asyncio.create_task(self.places.run())]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for store in self.stores:
            await store.finish()
        await self.places.finish()
        await self.link.close()


def make_shared(settings: CachingSettings) -> Shared | None:
    """Return what is shared, not yet open, or None where nothing is; raises ConfigError where redis-py is missing."""
    if settings.backend != "redis":
        return None
    link = Link(parse_redis_url(settings.url.reveal() or DEFAULT_URL))
    return Shared(link, Board(link), Places(link))
