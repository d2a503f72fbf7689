"""What is shared outlives a reload of the configuration."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import attrs
import pytest

from agenthub.app import make_hub
from agenthub.errors import ConfigError
from agenthub.middleware.circuit_breaker import Breaker, CircuitBreaker
from agenthub.opening import open_hub
from agenthub.plugins import make_plugins
from agenthub.settings import BackendSettings, CachingSettings, CircuitBreakerSettings, PluginsSettings, Settings
from agenthub.shared.board import KEY
from tests.redis_server import RedisServer, running_redis
from tests.shared.support import until

pytestmark = pytest.mark.usefixtures("patient")

BACKEND = BackendSettings(url="http://127.0.0.1:1")


def settings_for(redis: RedisServer, **others: Any) -> Settings:
    return Settings(backends={"b": BACKEND}, caching=CachingSettings(backend="redis", url=redis.url), **others)


def breaker_in(hub: Any) -> Breaker:
    (layer,) = [layer for layer in hub.dispatcher.middleware if isinstance(layer, CircuitBreaker)]
    return layer.breaker("b")


async def written(redis_server: RedisServer) -> list[bytes]:
    async with redis_server.client() as redis:
        return [word.split(b" ")[1] for word in await redis.hvals(KEY)]


async def test_the_next_hub_goes_on_with_the_same_connection(redis_server: RedisServer) -> None:
    """While both serve, and after the one before has ended; what its breaker does is still told."""
    plugins = make_plugins(PluginsSettings())
    first = make_hub(settings_for(redis_server), plugins)
    async with AsyncExitStack() as before, AsyncExitStack() as after:
        await before.enter_async_context(open_hub(first))
        assert first.shared is not None
        assert first.shared.link.is_up
        changed = settings_for(redis_server, circuit_breaker=CircuitBreakerSettings(failure_threshold=1))
        second = make_hub(changed, plugins, kept=first.kept.next())
        assert second.shared is first.shared
        await after.enter_async_context(open_hub(second))
        await before.aclose()
        assert first.shared.link.is_up
        breaker = breaker_in(second)
        breaker.failed(breaker.admit())
        assert breaker.state == "open"

        async def is_told() -> bool:
            return await written(redis_server) == [b"open"]

        await until(is_told)
    assert not first.shared.link.is_up


async def test_another_server(redis_server: RedisServer, tmp_path: Any) -> None:
    """A reload that names another Redis moves there, with the breakers as they are."""
    plugins = make_plugins(PluginsSettings())
    (tmp_path / "other").mkdir()
    async with running_redis(tmp_path / "other") as other, AsyncExitStack() as before, AsyncExitStack() as after:
        first = make_hub(settings_for(redis_server), plugins)
        await before.enter_async_context(open_hub(first))
        second = make_hub(settings_for(other), plugins, kept=first.kept.next())
        assert second.shared is not first.shared
        await after.enter_async_context(open_hub(second))
        await before.aclose()
        breaker = breaker_in(second)
        assert breaker is breaker_in(first)
        for _ in range(3):
            breaker.failed(breaker.admit())

        async def is_told() -> bool:
            return await written(other) == [b"open"]

        await until(is_told)
        assert await written(redis_server) == []


async def test_a_reload_that_fails_changes_nothing(redis_server: RedisServer) -> None:
    """The hub that serves goes on telling what its breakers do, to the Redis that it named."""
    plugins = make_plugins(PluginsSettings())
    first = make_hub(settings_for(redis_server), plugins)
    async with open_hub(first):
        bad = attrs.evolve(
            settings_for(redis_server),
            caching=CachingSettings(backend="redis", url="redis://127.0.0.1:1"),
            middleware=("circuit_breaker", "unheard_of"),
        )
        with pytest.raises(ConfigError):
            make_hub(bad, plugins, kept=first.kept.next())
        breaker = breaker_in(first)
        for _ in range(3):
            breaker.failed(breaker.admit())

        async def is_told() -> bool:
            return await written(redis_server) == [b"open"]

        await until(is_told)
