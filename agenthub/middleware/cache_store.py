"""aiocache's memory cache, bounded by bytes: the least recently used goes first. Entries expire when looked at.

aiocache 0.12.3 has no bound and keeps one timer an entry, which its ``clear`` forgets to cancel; so this keeps its
API and brings its own storage.
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from aiocache import SimpleMemoryCache


class Sized(Protocol):
    """A value that knows how much memory it takes."""

    @property
    def size_bytes(self) -> int: ...


class BoundedMemoryCache(SimpleMemoryCache):  # type: ignore[misc]
    """Holds up to ``max_bytes``, keys included (0: no limit); ``clock`` gives monotonic seconds."""

    NAME = "bounded"

    def __init__(self, *, max_bytes: int, clock: Callable[[], float] = time.monotonic, **kwargs: Any) -> None:
        # No time-out: a dict answers at once, and asyncio.wait_for would cost more than the look-up.
        super().__init__(**{"timeout": 0} | kwargs)
        self.max_bytes = max_bytes or sys.maxsize
        self.clock = clock
        self.size_bytes = 0
        self._cache: OrderedDict[str, tuple[Sized, float | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cache)

    def _drop(self, key: str) -> int:
        entry = self._cache.pop(key, None)
        if entry is None:
            return 0
        self.size_bytes -= len(key) + entry[0].size_bytes
        return 1

    async def get(self, key: str, default: Any = None, **kwargs: Any) -> Any:
        """Return what aiocache's does, without its decorators, which cost five times the look-up."""
        value = await self._get(self.build_key(key))
        return default if value is None else value

    async def peek(self, key: str) -> Any:
        """Return what ``get`` would, and take no notice of it."""
        value, deadline = self._cache.get(self.build_key(key), (None, None))
        return None if deadline is not None and deadline <= self.clock() else value

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Sized | None:
        entry = self._cache.get(key)
        if entry is None:
            return None
        value, deadline = entry
        if deadline is not None and deadline <= self.clock():
            self._drop(key)
            return None
        self._cache.move_to_end(key)
        return value

    async def _multi_get(
        self, keys: list[str], encoding: str | None = "utf-8", _conn: Any = None
    ) -> list[Sized | None]:
        return [await self._get(key) for key in keys]

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return await self._get(key) is not None

    async def _set(
        self, key: str, value: Sized, ttl: float | None = None, _cas_token: Any = None, _conn: Any = None
    ) -> bool:
        self._drop(key)
        size = len(key) + value.size_bytes
        if size > self.max_bytes:
            return False
        self._cache[key] = (value, self.clock() + ttl if ttl else None)
        self.size_bytes += size
        while self.size_bytes > self.max_bytes:
            self._drop(next(iter(self._cache)))
        return True

    async def _multi_set(self, pairs: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        for key, value in pairs:
            await self._set(key, value, ttl)
        return True

    async def _add(self, key: str, value: Sized, ttl: float | None = None, _conn: Any = None) -> bool:
        if await self._exists(key):
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return await self._set(key, value, ttl)

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        raise NotImplementedError("this cache holds answers, not counters")

    async def _expire(self, key: str, ttl: float, _conn: Any = None) -> bool:
        value = await self._get(key)
        return value is not None and await self._set(key, value, ttl)

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return self._drop(key)

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        for key in [key for key in self._cache if not namespace or key.startswith(f"{namespace}:")]:
            self._drop(key)
        return True

    def build_key(self, key: str, namespace: str | None = None) -> str:
        """Return ``namespace:key``, the form that aiocache's Redis cache uses."""
        space = namespace if namespace is not None else self.namespace
        return f"{space}:{key}" if space else str(key)
