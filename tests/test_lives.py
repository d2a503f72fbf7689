"""A hub that takes the place of another while both answer."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import attrs
import pytest

from agenthub.api.hub import Hub
from agenthub.app import make_hub
from agenthub.cli.server import Server
from agenthub.errors import AgentHubError
from agenthub.plugins import make_plugins
from agenthub.settings import BackendSettings, Settings
from agenthub.standin import Standin, running

pytestmark = pytest.mark.usefixtures("fast_clock")

CHAT = {"model": "standin", "messages": [{"role": "user", "content": "Hello"}]}


def another(hub: Hub) -> Hub:
    """Return a hub of the same settings that goes on with what the other keeps."""
    return make_hub(hub.settings, make_plugins(hub.settings.plugins), kept=hub.kept.next())


async def test_a_hub_lives_until_its_last_request() -> None:
    """Each hub that was replaced is closed when the stream that it answers has ended, with all its tasks."""
    standin = Standin(pace_s=0.01)
    async with running(standin) as upstream, aiohttp.ClientSession() as session:
        server = Server(Settings(port=0, backends={"one": BackendSettings(upstream)}))
        async with server as url:
            before = len(asyncio.all_tasks())
            hubs, streams = [server.serving.hub], []
            for _ in range(3):
                stream = await session.post(f"{url}/api/chat", json=CHAT)
                streams.append((stream, await stream.content.readline()))
                await server.lives.replace(another(hubs[-1]))
                hubs.append(server.serving.hub)
            assert [len(hub.running) for hub in hubs] == [1, 1, 1, 0]
            assert len(server.lives.running) == 3
            for stream, _ in streams:
                assert json.loads((await stream.read()).splitlines()[-1])["done"] is True
            async with asyncio.timeout(10):
                while True:
                    if len(asyncio.all_tasks()) <= before + 3:  # the connections to the client
                        break
                    await asyncio.sleep(0.01)
            assert [len(hub.running) for hub in hubs] == [0, 0, 0, 0]
    assert standin.abandoned.count == 0


async def test_places_at_a_backend_are_counted_through_a_reload() -> None:
    """A new limit holds at once, and what runs since before counts."""
    async with running(Standin(endless=True, pace_s=0.01)) as upstream, aiohttp.ClientSession() as session:
        backend = BackendSettings(upstream, queue_size=0)
        server = Server(Settings(port=0, drain_s=0, backends={"one": backend}))

        async def limit(most: int) -> None:
            changed = attrs.evolve(
                server.serving.hub.settings, backends={"one": attrs.evolve(backend, max_concurrency=most)}
            )
            kept = server.serving.hub.kept.next()
            await server.lives.replace(make_hub(changed, make_plugins(changed.plugins), kept=kept))

        async with server as url:
            streams, statuses = [], []
            for most in (0, 1, 2, 2, 0):
                await limit(most)
                streams.append(await session.post(f"{url}/api/chat", json=CHAT))
                statuses.append(streams[-1].status)
            assert statuses == [200, 503, 200, 503, 200]
            for stream in streams:
                stream.close()


async def test_a_hub_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the new hub cannot be opened, the old one goes on, and what was opened of the new one is closed."""
    async with running(Standin()) as upstream, aiohttp.ClientSession() as session:
        server = Server(Settings(port=0, backends={"one": BackendSettings(upstream)}))
        async with server as url:
            old = server.serving.hub
            new = another(old)
            native, openai = new.router.backends["one"].adapters.values()

            async def fails(*_: object) -> None:
                raise AgentHubError("cannot be opened")

            monkeypatch.setattr(type(openai), "__aenter__", fails)
            with pytest.raises(AgentHubError, match="cannot be opened"):
                await server.lives.replace(new)
            assert server.serving.hub is old
            assert native.upstream._client.session.closed  # type: ignore[attr-defined]
            async with session.post(f"{url}/api/chat", json=CHAT | {"stream": False}) as response:
                assert response.status == 200
