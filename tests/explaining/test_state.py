"""Explaining leaves everything as it was, and tells the state that there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import attrs
import pytest

from agenthub import Batch, ChatRequest, HttpUpstream, Message
from agenthub.explaining.rehearsing import rehearse
from agenthub.middleware.caching import Caching
from agenthub.middleware.circuit_breaker import CircuitBreaker
from agenthub.middleware.limiting import Limits
from agenthub.settings import (
    BackendSettings,
    BalancingSettings,
    CachingSettings,
    CircuitBreakerSettings,
    ClientSettings,
    HealthSettings,
    ModelSettings,
)
from agenthub.standin import Fault, Standin, running
from agenthub_adapter_native.adapter import NativeAdapter, make_adapter
from tests.hubs import ONCE, Clock, RunningHub, running_hub, until
from tests.upstreams import HI

CHAT = {"path": "/api/chat", "body": {"model": "standin", "messages": HI, "stream": False}}
COLD: dict[str, Any] = {"model": "standin", "messages": HI, "stream": False, "options": {"temperature": 0}}
QUIET: dict[str, Any] = {"health": HealthSettings(interval_s=0, models_refresh_s=0), "retries": ONCE}


async def explained(hub: RunningHub, body: Any = COLD, path: str = "/api/chat", **headers: str) -> Any:
    """Explain a chat."""
    answer = await hub.post("/hub/explain", {"path": path, "body": body, "headers": headers})
    assert answer.status == 200, answer.text
    return answer.json()


def learned(adapter: Any) -> str:
    """Return what an adapter has found out, besides its connections."""
    return repr([getattr(adapter, field.name) for field in attrs.fields(type(adapter)) if field.name != "upstream"])


def state_of(hub: RunningHub) -> Any:
    """Return all that a request could change."""
    layers = {type(layer): layer for layer in hub.hub.dispatcher.middleware}
    caching, limits = layers[Caching], layers.get(Limits)
    breakers = {
        name: attrs.astuple(layers[CircuitBreaker].breaker(name), filter=attrs.filters.include(str, int, float, bool))
        for name in hub.hub.router.backends
    }
    backends = [
        (
            one.slots.in_flight,
            one.slots.waiting,
            one.rests_until,
            one.is_up,
            one.loaded,
            sorted(one.used),
            one.has_long_prompts,
            [learned(adapter) for adapter in one.adapters.values()],
        )
        for one in hub.hub.router.backends.values()
    ]
    inside = dict(limits.quotas._inside) if limits is not None else None
    return [
        breakers,
        backends,
        list(caching.store._cache),
        len(caching.flights),
        hub.hub.dispatcher.balancer._turn,
        inside,
    ]


@pytest.fixture
async def standins() -> AsyncIterator[tuple[Standin, Standin, str, str]]:
    one, two = Standin(), Standin()
    async with running(one) as first, running(two) as second:
        yield one, two, first, second


@pytest.mark.parametrize("strategy", ["priority", "least_busy", "weighted", "sticky"])
@pytest.mark.parametrize("api_mode", ["native", "openai"])
async def test_nothing_is_changed(standins: Any, strategy: str, api_mode: str) -> None:
    """No request upstream, no place, no count, no turn, nothing kept or learned, whatever is explained."""
    one, two, first, second = standins
    backends = {name: BackendSettings(url=url, max_concurrency=1) for name, url in (("a", first), ("b", second))}
    limited = {"clients": {"me": ClientSettings(requests_per_minute=2, max_concurrency=1)}}
    settings = QUIET | limited | {"balancing": BalancingSettings(strategy=strategy), "api_mode": api_mode}
    async with running_hub(backends, **settings) as hub:
        await hub.hub.router.refresh()
        for upstream in (one, two):
            upstream.requests.clear()
        before = state_of(hub)
        long = [{"role": "user", "content": "long " * 9000}]
        for body in (COLD, COLD | {"messages": long, "options": {}}, {"model": "standin"}, COLD | {"stream": True}):
            for path in ("/api/chat", "/v1/chat/completions"):
                await explained(hub, body, path, **{"X-Client-Name": "me"})
        assert state_of(hub) == before
        assert [*one.requests, *two.requests] == []
        assert not hub.dispatches()
        for _ in range(2):  # the whole of its minute is left
            assert (await hub.post("/api/chat", COLD, X_Client_Name="me")).status == 200


async def test_whose_turn_it_is_stays(standins: Any) -> None:
    """least_busy takes turns: explain names the backend that comes next, and so does the next explanation."""
    _, _, first, second = standins
    backends = {"a": BackendSettings(url=first), "b": BackendSettings(url=second)}
    async with running_hub(backends, **QUIET, balancing=BalancingSettings(strategy="least_busy")) as hub:
        for _ in range(4):
            said = [(await explained(hub))["upstream"]["backend"] for _ in range(3)]
            answer = await hub.post("/api/chat", COLD | {"options": {}})
            assert said == [answer.headers["X-AgentHub-Backend"]] * 3


async def test_the_cache(standins: Any) -> None:
    """A miss, then a hit that sends nothing, though it tells what it would send; the order of entries stays."""
    one, _, first, _ = standins
    async with running_hub(first, **QUIET, caching=CachingSettings(ttl_s=0)) as hub:
        told = await explained(hub)
        assert (told["cache"]["is_cacheable"], told["cache"]["now"], told["answer"]["by"]) == (True, "miss", "backend")
        other = COLD | {"options": {"temperature": 0, "seed": 3}}
        for body in (COLD, other):
            assert (await hub.post("/api/chat", body)).headers["X-AgentHub-Cache"] == "miss"
        one.requests.clear()
        before = state_of(hub)
        told = await explained(hub)
        assert (told["cache"]["now"], told["answer"]["by"], told["upstream"]["is_sent"]) == ("hit", "cache", False)
        assert told["cache"]["key"] == before[2][0]
        assert told["upstream"]["requests"][0]["method"] == "POST"
        assert not any(candidate["is_asked"] for candidate in told["candidates"])
        renewed = await explained(hub, **{"Cache-Control": "no-cache"})
        assert (renewed["cache"]["now"], renewed["upstream"]["is_sent"]) == ("miss", True)
        bypassed = await explained(hub, **{"Cache-Control": "no-store"})
        assert bypassed["cache"] == {
            "is_cacheable": False,
            "why": "Cache-Control: no-store",
            "key": None,
            "now": "bypass",
        }
        assert (state_of(hub), list(one.requests)) == (before, [])


async def test_an_answer_under_way(standins: Any) -> None:
    """The same is being asked: it would be shared, and nobody joins by being told so."""
    one, _, first, _ = standins
    one.endless, one.pace_s = True, 0.01
    async with running_hub(first, **QUIET) as hub:
        asking = asyncio.create_task(hub.post("/api/chat", COLD | {"stream": True}))
        await one.received.reach(one.received.count + 1) if not one.open_streams else None
        caching = next(layer for layer in hub.hub.dispatcher.middleware if isinstance(layer, Caching))
        await until(lambda: len(caching.flights))
        told = await explained(hub, COLD | {"stream": True})
        assert (told["cache"]["now"], told["upstream"]["is_sent"]) == ("shared", False)
        assert [len(flight.readers) for flight in caching.flights] == [1]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_an_open_breaker(standins: Any) -> None:
    """It names the next backend; where there is none, the 503 that a client gets; a probe that is due is not taken."""
    one, two, first, second = standins
    clock = Clock()
    settings = QUIET | {"circuit_breaker": CircuitBreakerSettings(failure_threshold=1, open_for_s=30)}
    async with running_hub(
        {"a": BackendSettings(url=first), "b": BackendSettings(url=second)}, clock=clock, **settings
    ) as hub:
        await hub.hub.router.refresh()
        one.script(Fault.answer(500, "crashed"))
        assert (await hub.post("/api/chat", COLD | {"options": {}})).status == 500
        told = await explained(hub, COLD | {"options": {}})
        assert [(one["backend"], one["is_asked"], one["breaker"]["state"]) for one in told["candidates"]] == [
            ("a", False, "open"),
            ("b", True, "closed"),
        ]
        assert told["upstream"]["backend"] == "b"
        assert "circuit breaker is open" in told["candidates"][0]["against"][-1]
        two.script(Fault.answer(500, "crashed"))
        assert (await hub.post("/api/chat", COLD | {"options": {}})).status == 500
        before = state_of(hub)
        told = await explained(hub, COLD | {"options": {}})
        assert (told["answer"]["status"], told["answer"]["headers"], told["upstream"]) == (
            503,
            {"Retry-After": "30"},
            None,
        )
        asked = await hub.post("/api/chat", COLD | {"options": {}})
        assert (asked.status, asked.json(), asked.headers["Retry-After"]) == (503, told["answer"]["body"], "30")
        clock.now += 31
        told = await explained(hub, COLD | {"options": {}})
        assert (told["candidates"][0]["is_asked"], told["candidates"][0]["breaker"]["probe_in_s"]) == (True, 0.0)
        assert state_of(hub)[0]["a"][1:3] == before[0]["a"][1:3]


async def test_a_full_backend(standins: Any) -> None:
    """It tells that all places are taken and who waits; with no room in the queue, the 503."""
    one, _, first, _ = standins
    one.endless, one.pace_s = True, 0.01
    backends = {"a": BackendSettings(url=first, max_concurrency=1, queue_size=0)}
    async with running_hub(backends, **QUIET) as hub:
        asking = asyncio.create_task(hub.post("/api/chat", COLD | {"options": {}, "stream": True}))
        await until(lambda: hub.hub.router.backends["a"].slots.in_flight)
        told = await explained(hub, COLD | {"options": {}})
        assert told["candidates"][0]["queue"] == {"in_flight": 1, "max_concurrency": 1, "waiting": 0, "queue_size": 0}
        assert told["candidates"][0]["against"] == [
            "all its places (1) are taken",
            "backend a is busy: its queue is full",
        ]
        assert (told["answer"]["status"], told["answer"]["body"]) == (
            503,
            {"error": "backend a is busy: its queue is full"},
        )
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_reasons_against(standins: Any) -> None:
    """Of each backend it says why it may not answer: alias, patterns, list, health, rest, a loss that is refused."""
    _, two, first, second = standins
    two.models = ()
    clock = Clock()
    backends = {
        "best": BackendSettings(url=first, priority=3),
        "tired": BackendSettings(url=first, priority=2),
        "down": BackendSettings(url=first),
        "narrow": BackendSettings(url=first, models=("other*",)),
        "empty": BackendSettings(url=second),
        "openai": BackendSettings(url=first, api_mode="openai", priority=9),
        "elsewhere": BackendSettings(url=first),
    }
    alias = ModelSettings(target="standin", backends=tuple(name for name in backends if name != "elsewhere"))
    async with running_hub(backends, clock=clock, **QUIET, models={"al": alias}) as hub:
        await hub.hub.router.refresh()
        found = hub.hub.router.backends
        found["tired"].rests_until, found["down"].is_up = clock.now + 12, False
        body = {"model": "al", "prompt": "hi", "template": "x"}
        told = await explained(hub, body, "/api/generate", **{"X-AgentHub-Strict": "true"})
        lines = {one["backend"]: (one["place"], one["for"], one["against"]) for one in told["candidates"]}
        assert lines["best"] == (1, ["lists standin", "alias al names it", "priority 3"], [])
        assert lines["tired"][2] == ["asked to be left alone for 12 s more"]
        assert lines["down"][2] == ["does not answer the health checks"]
        assert lines["narrow"] == (None, [], ["its patterns of models do not fit standin"])
        assert lines["empty"] == (None, [], ["does not list standin"])
        assert lines["elsewhere"] == (None, [], ["alias al does not name it"])
        (refusal,) = lines["openai"][2]
        assert "template" in refusal


class Foreign(NativeAdapter):
    """An adapter of somebody else's, built on HttpUpstream by way of another."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        return super().chat(attrs.evolve(request, options={**request.options, "seed": 42}))


