"""The cache in two tiers, by aiocache's API: memory first, Redis for all, and nothing believed that is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agenthub.canonical import Finished, Started, TextDelta, Usage
from agenthub.middleware.cache_entry import Entry, size_of
from agenthub.middleware.cache_shared import dump_entry, load_entry
from agenthub.middleware.cache_store import BoundedMemoryCache
from agenthub.settings.redis_url import parse_redis_url
from agenthub.shared.codec import LARGEST_BYTES
from agenthub.shared.link import Link
from agenthub.shared.store import PREFIX, SharedCache
from tests.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("patient")


def entry(text: str) -> Entry:
    batches = ((Started(), TextDelta(text)), (Finished(usage=Usage(1, 2)),))
    return Entry(batches, (0.0, 0.5), sum(map(size_of, batches)), True)


@asynccontextmanager
async def cache_in(redis: RedisServer) -> AsyncIterator[SharedCache]:
    link = Link(parse_redis_url(redis.url))
    await link.open()
    memory = BoundedMemoryCache(max_bytes=2**24)
    try:
        yield SharedCache(memory, link, dumps=dump_entry, loads=load_entry)
    finally:
        await link.close()


async def test_it_does_what_aiocache_says(redis_server: RedisServer) -> None:
    """get, set, add, exists, expire, delete, clear and the plural forms, for two replicas."""
    async with cache_in(redis_server) as one, cache_in(redis_server) as other:
        assert await one.get("a") is None
        assert await one.get("a", default=5) == 5
        assert await one.set("a", entry("a"))
        assert await other.get("a") == await one.get("a") == entry("a")
        assert await other.exists("a")
        with pytest.raises(ValueError, match="already exists"):
            await other.add("a", entry("b"))
        assert await other.add("b", entry("b"))
        assert await one.multi_get(["a", "b", "c"]) == [entry("a"), entry("b"), None]
        await one.multi_set([("c", entry("c")), ("d", entry("d"))])
        assert await one.expire("c", 60)
        assert not await one.expire("z", 60)
        async with redis_server.client() as redis:
            assert [await redis.ttl(PREFIX + key) for key in "ac"] == [-1, 60]
        assert await one.delete("a") == 1
        assert await one.delete("z") == 0
        assert await one.get("a") is None
        assert await one.clear()
        assert await one.multi_get(["b", "c", "d"]) == [None] * 3
        async with redis_server.client() as redis:
            assert await redis.dbsize() == 0


async def test_clearing_leaves_alone_what_is_not_the_caches(redis_server: RedisServer) -> None:
    """However much there is."""
    async with cache_in(redis_server) as cache, redis_server.client() as redis:
        await redis.mset({f"{PREFIX}{number}": "x" for number in range(2000)} | {"another's": "x", "agenthub:1:x": "x"})
        await cache.clear()
        assert set(await redis.keys()) == {b"another's", b"agenthub:1:x"}


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"[2,true,1,[],[]]", b"x" * (LARGEST_BYTES + 2), None])
async def test_garbage_is_a_miss(redis_server: RedisServer, garbage: bytes | None) -> None:
    """Somebody else's bytes, another version's, too many, or no bytes at all."""
    async with cache_in(redis_server) as cache, redis_server.client() as redis:
        if garbage is None:
            await redis.rpush(PREFIX + "a", "a")
        else:
            await redis.set(PREFIX + "a", garbage)
        assert await cache.get("a") is None
        assert await cache.set("a", entry("a"))
        async with cache_in(redis_server) as other:
            assert await other.get("a") == entry("a")


async def test_what_cannot_be_shared_is_kept_here(redis_server: RedisServer) -> None:
    """An answer larger than Redis is given stays in memory."""
    async with cache_in(redis_server) as cache, redis_server.client() as redis:
        large = entry("x" * LARGEST_BYTES)
        assert await cache.set("a", large)
        assert await cache.get("a") == large
        assert await redis.dbsize() == 0


async def test_who_leaves_takes_nothing_away(redis_server: RedisServer) -> None:
    """A client that leaves while its answer is written: it is written all the same, before the cache ends."""
    async with cache_in(redis_server) as cache, redis_server.client() as redis:
        for number in range(20):
            writing = asyncio.create_task(cache.set(f"{number}", entry("a")))
            await asyncio.sleep(0)
            writing.cancel()
        await cache.finish()
        assert await redis.dbsize() == 20
        assert (cache._writing, cache._writing_bytes) == (set(), 0)


async def test_a_redis_that_hangs_holds_few_answers_back(redis_server: RedisServer) -> None:
    """What waits to be written is bounded; memory has all of it."""
    async with cache_in(redis_server) as cache:
        redis_server.hang()
        writing = [asyncio.create_task(cache.set(f"{number}", entry("a"))) for number in range(1000)]
        await asyncio.sleep(0)
        assert len(cache._writing) <= 256
        async with asyncio.timeout(30):
            await asyncio.gather(*writing)
            await cache.finish()
        assert len(cache.memory) == 1000
        assert (cache._writing, cache._writing_bytes) == (set(), 0)
