"""Health checks: a dead backend is asked last and comes back, and what a backend holds in memory is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agenthub.health import Health
from agenthub.settings import BackendSettings, BalancingSettings, HealthSettings
from agenthub.standin import Fault, Standin, running
from tests.forwarder import Forwarder
from tests.hubs import RunningHub, running_hub, until

CHAT: dict[str, Any] = {"model": "standin", "messages": [{"role": "user", "content": "hi"}], "stream": False}
QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
IMPATIENT = HealthSettings(models_refresh_s=0, interval_s=0, ping_timeout_s=1.0)


@asynccontextmanager
async def behind(adapter: str, health: HealthSettings = QUIET) -> AsyncIterator[tuple[RunningHub, Forwarder, Standin]]:
    """A hub whose backend ``first`` can be taken away, before ``second``."""
    first, second = Standin(), Standin()
    async with running(first) as one, running(second) as other:
        forwarder = Forwarder("127.0.0.1", int(one.rpartition(":")[2]))
        await forwarder.start()
        backends = {
            "first": BackendSettings(url=forwarder.url, api_mode=adapter),
            "second": BackendSettings(url=other, api_mode=adapter),
        }
        try:
            async with running_hub(backends, health=health, balancing=BalancingSettings(prefer_loaded=False)) as hub:
                await hub.get("/api/tags")
                yield hub, forwarder, first
        finally:
            await forwarder.stop()


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_a_dead_backend_is_not_asked_until_it_is_back(adapter: str) -> None:
    """No request meets it meanwhile, so that none has to move; both changes are logged once."""
    async with behind(adapter) as (hub, forwarder, _):
        health, backends = Health(hub.hub.router), hub.hub.router.backends
        await forwarder.stop()
        for _ in range(3):
            await health.check()
        assert (backends["first"].is_up, backends["second"].is_up) == (False, True)
        assert (await hub.post("/api/chat", CHAT)).headers["X-AgentHub-Backend"] == "second"
        await forwarder.start()
        for _ in range(3):
            await health.check()
        assert backends["first"].is_up
        assert (await hub.post("/api/chat", CHAT)).headers["X-AgentHub-Backend"] == "first"
        events = [line["event"] for line in hub.lines]
        assert events.count("agenthub.backend_down") == events.count("agenthub.backend_up") == 1
        assert "agenthub.request_moved" not in events


async def test_it_is_watched_in_the_background() -> None:
    """Every interval_s, without a request."""
    async with behind("native", HealthSettings(interval_s=0.01, ping_timeout_s=0.5)) as (hub, forwarder, _):
        first = hub.hub.router.backends["first"]
        await forwarder.stop()
        await until(lambda: not first.is_up)
        await forwarder.start()
        await until(lambda: first.is_up)


@pytest.mark.usefixtures("fast_clock")
async def test_a_slow_backend_is_not_dead_at_once() -> None:
    """A server under load may miss one check; two in a row take it out, and one good answer brings it back."""
    async with behind("native", IMPATIENT) as (hub, _, standin):
        health, first = Health(hub.hub.router), hub.hub.router.backends["first"]
        for is_up in (True, False):
            standin.script(Fault.hang().at("/api/ps"))
            await health.check()
            assert first.is_up is is_up
        await health.check()
        assert first.is_up
        standin.script(Fault.hang().at("/api/ps"))
        await health.check()
        assert first.is_up


@pytest.mark.parametrize(("status", "is_up"), [(404, True), (401, True), (500, False), (503, False)])
async def test_what_is_an_answer(status: int, is_up: bool) -> None:
    """A server without the verb, or one that wants a key, is up; one that breaks is not."""
    async with behind("native") as (hub, _, standin):
        standin.script(Fault.answer(status, "no").at("/api/ps"))
        await Health(hub.hub.router).check()
        assert hub.hub.router.backends["first"].is_up is is_up


async def test_what_is_loaded_is_known_and_preferred() -> None:
    """After a check, requests go where the model is in memory already; the other still serves the rest."""
    first, second = Standin(), Standin()
    async with running(first) as one, running(second) as other:
        backends = {"first": BackendSettings(url=one), "second": BackendSettings(url=other)}
        async with running_hub(backends, health=QUIET) as hub:
            await hub.get("/api/tags")
            assert (await hub.post("/api/chat", CHAT)).headers["X-AgentHub-Backend"] == "first"
            await hub.post("/api/chat", {"model": "standin", "keep_alive": 0})
            async with hub.http.post(other + "/api/chat", json=CHAT) as loading:
                assert loading.status == 200
            await Health(hub.hub.router).check()
            assert [backend.loaded for backend in hub.hub.router.backends.values()] == [
                frozenset(),
                frozenset({"standin"}),
            ]
            assert (await hub.post("/api/chat", CHAT)).headers["X-AgentHub-Backend"] == "second"
