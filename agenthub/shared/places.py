"""Places that replicas hand out together, such as those for the requests that a client may have running at once.

Each place that is taken is leased for a while, and the lease renewed as long as its holder lives: a replica that is
killed gives its places back. Leases end by the clock of Redis.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import attrs

from agenthub.shared.link import Away, Link

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = "agenthub:1:places:"
LEASE_S = 15.0
_AGAIN_S = 0.025

_NOW = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000) "
# KEYS: the group. ARGV: how many places, the lease in ms, the ticket, then tickets that are given back.
_ENTER = (
    _NOW
    + """
for index = 4, #ARGV do redis.call('ZREM', KEYS[1], ARGV[index]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
)
# KEYS: the group. ARGV: the lease in ms, then the tickets.
_RENEW = (
    _NOW
    + """
for index = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[index]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""
)


@attrs.define(eq=False)
class Places:
    """Tickets for places by group; while Redis is not there only this replica's own are counted."""

    link: Link
    lease_s: float = LEASE_S
    _held: defaultdict[str, set[str]] = attrs.field(factory=lambda: defaultdict(set))
    _returned: defaultdict[str, set[str]] = attrs.field(factory=lambda: defaultdict(set))
    _wake: asyncio.Event = attrs.field(factory=asyncio.Event)
    _is_back: bool = False
    _names: Iterable[str] = attrs.field(factory=lambda: (f"{uuid.uuid4().hex}:{number}" for number in count()))

    def __attrs_post_init__(self) -> None:
        self.link.on_back.append(self._be_back)

    async def enter(self, group: str, places: int) -> str:
        """Return a ticket for one of the ``places`` of a group, empty where all are taken."""
        ticket = next(iter(self._names))
        try:
            if await self._ask(group, places, ticket):
                self._held[group].add(ticket)
                return ticket
        except Away:
            self._return(group, ticket)
            if len(self._held.get(group, ())) < places:
                self._held[group].add(ticket)
                return ticket
        except asyncio.CancelledError:
            self._return(group, ticket)
            raise
        return ""

    async def _ask(self, group: str, places: int, ticket: str) -> bool:
        if await self.link.run(lambda redis: self._enter(redis, group, places, ticket)):
            return True
        # What another replica has just been given back may still be on its way.
        await asyncio.sleep(_AGAIN_S)
        return await self.link.run(lambda redis: self._enter(redis, group, places, ticket))

    async def _enter(self, redis: Redis, group: str, places: int, ticket: str) -> bool:
        lease_ms, returned = int(self.lease_s * 1000), self._returned.get(group, ())
        return bool(await redis.eval(_ENTER, 1, PREFIX + group, places, lease_ms, ticket, *returned))

    def leave(self, group: str, ticket: str) -> None:
        """Give a place back; Redis learns of it at once, but is not waited for."""
        held = self._held.get(group, set())
        held.discard(ticket)
        if not held:
            self._held.pop(group, None)
        self._return(group, ticket)

    def _return(self, group: str, ticket: str) -> None:
        if self.link.is_up:
            self._returned[group].add(ticket)
            self._wake.set()

    async def run(self) -> None:
        """Tell Redis what is given back, and renew what is held, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.lease_s / 3
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            self._wake.clear()
            is_due = self._is_back or loop.time() >= due
            if is_due:
                self._is_back, due = False, loop.time() + self.lease_s / 3
            with suppress(Away):
                await self.give_back()
                if is_due:
                    await self._renew()

    def _be_back(self) -> None:
        self._is_back = True
        self._wake.set()

    async def give_back(self) -> None:
        """Tell Redis of all places that were left; raises ``Away``, and then their leases end by themselves."""
        returned = {group: list(tickets) for group, tickets in self._returned.items() if tickets}
        try:
            if returned:
                await self.link.run(lambda redis: _remove(redis, returned))
        finally:
            for group, tickets in returned.items():
                self._returned[group].difference_update(tickets)
                if not self._returned[group]:
                    del self._returned[group]

    async def finish(self) -> None:
        """Give back what is still to be given back."""
        with suppress(Away):
            await self.give_back()

    async def _renew(self) -> None:
        # In one task with give_back, so that nothing is renewed after it was given back.
        lease_ms, held = int(self.lease_s * 1000), {group: list(tickets) for group, tickets in self._held.items()}
        if held:
            await self.link.run(lambda redis: _renew(redis, lease_ms, held))


async def _renew(redis: Redis, lease_ms: int, held: dict[str, list[str]]) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for group, tickets in held.items():
            pipe.eval(_RENEW, 1, PREFIX + group, lease_ms, *tickets)
        await pipe.execute()


async def _remove(redis: Redis, returned: dict[str, list[str]]) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for group, tickets in returned.items():
            pipe.zrem(PREFIX + group, *tickets)
        await pipe.execute()
