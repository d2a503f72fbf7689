"""Comments keep an SSE stream open while the upstream keeps silent; source: wire.md D7, the form all SDKs take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agenthub.standin import Fault, Standin, running
from tests.hubs import ONCE, RunningHub, running_hub
from tests.upstreams import PATHS

pytestmark = pytest.mark.usefixtures("fast_clock")

PING_S = 0.03
CHAT: dict[str, Any] = {"model": "standin", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@asynccontextmanager
async def hub_before(standin: Standin, adapter: str, **settings: Any) -> AsyncIterator[RunningHub]:
    given = {"sse_ping_s": PING_S, "retries": ONCE, "api_mode": adapter} | settings
    async with running(standin) as upstream, running_hub(upstream, **given) as hub:
        yield hub


def split(text: str) -> tuple[int, str]:
    """Return how many pings a body begins with, and what follows them."""
    count = 0
    while text.startswith(": ping\n"):
        count, text = count + 1, text.removeprefix(": ping\n")
    return count, text


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_a_model_that_loads_is_waited_for(adapter: str) -> None:
    """Pings come until the first event does; the answer behind them is whole."""
    standin = Standin()
    async with hub_before(standin, adapter) as hub:
        standin.script(Fault.delay(6 * PING_S))
        answer = await hub.post(PATHS["openai"], CHAT)
        pings, rest = split(answer.text)
        assert pings >= 2
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
        assert answer.headers["X-AgentHub-Backend"] == "ollama"
        texts = [json.loads(frame[6:]) for frame in rest.split("\n\n")[:-2]]
        said = "".join(choice["delta"].get("content") or "" for one in texts for choice in one["choices"])
        assert said == standin_text(await hub.post("/api/chat", {**CHAT, "stream": False}))
        assert rest.endswith("data: [DONE]\n\n")
        assert ": ping" not in rest


def standin_text(answer: Any) -> str:
    return str(answer.json()["message"]["content"])


async def test_a_stream_that_falls_silent_in_the_middle() -> None:
    """It is pinged too, and the frames around the comments are whole; the SDK sees nothing of them."""
    standin = Standin(text="one two three four", pace_s=4 * PING_S)
    async with hub_before(standin, "native") as hub:
        answer = await hub.post(PATHS["openai"], CHAT)
        assert answer.text.count(": ping\n") >= 3
        stream = await hub.openai.chat.completions.create(**CHAT)
        words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
        assert "".join(word for word in words if word) == "one two three four"


@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_a_failure_after_a_ping_is_a_frame(adapter: str) -> None:
    """The status has left by then: the error comes as a frame without an end mark, and the log has its words."""
    standin = Standin()
    async with hub_before(standin, adapter) as hub:
        standin.script(Fault(status=500, message="it broke", delay_s=4 * PING_S))
        answer = await hub.post(PATHS["openai"], CHAT)
        pings, rest = split(answer.text)
        assert (answer.status, pings >= 1) == (200, True)
        assert json.loads(rest.removeprefix("data: "))["error"]["message"] == "it broke"
        assert "[DONE]" not in rest
        assert [(line["outcome"], line["status"]) for line in hub.dispatches()] == [("failed", 200)]


async def test_ndjson_stays_silent_and_so_does_a_hub_that_is_told_to() -> None:
    """NDJSON has no comment; sse_ping_s = 0 sends none."""
    standin = Standin()
    async with hub_before(standin, "native") as hub:
        standin.script(Fault.delay(4 * PING_S))
        answer = await hub.post(PATHS["ollama"], CHAT)
        assert [json.loads(line)["done"] for line in answer.text.splitlines()][-1] is True
    async with hub_before(standin, "native", sse_ping_s=0.0) as hub:
        standin.script(Fault.delay(4 * PING_S))
        assert ": ping" not in (await hub.post(PATHS["openai"], CHAT)).text


async def test_a_client_that_leaves_between_pings_is_abandoned() -> None:
    """The upstream is closed, and no ping is left behind."""
    standin = Standin()
    async with hub_before(standin, "native") as hub:
        before = asyncio.all_tasks()
        standin.script(Fault.hang())
        async with hub.http.post(hub.url + PATHS["openai"], json=CHAT) as response:
            assert await response.content.readany() == b": ping\n"
            response.close()
        await standin.abandoned.reach(1, timeout_s=10.0)
        assert [line["outcome"] for line in hub.dispatches()] == ["abandoned"]
        assert {task.get_coro().__name__ for task in asyncio.all_tasks() - before} <= {"start"}  # type: ignore[union-attr]
