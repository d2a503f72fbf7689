"""Where the parts meet: what each does right alone must be right together."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import attrs
import pytest

from agenthub.app import make_hub
from agenthub.plugins import make_plugins
from agenthub.settings import BackendSettings, HealthSettings, Settings
from agenthub.standin import Standin, running
from tests.hubs import running_hub

PING_S = 0.02
LARGE = "word " * 2**20
CHAT: dict[str, Any] = {"model": "standin", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


async def test_nothing_follows_the_end_of_a_stream_that_its_client_takes_slowly() -> None:
    """No ping comes while the end waits for its client: the next answer on the connection would begin with it."""
    async with running(Standin(text=LARGE)) as upstream, running_hub(upstream, sse_ping_s=PING_S) as hub:
        assert (await hub.post("/v1/chat/completions", CHAT)).headers["X-AgentHub-Cache"] == "miss"
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        host, port = hub.url.removeprefix("http://").split(":")
        await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=client, limit=2**16)
        body = json.dumps({**CHAT, "stream": True})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(f"{head}{body}".encode())
        assert b"X-AgentHub-Cache: hit" in await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(10 * PING_S)  # in which pings would be due
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        assert await reader.readline() == b"\r\n"
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()


async def test_a_request_that_one_backend_has_no_place_for_goes_to_one_that_has() -> None:
    """Whose turn it is does not decide whether a strict request is answered; where none takes it, it is refused."""
    async with running(Standin()) as upstream:
        backends = {
            "narrow": BackendSettings(url=upstream, api_mode="openai", priority=1),
            "wide": BackendSettings(url=upstream, api_mode="native"),
        }
        quiet = HealthSettings(models_refresh_s=0, interval_s=0)
        async with running_hub(backends, health=quiet) as hub:
            body = {"model": "standin", "messages": CHAT["messages"], "stream": False, "options": {"num_ctx": 64}}
            loose = await hub.post("/api/chat", body)
            assert (loose.status, loose.headers["X-AgentHub-Backend"]) == (200, "narrow")
            strict = await hub.post("/api/chat", body, X_AgentHub_Strict="true")
            assert (strict.status, strict.headers["X-AgentHub-Backend"]) == (200, "wide")
            nowhere = await hub.post("/api/chat", body, X_AgentHub_Strict="true", X_AgentHub_Api_Mode="openai")
            assert nowhere.status == 400


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [({"weight": 2}, True), ({"max_concurrency": 2}, True), ({"url": "http://127.0.0.1:8"}, False)],
)
async def test_what_runs_at_a_backend_counts_after_a_reload(change: dict[str, Any], is_kept: bool) -> None:
    """Only another server begins a new count; else a new weight or limit would let in too many."""
    backend = BackendSettings(url="http://127.0.0.1:9", max_concurrency=1)
    settings = Settings(backends={"b": backend})
    before = make_hub(settings, make_plugins(settings.plugins))
    assert before.router.backends["b"].slots.take()
    changed = attrs.evolve(settings, backends={"b": attrs.evolve(backend, **change)})
    after = make_hub(changed, before.plugins, kept=before.kept.next())
    assert after.router.backends["b"].slots.is_full is is_kept


async def test_a_model_is_shown_by_a_backend_that_is_up() -> None:
    """One that the health checks found dead is not waited for, though it comes first and has the model."""
    async with running(Standin()) as upstream, running(Standin()) as other:
        backends = {"dead": BackendSettings(url=upstream), "alive": BackendSettings(url=other)}
        quiet = HealthSettings(models_refresh_s=0, interval_s=0)
        async with running_hub(backends, health=quiet) as hub:
            first = await hub.post("/api/show", {"model": "standin"})
            assert (first.status, first.headers["X-AgentHub-Backend"]) == (200, "dead")
            hub.hub.router.backends["dead"].is_up = False
            second = await hub.post("/api/show", {"model": "standin"})
            assert (second.status, second.headers["X-AgentHub-Backend"]) == (200, "alive")