@attrs.define
class Stranger:
    """An adapter that asks in its own way."""

    operations: frozenset[str] = frozenset({"chat"})

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        raise AssertionError("a rehearsal must not come here")
        yield ()


@attrs.define
class Waiting(Foreign):
    """One that waits for something else than its upstream."""

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        await asyncio.sleep(0)
        raise AssertionError("a rehearsal must not come here")
        yield ()


async def test_adapters_of_others() -> None:
    """One that is built on HttpUpstream tells what it would send; others say that they cannot, and are not asked."""
    request = ChatRequest(model="m")
    async with HttpUpstream("x", BackendSettings(url="http://127.0.0.1:1")) as upstream:
        told = rehearse(Foreign(upstream), lambda adapter: adapter.chat(request))
        assert [sending.body for sending in told.sendings] == [
            b'{"model":"m","stream":false,"options":{"seed":42},"messages":[]}'
        ]
        assert told.open_end == ""
        told = rehearse(Stranger(), lambda adapter: adapter.chat(request))  # type: ignore[arg-type]
        assert (told.sendings, "not built on HttpUpstream" in told.open_end) == ([], True)
        told = rehearse(Waiting(upstream), lambda adapter: adapter.chat(request))
        assert (told.sendings, told.open_end) == ([], "this adapter waits for something else than its upstream")


async def test_a_large_request_that_becomes_many() -> None:
    """It is told as far as 16 MiB go, and that there is more."""
    request = ChatRequest(model="m", choices=64, messages=(Message("user", "x" * 2**20),))
    async with make_adapter("x", BackendSettings(url="http://127.0.0.1:1")) as adapter:
        told = rehearse(adapter, lambda adapter: adapter.chat(request))
        assert (len(told.sendings), "more of the same" in told.open_end) == (16, True)
