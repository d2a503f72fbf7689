"""Hubs on one Redis, and how long tests wait for what one learns of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from agenthub.middleware.circuit_breaker import Breaker, CircuitBreaker
from agenthub.settings import CachingSettings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, running_hub
from tests.redis_server import RedisServer

SOON_S = 30.0
BODY: dict[str, Any] = {
    "model": "standin",
    "messages": [{"role": "user", "content": "hi"}],
    "options": {"temperature": 0},
    "stream": False,
}
MIDDLEWARE = ("logging", "limits", "caching", "circuit_breaker")


@asynccontextmanager
async def replicas(
    redis: RedisServer, standin: Standin, **settings: Any
) -> AsyncIterator[tuple[RunningHub, RunningHub]]:
    """Run two hubs in front of one backend. What either logs stands in the second one's lines."""
    settings = {"caching": CachingSettings(backend="redis", url=redis.url), "middleware": MIDDLEWARE} | settings
    async with (
        running(standin) as upstream,
        running_hub(upstream, **settings) as one,
        running_hub(upstream, **settings) as other,
    ):
        yield one, other


async def until(is_so: Callable[[], bool] | Callable[[], Awaitable[bool]], within_s: float = SOON_S) -> None:
    """Return once it is so; TimeoutError if that takes longer than it may."""
    async with asyncio.timeout(within_s):
        while not (found if isinstance(found := is_so(), bool) else await found):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def breaker_of(hub: RunningHub, name: str = "ollama") -> Breaker:
    """Return a backend's breaker as it stands in the hub."""
    (layer,) = [layer for layer in hub.hub.dispatcher.middleware if isinstance(layer, CircuitBreaker)]
    return layer.breaker(name)


def state_of(hub: RunningHub, name: str = "ollama") -> str:
    return breaker_of(hub, name).state
