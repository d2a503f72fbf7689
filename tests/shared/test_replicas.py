"""Hubs on one Redis act as one: the cache, the breakers, the clients' limits."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agenthub.middleware.caching import Caching
from agenthub.settings import CachingSettings, CircuitBreakerSettings, ClientSettings
from agenthub.standin import Fault, Standin, running
from tests.cli.support import clean_environ, started
from tests.hubs import Clock, running_hub
from tests.redis_server import RedisServer
from tests.shared.support import BODY, MIDDLEWARE, SOON_S, breaker_of, replicas, state_of, until

pytestmark = pytest.mark.usefixtures("patient")


async def test_an_answer_cached_by_one_is_a_hit_in_the_other(redis_server: RedisServer, lane: tuple[str, str]) -> None:
    """As soon as the client has its answer, whole or streamed, in any dialect; and both answers are the same."""
    dialect, adapter = lane
    path = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}[dialect]
    body = BODY | {"temperature": 0, "options": {"temperature": 0}}
    async with replicas(redis_server, Standin(), api_mode=adapter) as (one, other):
        missed, hit = await one.post(path, body), await other.post(path, body)
        streamed = await other.post(path, body | {"stream": True})
        assert [answer.headers["X-AgentHub-Cache"] for answer in (missed, hit, streamed)] == ["miss", "hit", "hit"]
        assert text_of(missed.json()) == text_of(hit.json()) != ""


def text_of(answer: Any) -> str:
    message = answer["message"] if "message" in answer else answer["choices"][0]["message"]
    return message["content"]  # type: ignore[no-any-return]


async def test_what_redis_has_outlives_the_hub(redis_server: RedisServer) -> None:
    """A hub that starts later finds the answers; one that asks twice asks Redis once."""
    caching = CachingSettings(backend="redis", url=redis_server.url)
    async with running(Standin()) as upstream:
        async with running_hub(upstream, caching=caching) as first:
            await first.post("/api/chat", BODY)
        async with running_hub(upstream, caching=caching) as second, redis_server.client() as redis:
            assert (await second.post("/api/chat", BODY)).headers["X-AgentHub-Cache"] == "hit"
            await redis.flushall()
            assert (await second.post("/api/chat", BODY)).headers["X-AgentHub-Cache"] == "hit"


async def test_a_kept_answer_ends_everywhere_at_once(redis_server: RedisServer) -> None:
    """Redis keeps it for ttl_s, and a hub that took it over only for what is left of that."""
    clock = Clock()
    async with replicas(redis_server, Standin(), clock=clock) as (one, other), redis_server.client() as redis:
        await one.post("/api/chat", BODY)
        (key,) = await redis.keys("agenthub:1:cache:*")
        assert 3590 < await redis.ttl(key) <= 3600
        await redis.expire(key, 100)
        assert (await other.post("/api/chat", BODY)).headers["X-AgentHub-Cache"] == "hit"
        await redis.flushall()
        clock.now += 90
        assert (await other.post("/api/chat", BODY)).headers["X-AgentHub-Cache"] == "hit"
        clock.now += 11
        assert (await other.post("/api/chat", BODY)).headers["X-AgentHub-Cache"] == "miss"


async def test_a_breaker_tripped_in_one_is_open_in_the_other(redis_server: RedisServer) -> None:
    """Within a second it refuses there too, and says when to come again; a reset in the other closes the first."""
    standin = Standin(down=True)
    async with replicas(redis_server, standin) as (one, other):
        body = BODY | {"options": {}}
        for _ in range(3):
            await one.post("/api/chat", body)
        assert state_of(one) == "open"
        await until(lambda: state_of(other) == "open")
        asked, refused = len(standin.requests), await other.post("/api/chat", body)
        assert (refused.status, len(standin.requests)) == (503, asked)
        assert 25 <= int(refused.headers["Retry-After"]) <= 30
        standin.down = False
        breaker_of(other).reset()
        await until(lambda: state_of(one) == "closed")
        assert (await one.post("/api/chat", body)).status == 200


async def test_one_probe_for_all(redis_server: RedisServer) -> None:
    """When the time is over one replica probes while the others go on refusing; its success closes them all."""
    settings = CircuitBreakerSettings(open_for_s=1.0)
    standin, body = Standin(down=True), BODY | {"options": {}}
    async with replicas(redis_server, standin, circuit_breaker=settings) as (one, other):
        for _ in range(3):
            await one.post("/api/chat", body)
        await until(lambda: state_of(other) == "open")
        standin.down = False
        standin.script(Fault.delay(1.5))
        probes = set[asyncio.Task[Any]]()
        async with asyncio.timeout(SOON_S):
            # Both are in demand all the time, so both want to probe.
            while not any(task.done() and task.result().status == 200 for task in probes):
                probes |= {asyncio.create_task(hub.post("/api/chat", body)) for hub in (one, other)}
                await asyncio.sleep(0.02)
        await until(lambda: (state_of(one), state_of(other)) == ("closed", "closed"))
        answers = [(await task).status for task in probes]
        assert set(answers) == {200, 503}
        changes = [(line["old"], line["new"]) for line in other.lines if line["event"] == "agenthub.breaker_changed"]
        assert changes.count(("open", "half_open")) == 1


async def test_a_limit_holds_across_both(redis_server: RedisServer) -> None:
    """Five requests a minute are five in all, whichever hub they come to; so are two at once."""
    clients = {"five": ClientSettings(requests_per_minute=5), "two": ClientSettings(max_concurrency=2)}
    standin, body = Standin(), BODY | {"options": {}}
    async with replicas(redis_server, standin, clients=clients) as (one, other):
        hubs = [one, other] * 4
        answers = [await hub.post("/api/chat", body, X_Client_Name="five") for hub in hubs]
        assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
        standin.endless, standin.pace_s = True, 0.01
        streams = [
            await hub.http.post(hub.url + "/api/chat", json=body | {"stream": True}, headers={"X-Client-Name": "two"})
            for hub in (one, other)
        ]
        for hub in (one, other):
            assert (await hub.post("/api/chat", body, X_Client_Name="two")).status == 429
        standin.endless = False
        for stream in streams:
            stream.close()

        async def is_free() -> bool:
            return (await other.post("/api/chat", body, X_Client_Name="two")).status == 200

        await until(is_free)


@pytest.mark.timeout(120)
async def test_two_processes(redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with two real processes: a hit, a limit, a breaker."""
    monkeypatch.chdir(tmp_path)
    standin = Standin()
    async with running(standin) as upstream:
        environ = clean_environ(
            OLLAMA_HOST=upstream,
            AGENTHUB_CACHING__BACKEND="redis",
            AGENTHUB_CACHING__URL=redis_server.url,
            AGENTHUB_PORT="0",
            AGENTHUB_CLIENTS__FIVE__REQUESTS_PER_MINUTE="5",
            AGENTHUB_MIDDLEWARE=",".join(MIDDLEWARE),
        )
        async with (
            running_hub(upstream) as caller,
            started("serve", environ=environ) as one,
            started("serve", environ=environ) as other,
        ):
            urls = [(await hub.log_line("agenthub.listening"))["url"] for hub in (one, other)]

            async def ask(url: str, body: Any, client: str = "any") -> tuple[int, str]:
                async with caller.http.post(f"{url}/api/chat", json=body, headers={"X-Client-Name": client}) as answer:
                    await answer.read()
                    return answer.status, answer.headers.get("X-AgentHub-Cache", "")

            assert [await ask(url, BODY) for url in urls] == [(200, "miss"), (200, "hit")]
            plain = BODY | {"options": {}}
            statuses = [(await ask(urls[number % 2], plain, "five"))[0] for number in range(7)]
            assert statuses == [200] * 5 + [429] * 2
            standin.down = True
            for _ in range(3):
                await ask(urls[0], plain)

            asked = len(standin.requests)
            await other.log_line("agenthub.breaker_changed")
            assert await ask(urls[1], plain) == (503, "")
            assert len(standin.requests) == asked


