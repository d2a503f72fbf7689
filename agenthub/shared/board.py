"""The breakers of all replicas: what one learns of a backend, the others know a moment later.

Each writes the transitions of its own breakers into one hash of Redis, and reads the others' four times a second. What
is kept is a time of Redis's own clock, so those of the machines may differ. Failures in a row stay each replica's own
count: to share it would cost a trip to Redis for every call, and the first to trip opens all of them anyway.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import attrs

from agenthub.shared.link import Away, Link

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEY, CLAIMS = "agenthub:1:breakers", "agenthub:1:probe:"
POLL_S = 0.25
PROBE_S = 5.0
"""How long the others leave a backend alone for one replica's probe, should they hear no more of it."""
_AHEAD_S = 2 * POLL_S
_KEPT_S = 24 * 3600
_LONGEST_S = 24 * 3600
_LONGEST_BYTES = 128
"""Of a transition as it is written; Redis does not send what is longer."""
_LONGEST_CLAIM_S = 2 * (_AHEAD_S + PROBE_S)
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


# KEYS: the hash. ARGV: the most bytes, then the fields.
_READ = """
local found = {}
for index = 2, #ARGV do
  local value = redis.call('HGET', KEYS[1], ARGV[index])
  found[index - 1] = value and string.sub(value, 1, ARGV[1] + 1)
end
return found
"""


class Shareable(Protocol):
    """A breaker, as far as its likes elsewhere matter to it."""

    state: str
    is_wanted: bool
    moved: Callable[[], None]

    @property
    def wait_s(self) -> float: ...
    def adopt(self, state: str, left_s: float) -> None: ...


@attrs.define(eq=False)
class Place:
    """One breaker on the board; ``seen`` is the last transition of it that this replica wrote or took over."""

    breaker: Shareable
    seen: str = ""
    is_news: bool = False
    claimed_until: float = 0.0


@attrs.define(eq=False)
class Board:
    """Keeps breakers in step with those of the same name in other replicas, while Redis is there."""

    link: Link
    _places: dict[str, Place] = attrs.field(factory=dict)
    _kick: asyncio.Event = attrs.field(factory=asyncio.Event)
    _is_running: bool = False

    def join(self, name: str, breaker: Shareable) -> None:
        """Share a breaker under a name that it has in every replica."""
        if name in self._places and self._places[name].breaker is breaker:
            return
        place = self._places[name] = Place(breaker)
        if self._is_running:
            self._listen(place)

    def _listen(self, place: Place) -> None:
        def moved() -> None:
            place.is_news = True
            self._kick.set()

        place.breaker.moved = moved

    async def run(self) -> None:
        """Exchange transitions until cancelled: at once what happens here, and soon what happens elsewhere."""
        # Not before: a breaker may be on the board of a hub that serves, and this one never come to serve.
        self._is_running = True
        for place in self._places.values():
            self._listen(place)
        while True:
            self._kick.clear()
            if self._places:
                with suppress(Away):
                    await self.exchange()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._kick.wait()

    async def exchange(self) -> None:
        """Take over what others wrote, and write what happened here; raises ``Away``."""
        names = list(self._places)
        now_s, written = await self.link.run(lambda redis: _read(redis, names))
        for name, text in zip(names, written, strict=True):
            place = self._places[name]
            if text is not None and not place.is_news:
                try:
                    take_over(place, text, now_s)
                except ValueError as error:
                    self.link.tell_unreadable(KEY, error)
                    text = None
            if text is None:
                # Redis is empty since it started again, or holds what is of no use.
                place.is_news = place.is_news or (place.breaker.state == OPEN and place.breaker.wait_s > 0)
        for name in names:
            if self._places[name].is_news:
                await self._write(name, now_s)
        for name in names:
            await self._claim(name)

    async def _write(self, name: str, now_s: float) -> None:
        place = self._places[name]
        state, left_s = place.breaker.state, max(place.breaker.wait_s, 0.0)
        if state == HALF_OPEN:
            left_s = PROBE_S
        seen = uuid.uuid4().hex
        text = f"{seen} {state} {now_s + left_s:.3f}"
        place.is_news = False
        try:
            await self.link.run(lambda redis: _write(redis, name, text, frees=state != HALF_OPEN))
        except Away:
            place.is_news = True
            raise
        place.seen = seen

    async def _claim(self, name: str) -> None:
        """Shortly before a breaker that is in demand may probe, see to it that one replica's does, and only one."""
        place, now = self._places[name], asyncio.get_running_loop().time()
        breaker = place.breaker
        if breaker.state != OPEN or not breaker.is_wanted or breaker.wait_s > _AHEAD_S or now < place.claimed_until:
            return
        lease_s = max(breaker.wait_s, 0.0) + PROBE_S
        left_s = await self.link.run(lambda redis: _claim(redis, CLAIMS + name, lease_s))
        if left_s is None:
            place.claimed_until = now + lease_s
        elif breaker.state == OPEN:
            breaker.adopt(HALF_OPEN, left_s)


def take_over(place: Place, text: bytes, now_s: float) -> None:
    """Follow a transition as another replica wrote it; ValueError for what none would write."""
    if len(text) > _LONGEST_BYTES:
        raise ValueError("longer than a transition")
    seen, state, until = text.decode("ascii").split(" ")
    left_s = float(until) - now_s
    if state not in (CLOSED, OPEN, HALF_OPEN) or not left_s <= _LONGEST_S:
        raise ValueError(f"no state of a breaker: {state} until {until}")
    if seen == place.seen:
        return
    place.seen = seen
    if state == CLOSED or left_s > 0 or place.breaker.state == OPEN:
        place.breaker.adopt(state, max(left_s, 0.0))


async def _read(redis: Redis, names: list[str]) -> tuple[float, list[bytes | None]]:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.eval(_READ, 1, KEY, _LONGEST_BYTES, *names)
        (seconds, micros), written = await pipe.execute()
    if len(written) != len(names):
        raise ValueError("another number of values than was asked for")
    return seconds + micros / 1e6, written


async def _write(redis: Redis, name: str, text: str, *, frees: bool) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hset(KEY, name, text)
        pipe.expire(KEY, _KEPT_S)
        if frees:
            pipe.delete(CLAIMS + name)
        await pipe.execute()


async def _claim(redis: Redis, key: str, lease_s: float) -> float | None:
    """Return None where the claim is ours now, else for how many seconds it is another's.

    One that lasts longer than any replica's, or for ever, is nobody's.
    """
    if await redis.set(key, b"1", nx=True, px=int(lease_s * 1000)):
        return None
    left_ms = await redis.pttl(key)
    if left_ms == -1 or left_ms > _LONGEST_CLAIM_S * 1000:
        await redis.set(key, b"1", px=int(lease_s * 1000))
        return None
    return max(left_ms, 0) / 1000


def place_name(backend: str, url: str) -> str:
    """Return the name of a backend's breaker: servers of one name and URL are the same one to every replica.

    But where the URL is a machine's own address, it is another server on each machine.
    """
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        host = "localhost" if ip_address(host).is_loopback else host
    return f"{backend} {url} {socket.gethostname()}" if host == "localhost" else f"{backend} {url}"
