"""Quotas that all replicas count together in Redis; while it is away, each counts its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from agenthub.middleware.quotas import MemoryQuotas, Verdict
from agenthub.shared import Shared
from agenthub.shared.link import Away, Link
from agenthub.shared.places import Places

if TYPE_CHECKING:
    from limits.aio.strategies import MovingWindowRateLimiter

PREFIX = "agenthub:1:limits"
_WINDOW_S, _SKEW_S = 60.0, 30.0


@attrs.define
class SharedQuotas:
    """Quotas of which other replicas use their part.

    ``memory`` counts what passed here as well: should Redis go, nobody has a whole new minute. The window is
    measured by the clocks of the replicas' machines, which are taken to agree to about a second.
    """

    link: Link
    places: Places
    memory: MemoryQuotas
    _window: MovingWindowRateLimiter

    async def hit(self, client: str, per_minute: int) -> Verdict:
        try:
            verdict = await self.link.run(lambda redis: self._hit(client, per_minute))
        except Away:
            return await self.memory.hit(client, per_minute)
        if verdict.is_allowed:
            await self.memory.hit(client, per_minute)
        return verdict

    async def _hit(self, client: str, per_minute: int) -> Verdict:
        from limits import RateLimitItemPerMinute

        item = RateLimitItemPerMinute(per_minute)
        is_allowed = await self._window.hit(item, client)
        stats = await self._window.get_window_stats(item, client)
        reset_s = stats.reset_time - time.time()
        if not reset_s <= _WINDOW_S + _SKEW_S:
            # What stands in the future would refuse the client until then; the replicas' clocks nearly agree.
            await self._window.clear(item, client)
            raise ValueError(f"the window of client {client} lies in the future")
        remaining = min(max(int(stats.remaining), 0), per_minute)
        return Verdict(bool(is_allowed), per_minute, remaining, max(reset_s, 0.0))

    async def look(self, client: str, per_minute: int) -> Verdict:
        # A second question to Redis for each large body would cost more than it saves.
        return await self.memory.look(client, per_minute)

    def is_full(self, client: str, places: int) -> bool:
        return False

    async def enter(self, client: str, places: int) -> str:
        return await self.places.enter(client, places)

    def leave(self, client: str, ticket: str) -> None:
        self.places.leave(client, ticket)

    def close(self) -> None:
        self.memory.close()


def make_shared_quotas(shared: Shared) -> SharedQuotas:
    """Return quotas in the Redis that is shared."""
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    # Not the extra limits[redis], which pins redis-py below 8: the storage works with 8.1 over a pool of its making.
    storage = RedisStorage("redis://", implementation="redispy", key_prefix=PREFIX, connection_pool=shared.link.pool)  # type: ignore[arg-type]
    return SharedQuotas(shared.link, shared.places, MemoryQuotas(), MovingWindowRateLimiter(storage))