SPOILED: list[tuple[list[int], Any]] = [
    ([2], -(10**12)),
    ([2], 10**30),
    ([3, -1], 1e300),
    ([3, -1], -1.0),
    ([4, 0, 0], ["choice", -5]),
    ([4, -1, -1, 2], [-1, 2, None]),
    ([0], 99),
]


@pytest.mark.parametrize(("path", "value"), SPOILED, ids=str)
async def test_a_spoiled_value_is_a_miss(redis_server: RedisServer, path: list[int], value: Any) -> None:
    """The answer comes from the backend, is kept over it, and the log has one line for all of them."""
    replay = {"caching": CachingSettings(backend="redis", url=redis_server.url, replay="recorded")}
    async with replicas(redis_server, Standin(), **replay) as (one, other), redis_server.client() as redis:
        await one.post("/api/chat", BODY)
        (key,) = await redis.keys("agenthub:1:cache:*")
        spoiled = at = json.loads(await redis.get(key) or b"")
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        await redis.set(key, json.dumps(spoiled))
        answer = await other.post("/api/chat", BODY | {"stream": True})
        assert (answer.status, answer.headers["X-AgentHub-Cache"]) == (200, "miss")
        assert json.loads(await redis.get(key) or b"") != spoiled
        await redis.set(key, b"\x00garbage")
        await other.post("/api/chat", BODY | {"options": {"temperature": 0, "top_k": 5}})
        told = [line for line in other.lines if line["event"] == "agenthub.redis_unreadable"]
        assert [line["key"] for line in told] == [key.decode()]


