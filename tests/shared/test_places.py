"""Places that replicas hand out together: never too many, and none lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from agenthub.settings.redis_url import parse_redis_url
from agenthub.shared.link import Away, Link
from agenthub.shared.places import PREFIX, Places
from tests.redis_server import RedisServer
from tests.shared.support import until

pytestmark = pytest.mark.usefixtures("patient")


@asynccontextmanager
async def places_in(redis: RedisServer, lease_s: float = 15.0) -> AsyncIterator[Places]:
    """Run the places of one replica; at the end it dies, without giving anything back."""
    link = Link(parse_redis_url(redis.url))
    await link.open()
    places = Places(link, lease_s)
    running = asyncio.create_task(places.run())
    try:
        yield places
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await link.close()


async def test_never_more_than_there_are(redis_server: RedisServer) -> None:
    """However many ask at once, in two replicas; each group has its own."""
    async with places_in(redis_server) as one, places_in(redis_server) as other:
        asked = [each.enter("a", 5) for each in (one, other) for _ in range(20)]
        tickets = await asyncio.gather(*asked)
        assert len([ticket for ticket in tickets if ticket]) == 5
        assert await one.enter("b", 1) != ""


async def test_who_leaves_makes_room(redis_server: RedisServer) -> None:
    """At once for the same replica, and as soon as Redis knows for the others."""
    async with places_in(redis_server) as one, places_in(redis_server) as other:
        for _ in range(50):
            ticket = await one.enter("a", 1)
            assert ticket != ""
            one.leave("a", ticket)
        ticket = await one.enter("a", 1)
        assert await other.enter("a", 1) == ""
        one.leave("a", ticket)

        async def has_room() -> bool:
            return await other.enter("a", 1) != ""

        await until(has_room)


async def test_a_replica_that_dies_gives_its_places_back(redis_server: RedisServer) -> None:
    """When their lease is over; those of one that lives are renewed for as long as they are held."""
    async with places_in(redis_server, lease_s=0.6) as alive:
        async with places_in(redis_server, lease_s=0.6) as dying:
            assert await dying.enter("a", 2) != ""
            kept = await alive.enter("a", 2)
            assert await alive.enter("a", 2) == ""

        async def has_room() -> bool:
            return await alive.enter("a", 2) != ""

        await until(has_room)
        async with redis_server.client() as redis:

            async def is_renewed() -> bool:
                before = await redis.zscore(PREFIX + "a", kept)
                await asyncio.sleep(0.3)
                after = await redis.zscore(PREFIX + "a", kept)
                return before is not None and after is not None and after > before

            for _ in range(3):
                await until(is_renewed)


async def test_nothing_is_left_behind(redis_server: RedisServer) -> None:
    """When all have left, Redis holds nothing, and neither does the replica."""
    async with places_in(redis_server) as places, redis_server.client() as redis:
        tickets = [await places.enter(group, 3) for group in "abc" for _ in range(3)]
        assert await redis.zcard(PREFIX + "a") == 3
        for number, ticket in enumerate(tickets):
            places.leave("abc"[number // 3], ticket)

        async def is_empty() -> bool:
            return await redis.keys(PREFIX + "*") == []

        await until(is_empty)
        await until(lambda: (places._held, places._returned, places._kept) == ({}, {}, 0))


async def test_without_redis_each_counts_its_own(redis_server: RedisServer) -> None:
    """A replica knows what it holds; a Redis that begins anew is told at once."""
    async with places_in(redis_server) as places:
        before = await places.enter("a", 3)
        await redis_server.kill()
        assert await places.enter("a", 3) != ""
        assert await places.enter("a", 3) != ""
        assert await places.enter("a", 3) == ""
        places.leave("a", before)
        assert await places.enter("a", 3) != ""
        await redis_server.start()
        await until(lambda: places.link.is_up)
        async with redis_server.client() as redis:

            async def is_told() -> bool:
                return await redis.zcard(PREFIX + "a") == 3

            await until(is_told)
            assert await places.enter("a", 3) == ""


async def lose(places: Places) -> None:
    """Let a replica find out that Redis hangs."""
    with pytest.raises(Away):
        await places.link.run(lambda redis: broken(redis))


async def broken(redis: Redis) -> None:
    raise ConnectionResetError("broken")


async def entered(places: Places, limit: int) -> int:
    """Return how many of one more than there are places are let in at once."""
    return len([ticket for ticket in [await places.enter("a", limit) for _ in range(limit + 1)] if ticket])


async def test_what_is_given_back_in_an_outage_is_free_after_it(redis_server: RedisServer) -> None:
    """For this replica and for the others, long before the leases end; and no place more than there are."""
    async with places_in(redis_server) as one, places_in(redis_server) as other:
        held = [(each, await each.enter("a", 4)) for each in (one, other) for _ in range(2)]
        assert await one.enter("a", 4) == ""
        redis_server.hang()
        await lose(one)
        await lose(other)
        for places, ticket in held:
            places.leave("a", ticket)
        redis_server.go_on()
        await until(lambda: other.link.is_up)
        assert await entered(other, 4) == 4
        await until(lambda: one.link.is_up)
        assert await one.enter("a", 4) == ""


async def test_what_is_held_through_an_outage_still_counts(redis_server: RedisServer) -> None:
    """Whether it was taken before or during it; what is taken and left during it leaves no trace."""
    async with places_in(redis_server) as one, places_in(redis_server) as other:
        before = await one.enter("a", 3)
        await lose(one)
        during = await one.enter("a", 3)
        for _ in range(5):
            one.leave("a", await one.enter("a", 3))
        assert one._kept == 0, "Redis never heard of them"
        await until(lambda: one.link.is_up)

        async def is_told() -> bool:
            return await count_in(redis_server) == 2

        await until(is_told)
        assert "" not in (before, during, await other.enter("a", 3))
        assert await other.enter("a", 3) == ""
        assert await one.enter("a", 3) == ""


async def count_in(redis_server: RedisServer) -> int:
    async with redis_server.client() as redis:
        return int(await redis.zcard(PREFIX + "a"))


async def test_a_redis_that_takes_no_writes_for_a_while(redis_server: RedisServer) -> None:
    """As in a failover: nobody is refused, what is given back is told as soon as it takes them again."""
    async with places_in(redis_server) as one, places_in(redis_server) as other, redis_server.client() as redis:
        held = [await one.enter("a", 2), await other.enter("a", 2)]
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        one.leave("a", held[0])
        other.leave("a", held[1])
        assert await entered(one, 2) == 2
        for ticket in list(one._held["a"]):
            one.leave("a", ticket)
        kept = await one.enter("a", 2)
        assert kept
        await redis.execute_command("REPLICAOF", "NO", "ONE")
        assert await other.enter("a", 2) != ""

        async def is_told() -> bool:
            return await redis.zcard(PREFIX + "a") == 2 and not one._returned and not other._returned

        await until(is_told)
        assert await other.enter("a", 2) == ""
        assert await one.enter("a", 2) == ""


async def test_a_place_whose_answer_was_lost_is_given_back(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis gave it, and nobody heard: it is free again with the next word from this replica."""
    async with places_in(redis_server) as places:
        enter = Places._enter

        async def lost(self: Places, *asked: Any) -> bool:
            await enter(self, *asked)
            raise ConnectionResetError("lost")

        monkeypatch.setattr(Places, "_enter", lost)
        places._held["a"].add("mine")
        asking = places._held.pop("a")  # held here by nobody when it asks, by another when the answer is lost
        entering = asyncio.create_task(places.enter("a", 1))
        await asyncio.sleep(0)
        places._held["a"] |= asking
        assert await entering == ""
        monkeypatch.setattr(Places, "_enter", enter)
        places._held.clear()
        assert await count_in(redis_server) == 1
        await until(lambda: places.link.is_up)
        assert await places.enter("a", 1) != ""


