"""What clients have used of their limits: the contract of whatever counts, and the one that counts in memory."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import MovingWindowRateLimiter

REFUSED = ""
"""What ``enter`` returns in the place of a ticket where there is no place."""


@attrs.frozen
class Verdict:
    """Whether a request is within its client's ``limit`` a minute, and how many more would be now.

    ``reset_s`` is when the oldest of the counted requests ceases to count: a refused one may be sent again then.
    """

    is_allowed: bool
    limit: int
    remaining: int
    reset_s: float


class Quotas(Protocol):
    """Counts what clients use, here or where several processes see it. Methods raise nothing, whatever is broken.

    A refused request is not counted. Each ticket of ``enter`` is given to ``leave`` exactly once; ``leave`` does not
    wait, since it is called while a request is being cancelled.
    """

    async def hit(self, client: str, per_minute: int) -> Verdict: ...

    async def enter(self, client: str, places: int) -> str:
        """Return a ticket for one of the ``places``, or REFUSED."""

    def leave(self, client: str, ticket: str) -> None: ...

    async def look(self, client: str, per_minute: int) -> Verdict:
        """Return what ``hit`` would at this moment, by what this process knows, and count nothing."""

    def is_full(self, client: str, places: int) -> bool:
        """Say whether ``enter`` would refuse, by what this process knows."""

    def close(self) -> None:
        """The hub ends; no request is under way."""


@attrs.define
class MemoryQuotas:
    """Counts in this process: requests in a moving window, so that no minute ever holds more than the limit."""

    _storage: MemoryStorage
    _window: MovingWindowRateLimiter
    _inside: Counter[str] = attrs.field(factory=Counter)

    async def hit(self, client: str, per_minute: int) -> Verdict:
        from limits import RateLimitItemPerMinute

        item = RateLimitItemPerMinute(per_minute)
        is_allowed = await self._window.hit(item, client)
        stats = await self._window.get_window_stats(item, client)
        return Verdict(is_allowed, per_minute, max(stats.remaining, 0), max(stats.reset_time - time.time(), 0.0))

    async def look(self, client: str, per_minute: int) -> Verdict:
        from limits import RateLimitItemPerMinute

        stats = await self._window.get_window_stats(RateLimitItemPerMinute(per_minute), client)
        return Verdict(stats.remaining > 0, per_minute, max(stats.remaining, 0), max(stats.reset_time - time.time(), 0))

    def is_full(self, client: str, places: int) -> bool:
        return self._inside[client] >= places

    async def enter(self, client: str, places: int) -> str:
        if self._inside[client] >= places:
            return REFUSED
        self._inside[client] += 1
        return client

    def leave(self, client: str, ticket: str) -> None:
        self._inside[client] -= 1

    def close(self) -> None:
        # The library drops what is too old in a task of its own.
        if self._storage.timer is not None:
            self._storage.timer.cancel()


def make_memory_quotas() -> MemoryQuotas:
    """Return quotas of which nothing is used yet."""
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    storage = MemoryStorage()
    return MemoryQuotas(storage, MovingWindowRateLimiter(storage))
