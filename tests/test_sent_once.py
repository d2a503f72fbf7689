"""A request is sent once: again only on the word of ``retries.attempts``, and a verb that changes something never."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from agenthub import HttpUpstream
from agenthub.dialects import ollama
from agenthub.dialects.lane import Lane
from agenthub.errors import UpstreamError
from agenthub.settings import BackendSettings, HealthSettings, RetrySettings
from tests.hubs import Answered, RunningHub, running_hub
from tests.raw_upstream import CLOSE, RESET, Act, Asked, chunked, proper, raw_upstream
from tests.upstreams import HI

QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
BLOB = "/api/blobs/sha256:" + "a" * 64

VERBS: dict[str, tuple[str, str, Any]] = {
    "pull": ("POST", "/api/pull", {"model": "m"}),
    "push": ("POST", "/api/push", {"model": "m"}),
    "create": ("POST", "/api/create", {"model": "n", "from": "m"}),
    "copy": ("POST", "/api/copy", {"source": "m", "destination": "n"}),
    "delete": ("DELETE", "/api/delete", {"model": "m"}),
    "upload": ("POST", BLOB, b"content"),
    "ask for a blob": ("HEAD", BLOB, None),
    "show": ("POST", "/api/show", {"model": "m"}),
}
ASKING: dict[str, tuple[str, Any]] = {
    "chat": ("/api/chat", {"model": "m", "messages": HI, "stream": False}),
    "chat, streamed": ("/api/chat", {"model": "m", "messages": HI}),
    "generate": ("/api/generate", {"model": "m", "prompt": "hi", "stream": False}),
    "embed": ("/api/embed", {"model": "m", "input": "hi"}),
    "openai chat": ("/v1/chat/completions", {"model": "m", "messages": HI}),
    "openai completion": ("/v1/completions", {"model": "m", "prompt": "hi"}),
    "openai embeddings": ("/v1/embeddings", {"model": "m", "input": "hi"}),
}
ADAPTERS = pytest.mark.parametrize("adapter", ["native", "openai"])
BROKEN = {
    "closed": CLOSE,
    "reset": RESET,
    "closed in the head": Act(b"HTTP/1.1 20", "FIN"),
    "reset in the head": Act(b"HTTP/1.1 200 OK\r\nContent-", "RST"),
    "closed after a first head": Act(b"HTTP/1.1 103 Early Hints\r\n\r\n", "FIN"),
    "closed in the body": Act(chunked(b'{"mod'), "FIN"),
}


def is_listing(asked: Asked) -> bool:
    return asked.method == "GET"


def breaking(act: Act) -> Callable[[Asked], Act]:
    """Lists models, and breaks off everything else."""
    return lambda asked: proper(asked) if is_listing(asked) else act


async def send(hub: RunningHub, method: str, path: str, body: Any) -> Answered:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    async with hub.http.request(method, hub.url + path, data=data) as response:
        return Answered(response.status, response.headers, await response.read())


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("act", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_is_sent_once(verb: str, act: Act, attempts: int) -> None:
    """On a connection of its own, whatever is in the pool; the client hears that it broke off, and no 404."""
    async with raw_upstream(breaking(act)) as upstream:
        async with running_hub(upstream.url, health=QUIET, retries=RetrySettings(attempts=attempts)) as hub:
            await hub.get("/api/tags")
            answer = await send(hub, *VERBS[verb])
        assert answer.status == 502
        (asked,) = [asked for asked in upstream.asked if not is_listing(asked)]
        assert (asked.method, asked.path, asked.is_reused) == (*VERBS[verb][:2], False)


@ADAPTERS
@pytest.mark.parametrize("is_reused", [True, False], ids=["reused", "new"])
@pytest.mark.parametrize("act", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", ASKING)
async def test_one_attempt_is_one(name: str, act: Act, is_reused: bool, adapter: str) -> None:
    """With ``retries.attempts = 1``, on a reused connection as on a new one."""
    async with raw_upstream(breaking(act)) as upstream:
        once = RetrySettings(attempts=1)
        async with running_hub(upstream.url, health=QUIET, retries=once, api_mode=adapter) as hub:
            await hub.hub.router.refresh()
            if not is_reused:
                await drop_connections(hub)
            answer = await send(hub, "POST", *ASKING[name])
        assert answer.status == 502
        assert "broke off the connection" in answer.text
        assert "x-should-retry" not in answer.headers
        (asked,) = [asked for asked in upstream.asked if not is_listing(asked)]
        assert asked.is_reused is is_reused


async def drop_connections(hub: RunningHub) -> None:
    """Have the next request take a new connection."""
    for backend in hub.hub.router.backends.values():
        for adapter in backend.adapters.values():
            adapter.upstream._client.drop_idle()  # type: ignore[attr-defined]


@ADAPTERS
@pytest.mark.parametrize("act", [CLOSE, RESET], ids=["closed", "reset"])
@pytest.mark.parametrize("name", ASKING)
async def test_a_reused_connection_that_was_closed(name: str, act: Act, adapter: str) -> None:
    """Nothing of an answer came: it is sent again at once, as a second attempt, on a new connection."""
    async with raw_upstream() as upstream:
        upstream.act = lambda asked: act if asked.is_reused and not is_listing(asked) else proper(asked)
        async with running_hub(upstream.url, health=QUIET, api_mode=adapter) as hub:
            await hub.hub.router.refresh()
            answer = await send(hub, "POST", *ASKING[name])
            assert answer.status == 200, answer.text
            assert [line["outcome"] for line in hub.dispatches()] == ["ok"]
        asked = [asked.is_reused for asked in upstream.asked if not is_listing(asked)]
        assert asked == [True, False]


@pytest.mark.parametrize("act", [*list(BROKEN.values())[2:]], ids=list(BROKEN)[2:])
async def test_a_part_of_an_answer_on_a_reused_connection(act: Act) -> None:
    """The upstream has read it, so it is not sent again, however many attempts there are."""
    async with raw_upstream(breaking(act)) as upstream:
        async with running_hub(upstream.url, health=QUIET, retries=RetrySettings(attempts=5)) as hub:
            await hub.hub.router.refresh()
            assert (await send(hub, "POST", *ASKING["chat"])).status == 502
        assert [asked.is_reused for asked in upstream.asked if not is_listing(asked)] == [True]


async def test_a_new_connection_is_no_reason_to_send_again() -> None:
    """An upstream that dies of a request is asked once more where its connection was reused, and then no more."""
    async with raw_upstream(breaking(CLOSE)) as upstream:
        async with running_hub(upstream.url, health=QUIET, retries=RetrySettings(attempts=9)) as hub:
            await hub.hub.router.refresh()
            for _ in range(2):
                answer = await send(hub, "POST", *ASKING["chat"])
                assert answer.status == 502
        assert [asked.is_reused for asked in upstream.asked if not is_listing(asked)] == [True, False, False]


async def test_the_other_idle_connections_are_as_stale() -> None:
    """A server that closes each connection at its second request: with five in the pool, two attempts are enough."""
    everybody, in_hand = asyncio.Event(), 0
    async with raw_upstream() as upstream, running_hub(upstream.url, health=QUIET) as hub:
        await hub.hub.router.refresh()
        upstream.act = lambda asked: CLOSE if asked.is_reused else proper(asked)

        async def one() -> int:
            nonlocal in_hand
            in_hand += 1
            if in_hand == 5:
                everybody.set()
            await everybody.wait()
            return (await send(hub, "POST", *ASKING["chat"])).status

        assert await asyncio.gather(*(one() for _ in range(5))) == [200] * 5
        for _ in range(3):
            assert (await send(hub, "POST", *ASKING["chat"])).status == 200
        assert max(asked.number for asked in upstream.asked) > 1


async def test_without_failover() -> None:
    """Without the middleware that counts attempts there is one."""
    async with raw_upstream(breaking(CLOSE)) as upstream:
        chain = ("logging", "caching", "circuit_breaker")
        async with running_hub(upstream.url, health=QUIET, middleware=chain) as hub:
            await hub.hub.router.refresh()
            assert (await send(hub, "POST", *ASKING["chat"])).status == 502
        assert [asked.is_reused for asked in upstream.asked if not is_listing(asked)] == [True]


async def test_without_a_budget() -> None:
    """``retries.budget_s = 0`` switches every second attempt off, and the failure counts."""
    async with raw_upstream(breaking(CLOSE)) as upstream:
        async with running_hub(upstream.url, health=QUIET, retries=RetrySettings(budget_s=0)) as hub:
            await hub.hub.router.refresh()
            for _ in range(3):
                assert (await send(hub, "POST", *ASKING["chat"])).status == 502
            assert (await send(hub, "POST", *ASKING["chat"])).status == 503
        assert len([asked for asked in upstream.asked if not is_listing(asked)]) == 3


@pytest.mark.parametrize(("is_reused", "count"), [(True, 2), (False, 1)], ids=["reused", "new"])
async def test_a_list_is_read_again(is_reused: bool, count: int) -> None:
    """The hub's own GETs change nothing: once more where the connection was reused, and else not."""
    async with raw_upstream() as upstream, HttpUpstream("b", BackendSettings(url=upstream.url)) as asking:
        if is_reused:
            await asking.get("/api/version")
        upstream.act = lambda asked: CLOSE
        with pytest.raises(UpstreamError, match="backend b broke off"):
            await asking.get("/api/tags")
        assert len(upstream.of("/api/tags")) == count


async def test_a_connection_that_was_closed_while_idle_is_not_taken() -> None:
    """Though the event loop has not come to it yet: a request that may be sent but once is not spent on it."""
    lane = Lane(ollama.chat.CODEC, json.dumps(ASKING["chat"][1]).encode(), raw=True)
    async with raw_upstream() as upstream, HttpUpstream("b", BackendSettings(url=upstream.url)) as asking:
        await asking.get("/api/version")
        made: Any = upstream.writers[0].get_extra_info("socket")
        made.shutdown(socket.SHUT_RDWR)
        assert [batch async for batch in asking.ask(lane)]
        assert [(asked.path, asked.connection) for asked in upstream.asked] == [("/api/version", 1), ("/api/chat", 2)]