async def test_giving_back_twice_frees_one_place(redis_server: RedisServer) -> None:
    """Whatever is told again: a lease has a name of its own."""
    async with places_in(redis_server) as places:
        first, second = await places.enter("a", 2), await places.enter("a", 2)
        for _ in range(3):
            places.leave("a", first)
            await places.give_back()
        assert second in places._held["a"]
        assert await count_in(redis_server) == 1
        assert await entered(places, 2) == 1


async def test_what_is_kept_is_bounded_and_forgotten(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a long outage: of more than a number the leases end by themselves, and those of all with time."""
    monkeypatch.setattr("agenthub.shared.places._MOST_KEPT", 10)
    async with places_in(redis_server, lease_s=0.3) as places:
        held = [await places.enter("a", 30) for _ in range(30)]
        await redis_server.kill()
        for ticket in held:
            places.leave("a", ticket)
        assert places._kept <= 10
        assert sum(map(len, places._returned.values())) == places._kept
        await until(lambda: (places._kept, places._returned) == (0, {}))


async def test_leases_of_nobody_hold_no_place(redis_server: RedisServer) -> None:
    """What stands there without an end, or with one that no replica gives, was not written by one."""
    async with places_in(redis_server) as places, redis_server.client() as redis:
        strange = {"inf": float("inf"), "-inf": float("-inf"), "far": 1e300, "negative": -1.0, "b\x00": 0.0}
        await redis.zadd(PREFIX + "a", strange)
        assert await entered(places, 2) == 2
        await redis.set(PREFIX + "b", "no set of places")
        assert await places.enter("b", 1) != ""
        assert await places.enter("b", 1) == ""


async def test_one_that_is_cancelled_holds_no_place(redis_server: RedisServer) -> None:
    """A client that leaves while Redis is asked for a place."""
    async with places_in(redis_server) as places:
        for turns in range(20):
            asking = asyncio.create_task(places.enter("a", 1))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            done = (await asyncio.gather(asking, return_exceptions=True))[0]
            if isinstance(done, str) and done:
                places.leave("a", done)

        async def has_room() -> bool:
            return await places.enter("a", 1) != ""

        await until(has_room)