async def test_what_stands_in_redis_does_not_break_the_bound_of_memory(redis_server: RedisServer) -> None:
    """Sizes that are too small, and answers that are larger than they look, count for what they are."""
    small = {"caching": CachingSettings(backend="redis", url=redis_server.url, max_bytes=200_000)}
    async with replicas(redis_server, Standin(), **small) as (one, other), redis_server.client() as redis:
        bodies = [BODY | {"messages": [{"role": "user", "content": f"{number}"}]} for number in range(20)]
        for body in bodies:
            await one.post("/api/chat", body)
        for key in await redis.keys("agenthub:1:cache:*"):
            value = json.loads(await redis.get(key) or b"")
            value[2] = 0
            value[4][0].insert(1, ["text", "x" * 50_000])
            await redis.set(key, json.dumps(value), keepttl=True)
        for body in bodies:
            assert (await other.post("/api/chat", body)).headers["X-AgentHub-Cache"] == "hit"
        (caching,) = [layer for layer in other.hub.dispatcher.middleware if isinstance(layer, Caching)]
        memory = caching.store.memory  # type: ignore[attr-defined]
        assert 1 <= len(memory) <= 4
        assert memory.size_bytes <= 200_000


@pytest.mark.parametrize("strange", ["99999999999", "inf", "1e300", "soon", "nan", "-1"])
async def test_a_window_that_no_replica_wrote_refuses_nobody(redis_server: RedisServer, strange: str) -> None:
    """A time in the future is dropped and what is no time ignored; this hub's own count goes on."""
    clients = {"limited": ClientSettings(requests_per_minute=5)}
    async with replicas(redis_server, Standin(), clients=clients) as (one, _), redis_server.client() as redis:
        await one.post("/api/chat", BODY, X_Client_Name="limited")
        (key,) = await redis.keys("agenthub:1:limits*")
        await redis.delete(key)
        await redis.rpush(key, *[strange] * 5)
        answers = [await one.post("/api/chat", BODY, X_Client_Name="limited") for _ in range(5)]
        assert [answer.status for answer in answers[:4]] == [200] * 4
        for answer in answers:
            assert 0 <= int(answer.headers["RateLimit-Reset"]) <= 60
            assert 0 <= int(answer.headers["RateLimit-Remaining"]) <= 5
