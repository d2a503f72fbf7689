"""Places that replicas hand out together: never too many, and none lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agenthub.settings.redis_url import parse_redis_url
from agenthub.shared.link import Link
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
        await until(lambda: (places._held, places._returned) == ({}, {}))


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
