"""Places that replicas hand out together, such as those for the requests that a client may have running at once.

Each place that is taken is leased for a while, and the lease renewed as long as its holder lives: a replica that is
killed gives its places back. Leases end by the clock of Redis. What is given back while Redis is away, or refuses, is
kept until Redis has heard of it, or until the lease has ended.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count, islice
from typing import TYPE_CHECKING

import attrs

from agenthub.shared.link import Away, Link

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = "agenthub:1:places:"
LEASE_S = 15.0
_AGAIN_S, _SOON_S = 0.025, 0.25
SETTLED_S = 2.5
"""After Redis was away, the others have by then told what was given back to them meanwhile."""
_MOST_KEPT, _MOST_SENT = 10_000, 500

_NOW = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000) "
# KEYS: the group. ARGV: how many places, the lease in ms, the ticket, then tickets that are given back.
_ENTER = (
    _NOW
    + """
for index = 4, #ARGV do redis.call('ZREM', KEYS[1], ARGV[index]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 2 * math.max(ARGV[2], LONGEST), '+inf')
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
""".replace("LONGEST", str(int(LEASE_S * 1000)))
)
"""A lease that would end later than any replica's is nobody's."""
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
    """Tickets for places by group; while Redis is not there only this replica's own are counted.

    ``_returned`` are tickets of which Redis may still know, with the time at which their leases have ended for sure;
    ``_untold`` are those held of which it has never heard.
    """

    link: Link
    lease_s: float = LEASE_S
    _held: defaultdict[str, set[str]] = attrs.field(factory=lambda: defaultdict(set))
    _untold: set[str] = attrs.field(factory=set)
    _returned: dict[str, dict[str, float]] = attrs.field(factory=dict)
    _kept: int = 0
    _settled_at: float = float("-inf")
    _wake: asyncio.Event = attrs.field(factory=asyncio.Event)
    _is_back: bool = False
    _was_there: bool = False
    _names: Iterable[str] = attrs.field(factory=lambda: (f"{uuid.uuid4().hex}:{number}" for number in count()))

    def __attrs_post_init__(self) -> None:
        self._was_there = self.link.is_up
        self.link.on_back.append(self._be_back)

    async def enter(self, group: str, places: int) -> str:
        """Return a ticket for one of the ``places`` of a group, empty where all are taken."""
        if len(self._held.get(group, ())) >= places:
            return ""
        ticket, was_up = next(iter(self._names)), self.link.is_up
        try:
            if await self._ask(group, places, ticket):
                self._held[group].add(ticket)
                return ticket
        except Away:
            self._unsettle()
            if len(self._held.get(group, ())) < places:
                self._held[group].add(ticket)
                if was_up:
                    self._tell_soon()
                else:
                    self._untold.add(ticket)
                return ticket
            if was_up:
                # It may have been done, and only the answer was lost.
                self._return(group, ticket)
        except asyncio.CancelledError:
            if was_up:
                self._return(group, ticket)
            raise
        return ""

    async def _ask(self, group: str, places: int, ticket: str) -> bool:
        if await self.link.run(lambda redis: self._enter(redis, group, places, ticket)):
            return True
        # What another replica has just been given back may still be on its way, and longer after Redis was away.
        loop, wait_s = asyncio.get_running_loop(), _AGAIN_S
        while True:
            await asyncio.sleep(wait_s)
            if await self.link.run(lambda redis: self._enter(redis, group, places, ticket)):
                return True
            if loop.time() >= self._settled_at or len(self._held.get(group, ())) >= places:
                return False
            wait_s = min(2 * wait_s, _SOON_S)

    async def _enter(self, redis: Redis, group: str, places: int, ticket: str) -> bool:
        lease_ms, returned = int(self.lease_s * 1000), islice(self._returned.get(group, ()), _MOST_SENT)
        return bool(await redis.eval(_ENTER, 1, PREFIX + group, places, lease_ms, ticket, *returned))

    def _unsettle(self) -> None:
        self._settled_at = asyncio.get_running_loop().time() + SETTLED_S

    def leave(self, group: str, ticket: str) -> None:
        """Give a place back; Redis learns of it at once, but is not waited for."""
        held = self._held.get(group, set())
        held.discard(ticket)
        if not held:
            self._held.pop(group, None)
        if ticket in self._untold:
            self._untold.discard(ticket)
        else:
            self._return(group, ticket)

    def _return(self, group: str, ticket: str) -> None:
        if self._kept >= _MOST_KEPT:
            return  # its lease ends
        returned = self._returned.setdefault(group, {})
        self._kept += ticket not in returned
        returned[ticket] = asyncio.get_running_loop().time() + self.lease_s
        if self.link.is_up:
            self._wake.set()

    async def run(self) -> None:
        """Tell Redis what is given back, and renew what is held, until cancelled."""
        loop = asyncio.get_running_loop()
        due, is_refused = loop.time() + self.lease_s / 3, False
        while True:
            if is_refused:
                await asyncio.sleep(_SOON_S)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._wake.wait()
            self._wake.clear()
            if is_due := self._is_back or loop.time() >= due:
                self._is_back, due = False, loop.time() + self.lease_s / 3
            self._forget()
            try:
                await self.give_back()
                if is_due:
                    await self._renew()
                is_refused = False
            except Away:
                # Up, and yet it refuses, as one does that takes no writes for a while: nobody tells when that ends.
                is_refused, self._is_back = self.link.is_up, self._is_back or is_due

    def _be_back(self) -> None:
        if self._was_there:
            self._unsettle()
        self._was_there = True
        self._tell_soon()

    def _tell_soon(self) -> None:
        self._is_back = True
        self._wake.set()

    def _forget(self) -> None:
        """Drop what is kept of leases that have ended."""
        now = asyncio.get_running_loop().time()
        self._drop({group: [one for one, ends in kept.items() if ends < now] for group, kept in self._returned.items()})

    def _drop(self, dropped: Mapping[str, Iterable[str]]) -> None:
        for group, tickets in dropped.items():
            kept = self._returned.get(group, {})
            for ticket in tickets:
                self._kept -= kept.pop(ticket, None) is not None
            if not kept:
                self._returned.pop(group, None)

    async def give_back(self) -> None:
        """Tell Redis of all places that were left; raises ``Away``, and then they are kept to be told later."""
        if self._returned:
            returned = {group: list(tickets) for group, tickets in self._returned.items()}
            await self.link.run(lambda redis: _remove(redis, returned))
            self._drop(returned)

    async def finish(self) -> None:
        """Give back what is still to be given back."""
        with suppress(Away):
            await self.give_back()

    async def _renew(self) -> None:
        # In one task with give_back, so that nothing is renewed after it was given back.
        lease_ms, held = int(self.lease_s * 1000), {group: list(tickets) for group, tickets in self._held.items()}
        self._untold.clear()  # from now on Redis may have heard
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
