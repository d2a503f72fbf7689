"""``auto``: which adapter a request goes by, at upstreams that answer one API, the other, or both."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from agenthub.dialects import ollama
from agenthub.health import Health
from agenthub.modes import weigh
from agenthub.settings import BackendSettings, CachingSettings, ClientSettings, HealthSettings, ModelSettings
from agenthub.standin import Fault, Standin, running
from tests.forwarder import Forwarder
from tests.hubs import RunningHub, running_hub
from tests.upstreams import HI, Reply, Upstream, answering, serving

QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
MISSING = {
    "ollama": (),
    # It has some of Ollama's paths, and /api/tags and /api/show among them.
    "llamacpp": ("/api/version", "/api/chat", "/api/generate", "/api/embed", "/api/ps"),
    "native": ("/v1/",),
    # Whose server knows OpenAI's fields in full, as no Ollama does.
    "openai": (),
}
CHAT, OLLAMA = "/v1/chat/completions", "/api/chat"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@asynccontextmanager
async def auto_hub(kind: str, **settings: Any) -> AsyncIterator[tuple[RunningHub, Upstream]]:
    """A hub whose backend is in auto mode, before an upstream that lacks the paths of its kind."""
    async with serving(answering()) as upstream:
        upstream.missing = MISSING[kind]
        flavour = "openai" if kind == "openai" else "auto"
        backends = {"b": BackendSettings(url=upstream.url, flavour=flavour)}
        defaults: dict[str, Any] = {"health": QUIET, "api_mode": "auto"}
        async with running_hub(backends, **defaults | settings) as hub:
            yield hub, upstream


# What is asked; by which API at an Ollama, which answers both, and what is lost; the same where it is no Ollama's /v1.
TABLE: list[tuple[str, dict[str, Any], str, str, str]] = [
    (OLLAMA, {}, "native", "", "native"),
    (OLLAMA, {"options": {"num_ctx": 512}}, "native", "", "native"),
    (OLLAMA, {"options": {"temperature": 0, "seed": 1}}, "native", "", "native"),
    (OLLAMA, {"keep_alive": "5m", "think": True}, "native", "", "native"),
    (OLLAMA, {"format": {"type": "object"}, "options": {"top_k": 1}}, "native", "", "native"),
    (OLLAMA, {"logit_bias": {"5": 1}}, "native", "", "native"),
    ("/api/generate", {}, "native", "", "native"),
    ("/api/generate", {"context": [1, 2]}, "native", "", "native"),
    ("/api/generate", {"template": "{{ .Prompt }}"}, "native", "", "native"),
    ("/api/embed", {"truncate": False}, "native", "", "native"),
    (CHAT, {}, "native", "", "native"),
    (CHAT, {"temperature": 0.5, "max_tokens": 9, "seed": 1, "stop": ["x"]}, "native", "", "native"),
    (CHAT, {"num_ctx": 512}, "native", "", "native"),
    (CHAT, {"options": {"num_ctx": 512}, "keep_alive": 0, "think": False}, "native", "", "native"),
    (CHAT, {"max_completion_tokens": 9}, "native", "", "native"),
    (CHAT, {"n": 2}, "native", "", "native"),
    (CHAT, {"tools": [TOOL], "tool_choice": "none"}, "native", "", "native"),
    (CHAT, {"response_format": {"type": "json_object"}}, "native", "", "native"),
    (CHAT, {"logit_bias": {}}, "native", "", "native"),
    (CHAT, {"logit_bias": {"5": 1}}, "openai", "logit_bias", "openai"),
    (CHAT, {"logit_bias": {"5": 1}, "max_completion_tokens": 9}, "openai", "logit_bias", "openai"),
    (CHAT, {"web_search_options": {}}, "openai", "web_search_options", "openai"),
    (CHAT, {"user": "u"}, "native", "user", "openai"),
    (CHAT, {"user": "u", "max_completion_tokens": 9}, "native", "user", "openai"),
    (CHAT, {"user": "u", "num_ctx": 512}, "native", "user", "openai"),
    (CHAT, {"parallel_tool_calls": False, "tools": [TOOL]}, "native", "parallel_tool_calls", "openai"),
    (CHAT, {"messages": [{"role": "user", "content": "hi", "name": "ann"}]}, "native", "messages.name", "openai"),
    (CHAT, {"a_new_field": 1}, "native", "a_new_field", "openai"),
    ("/v1/completions", {}, "native", "", "native"),
    ("/v1/completions", {"prompt": ["a", "b"]}, "native", "", "native"),
    ("/v1/completions", {"echo": True}, "openai", "echo", "openai"),
    ("/v1/completions", {"best_of": 2, "n": 1}, "openai", "best_of", "openai"),
    ("/v1/embeddings", {"dimensions": 2}, "native", "", "native"),
    ("/v1/embeddings", {"user": "u"}, "native", "user", "openai"),
]
NAMES = [f"{path}-{'-'.join(fields) or 'plain'}-{place}" for place, (path, fields, *_) in enumerate(TABLE)]


def body_of(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    asked: dict[str, Any] = {"messages": HI, "stream": False} if "chat" in path else {"prompt": "hi", "stream": False}
    return {"model": "m"} | ({"input": "hi"} if "embed" in path else asked) | fields


@pytest.mark.parametrize(("path", "fields", "mode", "dropped", "elsewhere"), TABLE, ids=NAMES)
async def test_the_fewest_losses_win(
    path: str, fields: dict[str, Any], mode: str, dropped: str, elsewhere: str
) -> None:
    """Native on a tie; where but one API is answered it is that one, whatever is lost."""
    modes = {}
    for kind in MISSING:
        async with auto_hub(kind) as (hub, upstream):
            answer = await hub.post(path, body_of(path, fields))
            modes[kind] = answer.headers.get("X-AgentHub-Api-Mode")
            if kind == "ollama":
                assert (answer.status, answer.headers.get("X-AgentHub-Dropped", "")) == (200, dropped), answer.text
            if answer.status == 200:
                api = {"native": "/api/", "openai": "/v1/"}[modes[kind] or ""]
                assert all(asked.startswith(api) for asked in upstream.paths)
                assert upstream.paths
            else:
                # Refused by name, since the only API there is cannot carry it.
                assert (answer.status, upstream.paths) == (400, [])
    refused = {"llamacpp": "template" in fields or "context" in fields, "native": elsewhere == mode == "openai"}
    alone = {"llamacpp": "openai", "native": "native"}
    expected = {kind: None if refused[kind] else only for kind, only in alone.items()}
    assert modes == {"ollama": mode, "openai": elsewhere} | expected


async def test_what_is_upkeep_takes_the_api_that_answers() -> None:
    """Lists, show, ps, the version and management go through an adapter that answers and has the verb."""
    for version, missing in (("0.33.0", ""), ("0.33.0", "/v1/models")):
        standin = Standin(version=version)
        async with running(standin) as url:
            if missing:
                standin.script(*[Fault.answer(404, "no").at(missing)] * 9)
            async with running_hub(url, api_mode="auto", health=QUIET) as hub:
                assert "standin:latest" in (await hub.get("/api/tags")).text
                assert (await hub.get("/api/version")).json() == {"version": "0.33.0"}
                assert (await hub.post("/api/show", {"model": "standin"})).json()["modelfile"]
                assert (await hub.post("/api/copy", {"source": "standin", "destination": "b"})).status == 200
                assert (await hub.get("/api/ps")).json() == {"models": []}
    async with auto_hub("llamacpp") as (hub, _):
        assert [model["name"] for model in (await hub.get("/api/tags")).json()["models"]] == ["m"]
        assert (await hub.get("/api/ps")).json() == {"models": []}
        refused = await hub.post("/api/copy", {"source": "m", "destination": "b"})
        assert (refused.status, refused.json()) == (
            501,
            {"error": "copy is not supported by backend b through its openai API"},
        )


async def test_the_start_says_so() -> None:
    """The line of the start, and which APIs were found."""
    async with auto_hub("llamacpp") as (hub, _):
        await hub.get("/api/tags")
        lines = [line for line in hub.lines if "backend" in line]
        assert [(line["event"], line["backend"]) for line in lines] == [
            ("Using auto-detected Ollama API", "b"),
            ("agenthub.apis_detected", "b"),
        ]
        assert (lines[0]["api_mode"], lines[1]["answers"]) == ("auto", ["openai"])


async def test_the_header_may_ask_for_it_at_any_time() -> None:
    """The first that does waits until it is known what the upstream answers; until then nobody asks."""
    async with auto_hub("llamacpp", api_mode="openai") as (hub, upstream):
        backend = hub.hub.router.backends["b"]
        assert (await hub.post(CHAT, body_of(CHAT, {}))).status == 200
        assert backend.answers == frozenset()
        answer = await hub.post(OLLAMA, body_of(OLLAMA, {}), X_AgentHub_Api_Mode="auto")
        assert (answer.status, answer.headers["X-AgentHub-Api-Mode"]) == (200, "openai")
        assert backend.answers == {"openai"}
        # From now on the health checks keep it.
        upstream.missing = ()
        await Health(hub.hub.router).check()
        assert backend.answers == {"native", "openai"}


@pytest.mark.parametrize(
    "settings",
    [
        {"clients": {"c": ClientSettings(api_mode="auto")}},
        {"models": {"m": ModelSettings(target="m", api_mode="auto")}},
    ],
)
async def test_a_client_or_an_alias_may_ask_for_it(settings: Any) -> None:
    """Then the backends that it concerns are asked at the start; other requests go as they did."""
    async with auto_hub("llamacpp", **{"api_mode": "openai"} | settings) as (hub, upstream):
        answer = await hub.post(OLLAMA, body_of(OLLAMA, {}), X_Client_Name="c")
        assert (answer.status, answer.headers["X-AgentHub-Api-Mode"]) == (200, "openai")
        assert hub.hub.router.backends["b"].answers == {"openai"}
        assert "/api/version" in upstream.looked_up


async def test_a_server_that_only_fails_keeps_its_apis() -> None:
    """What was answered once is not forgotten for a server that is down, or slow; a 404 says that it is gone."""
    standin = Standin()
    async with running(standin) as url:
        forwarder = Forwarder("127.0.0.1", int(url.rpartition(":")[2]))
        await forwarder.start()
        try:
            async with running_hub(forwarder.url, api_mode="auto", health=QUIET) as hub:
                await hub.get("/api/tags")
                (backend,), health = hub.hub.router.backends.values(), Health(hub.hub.router)
                assert backend.answers == {"native", "openai"}
                await forwarder.stop()
                await health.check()
                assert (backend.is_up, backend.answers) == (False, frozenset({"native", "openai"}))
                await forwarder.start()
                standin.script(Fault.answer(503, "loading").at("/api/version"))
                await health.check()
                assert (backend.is_up, backend.answers) == (True, frozenset({"native", "openai"}))
                standin.script(Fault.answer(404, "no").at("/api/version"))
                await health.check()
                assert backend.answers == {"openai"}
                await health.check()
                assert backend.answers == {"native", "openai"}
        finally:
            await forwarder.stop()


async def test_who_answers_anything_is_no_ollama() -> None:
    """Some servers answer 200 to paths that they do not know: without a version they are no Ollama."""
    async with serving(answering()) as upstream:
        upstream.listed = {"data": [{"id": "m"}], "error": "Unexpected endpoint or method. (GET /api/version)"}
        async with running_hub(upstream.url, api_mode="auto", health=QUIET) as hub:
            answer = await hub.post(OLLAMA, body_of(OLLAMA, {}))
            assert (answer.status, answer.headers["X-AgentHub-Api-Mode"]) == (200, "openai")


async def test_moving_decides_anew() -> None:
    """A request that moves to the next backend goes there by the API that this one answers."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(lambda path, body: Reply({"error": "broken"}, status=500)))
        second = await stack.enter_async_context(serving(answering()))
        first.missing, second.missing = MISSING["native"], MISSING["llamacpp"]
        backends = {"one": BackendSettings(url=first.url, priority=1), "two": BackendSettings(url=second.url)}
        hub = await stack.enter_async_context(running_hub(backends, api_mode="auto", health=QUIET))
        answer = await hub.post(OLLAMA, body_of(OLLAMA, {"options": {"num_ctx": 512}}))
        told = {name: answer.headers.get(f"X-AgentHub-{name}") for name in ("Backend", "Api-Mode", "Dropped")}
        assert told == {"Backend": "two", "Api-Mode": "openai", "Dropped": "options.num_ctx"}
        assert (first.paths, second.paths) == (["/api/chat"], [CHAT])


