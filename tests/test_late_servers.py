"""A server that comes up after the hub: what it is is found out before the first request that depends on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from aiohttp import web

from agenthub.settings import BackendSettings, HealthSettings, ModelSettings
from agenthub_adapter_openai.server import AGAIN_S
from tests.hubs import Clock, RunningHub, running_hub
from tests.ports import free_port
from tests.upstreams import HI, Upstream, answering

CHAT, VERSION = "/v1/chat/completions", "/api/version"
NEVER = HealthSettings(interval_s=0)
OLLAMA = {"models": [{"name": "m"}], "data": [{"id": "m", "owned_by": "library"}], "version": "0.9.3"}
BODY = {"model": "m", "messages": HI, "max_completion_tokens": 5}


@attrs.define
class Late:
    """An upstream whose port is known before it listens."""

    port: int
    upstream: Upstream = attrs.field(factory=lambda: Upstream(answering(), listed=OLLAMA))
    runner: web.AppRunner | None = None
    status: int = 200
    """With which it answers to the question for its version; 0: it keeps silent."""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def handle(self, request: web.Request) -> web.Response:
        if request.path == VERSION and self.status != 200:
            self.upstream.looked_up.append(VERSION)
            if not self.status:
                await asyncio.Event().wait()
            return web.json_response({"error": "no"}, status=self.status)
        return await self.upstream.handle(request)

    @property
    def questions(self) -> int:
        return self.upstream.looked_up.count(VERSION)


@asynccontextmanager
async def late_hub(**settings: Any) -> AsyncIterator[tuple[Late, RunningHub]]:
    late = Late(free_port())
    settings = {"api_mode": "openai", "health": NEVER} | settings
    flavour = settings.pop("flavour", "auto")
    backends = {"b": BackendSettings(url=f"http://127.0.0.1:{late.port}", flavour=flavour)}
    try:
        async with running_hub(backends, **settings) as hub:
            await hub.hub.router.refresh()
            yield late, hub
    finally:
        if late.runner is not None:
            await late.runner.cleanup()


async def test_an_ollama_that_comes_up_after_the_hub() -> None:
    """The first request finds it out, and only the first; while the server is down requests fail as ever."""
    async with late_hub() as (late, hub):
        assert [(await hub.post(CHAT, BODY)).status for _ in range(2)] == [502, 502]
        await late.start()
        for _ in range(3):
            assert (await hub.post(CHAT, BODY)).status == 200
        assert [sent.get("max_tokens") for sent in late.upstream.asked] == [5, 5, 5]
        assert not any("max_completion_tokens" in sent for sent in late.upstream.asked)
        assert late.questions == 1


async def test_requests_at_the_same_time_share_one_question() -> None:
    """Each of them waits for its answer."""
    async with late_hub() as (late, hub):
        await late.start()
        answers = await asyncio.gather(*(hub.post(CHAT, BODY) for _ in range(8)))
        assert [answer.status for answer in answers] == [200] * 8
        assert [sent.get("max_tokens") for sent in late.upstream.asked] == [5] * 8
        assert late.questions == 1


@pytest.mark.parametrize("by", ["header", "alias", "auto"])
async def test_a_mode_that_the_request_or_its_model_chooses(by: str) -> None:
    """The chosen adapter identifies its server, at whichever level it was chosen."""
    models = {"m": ModelSettings(target="m", api_mode="openai")} if by == "alias" else {}
    mode = "auto" if by == "auto" else "native"
    async with late_hub(api_mode=mode, models=models) as (late, hub):
        headers = {"X_AgentHub_Api_Mode": "openai"} if by == "header" else {}
        assert (await hub.post(CHAT, BODY, **headers)).status == 502
        await late.start()
        answer = await hub.post(CHAT, BODY | {"logit_bias": {"5": 1}}, **headers)
        assert answer.status == 200
        sent = late.upstream.asked[-1]
        assert sent.get("max_tokens", sent.get("options", {}).get("num_predict")) == 5


@pytest.mark.parametrize("verb", ["/api/version", "/api/ps"])
async def test_what_is_asked_outside_of_requests(verb: str) -> None:
    """The version and what is in memory are the Ollama's own at once."""
    async with late_hub() as (late, hub):
        await late.start()
        await hub.get(verb)
        assert verb in late.upstream.looked_up


async def test_a_verb_as_the_first_request() -> None:
    """Whether the server has it is not known before it is identified; while it is down nobody says that it has not."""
    async with late_hub() as (late, hub):
        refused = await hub.post("/api/pull", {"model": "x"})
        assert (refused.status, "cannot be reached" in refused.text) == (502, True)
        await late.start()
        answer = await hub.post("/api/pull", {"model": "x"})
        assert (answer.status, late.upstream.paths) == (200, ["/api/pull"])
    async with late_hub() as (late, hub):
        late.status = 404
        await late.start()
        refused = await hub.post("/api/pull", {"model": "x"})
        assert (refused.status, late.upstream.paths) == (501, [])


async def test_a_server_that_is_silent_about_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once and left alone for a while, since its list shows that it is up; requests go through."""
    monkeypatch.setattr("agenthub_adapter_openai.server._LONGEST_S", 0.2)
    async with late_hub() as (late, hub):
        late.status = 0
        await late.start()
        for _ in range(3):
            assert (await hub.post(CHAT, BODY)).status == 200
        assert late.questions == 1
        server = hub.hub.router.backends["b"].adapters["openai"].server  # type: ignore[attr-defined]
        server.clock = Clock(server.clock() + AGAIN_S + 1)
        late.status = 200
        assert (await hub.post(CHAT, BODY)).status == 200
        assert (late.questions, late.upstream.asked[-1].get("max_tokens")) == (2, 5)


@pytest.mark.parametrize("status", [404, 503])
async def test_a_server_of_another_kind(status: int) -> None:
    """It gets the client's words; one that fails at the question is not asked again for each request."""
    async with late_hub() as (late, hub):
        late.status = status
        await late.start()
        for _ in range(3):
            assert (await hub.post(CHAT, BODY)).status == 200
        assert [sent.get("max_completion_tokens") for sent in late.upstream.asked] == [5, 5, 5]
        assert late.questions == 1


async def test_a_setting_that_names_the_server() -> None:
    """Then nobody asks."""
    async with late_hub(flavour="ollama") as (late, hub):
        await late.start()
        assert (await hub.post(CHAT, BODY)).status == 200
        assert (late.upstream.asked[0].get("max_tokens"), late.questions) == (5, 0)
