"""The cache in two tiers: this process's memory first, then Redis, where all replicas find each other's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer

from agenthub.shared.codec import LARGEST_BYTES
from agenthub.shared.link import Away, Link

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")
PREFIX = "agenthub:1:cache:"
_MOST_WRITES, _MOST_WRITTEN_BYTES = 256, 64 * 2**20
_SCANNED = 500
_LARGE_BYTES = 2**18
"""From here on a value is read beside the event loop, which it would hold for milliseconds."""


class SharedCache(BaseCache):  # type: ignore[misc]
    """Keeps values in ``memory`` and, as ``dumps`` makes them bytes, in Redis; whatever Redis lacks is a miss.

    ``dumps`` and ``loads`` raise ValueError for what cannot be shared, or was not made by ``dumps``. A value is in
    Redis when ``set`` returns; one that is cancelled, as by a client that leaves, does not stop the write.
    """

    NAME = "shared"

    def __init__(
        self, memory: BaseCache, link: Link, *, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]
    ) -> None:
        super().__init__(serializer=NullSerializer(), timeout=0)
        self.memory, self._link, self._dumps, self._loads = memory, link, dumps, loads
        self._writing: set[asyncio.Task[None]] = set()
        self._writing_bytes = 0

    async def get(self, key: str, default: Any = None, **kwargs: Any) -> Any:
        """Return what aiocache's does, without its decorators, which cost more than a look into memory."""
        value = await self._get(key)
        return default if value is None else value

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        value = await self.memory.get(key)
        if value is not None or not self._link.is_up:
            return value
        value, left_ms = await self._fetch(key)
        if value is not None and left_ms != 0:
            await self.memory.set(key, value, ttl=left_ms / 1000 if left_ms > 0 else None)
        return value

    async def peek(self, key: str) -> Any:
        """Return what ``get`` would, and take no notice of it. ``memory`` must have the same."""
        value = await self.memory.peek(key)
        return value if value is not None or not self._link.is_up else (await self._fetch(key))[0]

    async def _fetch(self, key: str) -> tuple[Any, int]:
        """Return the value in Redis, None where that is of no use, and how many milliseconds it lives."""
        try:
            data, left_ms = await self._link.run(lambda redis: _read(redis, PREFIX + key))
            if len(data) > _LARGE_BYTES:
                return await asyncio.to_thread(self._loads, data), left_ms
            return (self._loads(data) if data else None), left_ms
        except Away:
            return None, 0
        except ValueError as error:
            self._link.tell_unreadable(PREFIX + key, error)
            return None, 0

    async def _set(
        self, key: str, value: Any, ttl: float | None = None, _cas_token: Any = None, _conn: Any = None
    ) -> bool:
        await self.memory.set(key, value, ttl=ttl)
        if not self._link.is_up or len(self._writing) >= _MOST_WRITES:
            return True
        try:
            data = self._dumps(value)
        except ValueError:
            return True
        if self._writing_bytes + len(data) <= _MOST_WRITTEN_BYTES:
            await asyncio.shield(self._start_write(PREFIX + key, data, ttl))
        return True

    def _start_write(self, key: str, data: bytes, ttl: float | None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._write(key, data, ttl))
        self._writing.add(task)
        self._writing_bytes += len(data)

        def done(task: asyncio.Task[None]) -> None:
            self._writing.discard(task)
            self._writing_bytes -= len(data)

        task.add_done_callback(done)
        return task

    async def _write(self, key: str, data: bytes, ttl: float | None) -> None:
        try:
            await self._link.run(lambda redis: redis.set(key, data, px=max(1, int(ttl * 1000)) if ttl else None))
        except Away:
            return

    async def finish(self) -> None:
        """Wait until all writes have ended, as they soon do."""
        if self._writing:
            await asyncio.wait(self._writing)

    async def _tell(self, operation: Callable[[Redis], Any], otherwise: T) -> Any | T:
        try:
            return await self._link.run(operation)
        except Away:
            return otherwise

    async def _multi_get(self, keys: list[str], encoding: str | None = "utf-8", _conn: Any = None) -> list[Any]:
        return [await self._get(key) for key in keys]

    async def _multi_set(self, pairs: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        for key, value in pairs:
            await self._set(key, value, ttl)
        return True

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        if await self._exists(key):
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return await self._set(key, value, ttl)

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return await self._get(key) is not None

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        raise NotImplementedError("this cache holds answers, not counters")

    async def _expire(self, key: str, ttl: float, _conn: Any = None) -> bool:
        value = await self._get(key)
        return value is not None and await self._set(key, value, ttl)

    async def _delete(self, key: str, _conn: Any = None) -> int:
        there = int(await self.memory.delete(key))
        return max(there, await self._tell(lambda redis: redis.delete(PREFIX + key), 0))

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        """Forget all in Redis and here; other replicas keep in memory what they have."""
        await self.memory.clear()
        cursor: int | None = None
        while cursor != 0:
            cursor = await self._tell(lambda redis, at=cursor or 0: _clear_some(redis, at), 0)  # type: ignore[misc]
        return True


async def _read(redis: Redis, key: str) -> tuple[bytes, int]:
    """Return the value, cut where it is too large to be one of ours, and how many milliseconds it lives (-1: any)."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.getrange(key, 0, LARGEST_BYTES)
        pipe.pttl(key)
        data, left_ms = await pipe.execute()
    return data, 0 if left_ms == -2 else left_ms


async def _clear_some(redis: Redis, cursor: int) -> int:
    after, keys = await redis.scan(cursor, match=f"{PREFIX}*", count=_SCANNED)
    if keys:
        await redis.unlink(*keys)
    return int(after)
