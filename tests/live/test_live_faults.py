"""A real Ollama that goes away and comes back, and clients that leave."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agenthub.settings import HealthSettings
from tests.forwarder import Forwarder
from tests.hubs import LANES, Answered, Clock, RunningHub, running_hub

pytestmark = pytest.mark.live

QUESTION: list[Any] = [{"role": "user", "content": "hi"}]
PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}


async def ask(hub: RunningHub, dialect: str, **fields: Any) -> Answered:
    return await hub.post(PATHS[dialect], {"model": "tiny", "messages": QUESTION, "stream": False} | fields)


@pytest.mark.parametrize(("dialect", "adapter"), LANES)
async def test_ollama_stops_and_comes_back(forwarder: Forwarder, dialect: str, adapter: str) -> None:
    """Three failures open the breaker; cached answers are still served; the first probe after the wait closes it."""
    clock = Clock()
    async with running_hub(forwarder.url, api_mode=adapter, clock=clock) as hub:
        kept = {"options": {"temperature": 0}} if dialect == "ollama" else {"temperature": 0}
        assert (await ask(hub, dialect, **kept)).headers["X-AgentHub-Cache"] == "miss"

        await forwarder.stop()
        failures = [await ask(hub, dialect) for _ in range(3)]
        assert [answer.status for answer in failures] == [502, 502, 502]
        for answer in failures:
            error = answer.json()["error"]
            assert "cannot be reached" in (error if dialect == "ollama" else error["message"])

        began = time.perf_counter()
        refused = await ask(hub, dialect)
        assert time.perf_counter() - began < 0.1
        assert refused.status == 503
        assert 0 < int(refused.headers["Retry-After"]) <= 30

        cached = await ask(hub, dialect, **kept)
        assert (cached.status, cached.headers["X-AgentHub-Cache"]) == (200, "hit")

        await forwarder.start()
        assert (await ask(hub, dialect)).status == 503
        clock.now += 30
        assert (await ask(hub, dialect)).status == 200
        assert (await ask(hub, dialect)).status == 200


@pytest.mark.parametrize(("dialect", "adapter"), LANES)
async def test_a_client_that_leaves_frees_ollama(forwarder: Forwarder, dialect: str, adapter: str) -> None:
    """A client that disconnects in the middle of an endless answer: the connection to Ollama closes within a second."""
    async with running_hub(
        forwarder.url, api_mode=adapter, health=HealthSettings(models_refresh_s=0, interval_s=0)
    ) as hub:
        await hub.get("/api/tags")
        body = {"model": "tiny-loop", "messages": QUESTION, "stream": True, "max_tokens": 2000}
        body["options"] = {"num_predict": 2000}
        async with hub.http.post(hub.url + PATHS[dialect], json=body) as response:
            await response.content.readany()
            held = forwarder.open
            assert held >= 1
            response.close()
        await forwarder.until_open(held - 1, timeout_s=1.0)
        (line,) = hub.dispatches()
        assert line["outcome"] == "abandoned"


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_an_answer_is_cached_across_dialects(forwarder: Forwarder, adapter: str) -> None:
    """The same question with temperature 0: miss, then hit, then hit in the other dialect, whole and streamed."""
    async with running_hub(forwarder.url, api_mode=adapter) as hub:
        ollama_body = {"model": "tiny", "messages": QUESTION, "options": {"temperature": 0}}
        openai_body = {"model": "tiny", "messages": QUESTION, "temperature": 0}
        first = await hub.post("/api/chat", ollama_body | {"stream": False})
        again = await hub.post("/api/chat", ollama_body | {"stream": False})
        other = await hub.post("/v1/chat/completions", openai_body)
        streamed = await hub.post("/v1/chat/completions", openai_body | {"stream": True})
        states = [answer.headers["X-AgentHub-Cache"] for answer in (first, again, other, streamed)]
        assert states == ["miss", "hit", "hit", "hit"]
        text = first.json()["message"]["content"]
        assert other.json()["choices"][0]["message"]["content"] == text
        deltas = [frame["choices"][0]["delta"].get("content", "") for frame in streamed.frames()[:-1]]
        assert "".join(deltas) == text