async def test_answers_are_kept_apart_by_what_was_lost() -> None:
    """An answer that was made without a field is none for a request that keeps it; what lost nothing serves both."""
    async with auto_hub("ollama", caching=CachingSettings(policy="all")) as (hub, upstream):

        async def ask(path: str, fields: dict[str, Any], mode: str) -> tuple[str, str]:
            answer = await hub.post(path, body_of(path, fields), X_AgentHub_Api_Mode=mode)
            return answer.headers["X-AgentHub-Api-Mode"], answer.headers["X-AgentHub-Cache"]

        wide = {"options": {"num_ctx": 512}}
        assert await ask(OLLAMA, wide, "openai") == ("openai", "miss")
        assert await ask(OLLAMA, wide, "auto") == ("native", "miss")
        assert await ask(OLLAMA, wide, "auto") == ("native", "hit")
        assert await ask(OLLAMA, wide, "openai") == ("openai", "hit")
        assert await ask(OLLAMA, {}, "openai") == ("openai", "miss")
        assert await ask(OLLAMA, {}, "auto") == ("native", "hit")
        assert await ask(CHAT, {}, "auto") == ("native", "hit")
        assert upstream.paths == [CHAT, OLLAMA, CHAT]


async def test_what_speaks_for_and_against_each() -> None:
    """The adapters as they were weighed, the one that is taken first."""
    async with auto_hub("llamacpp") as (hub, _):
        await hub.get("/api/tags")
        backend = hub.hub.router.backends["b"]
        body = body_of(OLLAMA, {"options": {"num_ctx": 512}})
        request = ollama.CODECS[OLLAMA].parse_request(json.dumps(body).encode())
        shown = [
            (one.kind, one.answers, one.is_able, [loss.field for loss in one.losses]) for one in weigh(backend, request)
        ]
        assert shown == [("openai", True, True, ["options.num_ctx"]), ("native", False, True, [])]
