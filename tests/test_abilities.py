"""What a model cannot do is refused by name before anything is sent; where nobody knows, the upstream decides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agenthub.abilities import can_show, lacks_by_list, lacks_by_show, refuse_lacking
from agenthub.canonical import Loss, ModelInfo, TextRequest
from agenthub.dialects import ollama, openai
from agenthub.errors import Unsupported
from agenthub.health import Health
from agenthub.settings import BackendSettings, HealthSettings
from agenthub.standin import Fault, Model, Standin, running
from tests.hubs import RunningHub, error_of, running_hub
from tests.upstreams import HI, PATHS, answering, serving

QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SEEING = {
    "ollama": [{"role": "user", "content": "hi", "images": [PIXEL]}],
    "openai": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ],
        }
    ],
}
MODELS = (
    Model("plain", ("completion",)),
    Model("able", ("completion", "tools", "vision", "thinking", "insert")),
    Model("blind", ("completion", "tools", "thinking")),
    Model("embed", ("embedding",)),
)


@asynccontextmanager
async def before(standin: Standin, **settings: Any) -> AsyncIterator[RunningHub]:
    async with running(standin) as url, running_hub(url, **{"health": QUIET} | settings) as hub:
        yield hub


async def learn(hub: RunningHub, *models: str) -> None:
    """Use each model once, and let a health check go by."""
    for model in models:
        await hub.post("/api/generate", {"model": model, "prompt": "hi", "stream": False})
    await Health(hub.hub.router).check()


def asked(standin: Standin, path: str = "") -> list[str]:
    """What the upstream was asked of a model, or the path in question."""
    paths = [received.path for received in standin.requests]
    return [one for one in paths if (one == path if path else one.startswith(("/api/chat", "/v1/chat")))]


NEEDS = [
    ("plain", {"tools": [TOOL]}, {"tools": [TOOL]}, "tools"),
    ("plain", {"messages": SEEING["ollama"]}, {"messages": SEEING["openai"]}, "vision"),
    ("blind", {"messages": SEEING["ollama"]}, {"messages": SEEING["openai"]}, "vision"),
    ("embed", {}, {}, "chat"),
    ("plain", {"think": True}, {"reasoning": {"effort": "high"}}, "thinking"),
    ("plain", {"think": "high"}, {"reasoning_effort": "low"}, "thinking"),
]


@pytest.mark.parametrize(("model", "native", "compatible", "word"), NEEDS)
async def test_what_a_model_lacks_is_refused(
    lane: tuple[str, str], model: str, native: dict[str, Any], compatible: dict[str, Any], word: str
) -> None:
    """In the words of the client's dialect, through either adapter, and without a word to the upstream."""
    dialect, adapter = lane
    standin = Standin(models=MODELS)
    async with before(standin, api_mode=adapter) as hub:
        await learn(hub, "plain", "blind", "embed")
        standin.requests.clear()
        body = {"model": model, "messages": HI, "stream": False} | (native if dialect == "ollama" else compatible)
        answer = await hub.post(PATHS[dialect], body)
        if native.get("think") is True and lane == ("ollama", "openai"):
            # On this way the wish goes no further: it is noted, and needs nothing.
            assert (answer.status, answer.headers["X-AgentHub-Dropped"]) == (200, "think")
            return
        assert (answer.status, error_of(answer.json())) == (400, f'"{model}" does not support {word}')
        assert asked(standin) == []
        assert hub.dispatches()[-1]["outcome"] == "rejected"
        if dialect == "openai":
            assert answer.json()["error"]["type"] == "invalid_request_error"
            assert answer.json()["error"]["param"]


async def test_what_a_model_can_do_is_not_refused(lane: tuple[str, str]) -> None:
    """All of it for a model that can; and for others what needs nothing of it."""
    dialect, adapter = lane
    standin = Standin(models=MODELS)
    async with before(standin, api_mode=adapter) as hub:
        await learn(hub, "plain", "able", "embed")
        whole = {"model": "able", "messages": SEEING[dialect], "stream": False, "tools": [TOOL]}
        assert (await hub.post(PATHS[dialect], whole)).status == 200
        off: dict[str, Any] = {"think": False} if dialect == "ollama" else {"reasoning_effort": "none"}
        nothing: list[dict[str, Any]] = [off, {"tools": []}, {"tools": None}]
        for fields in nothing:
            body = {"model": "plain", "messages": HI, "stream": False} | fields
            assert (await hub.post(PATHS[dialect], body)).status == 200, fields
        assert (await hub.post("/api/chat", {"model": "plain", "keep_alive": 0})).json()["done_reason"] == "unload"
        assert (await hub.post("/api/embed", {"model": "embed", "input": "hi"})).status == 200


async def test_it_is_asked_once_and_in_the_background() -> None:
    """Only what was used, with a health check, and never again: the first request that needs it goes through."""
    standin = Standin(models=MODELS)
    async with before(standin) as hub:
        tools = {"model": "plain", "messages": HI, "stream": False, "tools": [TOOL]}
        first = await hub.post("/api/chat", tools)
        # These are the upstream's own words.
        assert first.json() == {"error": "registry.ollama.ai/library/plain:latest does not support tools"}
        assert asked(standin, "/api/show") == []
        for _ in range(3):
            await Health(hub.hub.router).check()
        assert asked(standin, "/api/show") == ["/api/show"]
        assert (await hub.post("/api/chat", tools)).json() == {"error": '"plain" does not support tools'}
        assert asked(standin) == ["/api/chat"]


async def test_an_upstream_that_does_not_show_is_not_down() -> None:
    """What its models can do stays unknown, and it is not asked again."""
    standin = Standin(models=MODELS)
    async with before(standin) as hub:
        standin.script(Fault.answer(500, "no").at("/api/show"))
        await learn(hub, "plain")
        assert hub.hub.router.backends["ollama"].is_up
        body = {"model": "plain", "messages": HI, "stream": False, "tools": [TOOL]}
        await hub.post("/api/chat", body)
        await Health(hub.hub.router).check()
        assert (asked(standin), asked(standin, "/api/show")) == (["/api/chat"], ["/api/show"])


async def test_a_changed_model_is_a_new_one() -> None:
    """What was learned is forgotten when a model is made or deleted through the hub, or listed as another."""
    standin = Standin(models=MODELS)
    tools = {"model": "plain", "messages": HI, "stream": False, "tools": [TOOL]}
    async with before(standin) as hub:
        backend = hub.hub.router.backends["ollama"]
        for change in ("through", "beside"):
            standin.models = MODELS
            await hub.hub.router.refresh()
            await learn(hub, "plain", "embed")
            assert (await hub.post("/api/chat", tools)).status == 400
            assert backend.lacks["plain"] >= {"tools", "vision"}
            if change == "through":
                answer = await hub.post("/api/create", {"model": "plain", "from": "able", "stream": False})
                assert answer.status == 200
                assert backend.lacks == {}
            else:
                standin.put(Model("plain", ("completion", "tools"), origin="other"))
                await hub.hub.router.refresh()
                assert list(backend.lacks) == ["embed"]
            assert (await hub.post("/api/chat", tools)).status == 200


async def test_another_backend_that_can_is_asked() -> None:
    """Of two that have the model under one name, the one whose model can do it."""
    weak, strong = Standin(models=MODELS[:1]), Standin(models=[Model("plain", ("completion", "tools"))])
    async with running(weak) as one, running(strong) as other:
        backends = {"weak": BackendSettings(url=one, priority=1), "strong": BackendSettings(url=other)}
        async with running_hub(backends, health=QUIET) as hub:
            await hub.get("/api/tags")
            await learn(hub, "plain")
            for fields, backend in (({}, "weak"), ({"tools": [TOOL]}, "strong")):
                answer = await hub.post("/api/chat", {"model": "plain", "messages": HI, "stream": False} | fields)
                assert (answer.status, answer.headers["X-AgentHub-Backend"]) == (200, backend)
    assert asked(weak) == ["/api/chat"]


async def test_a_list_may_say_it() -> None:
    """Where the list of models tells, nothing needs to be used or shown before."""
    for mode, entry in (
        ("openai", {"id": "m", "capabilities": ["completion", "vision"]}),
        ("openai", {"id": "m", "capabilities": {"completion_chat": True, "function_calling": False}}),
        ("native", {"name": "m", "digest": "a" * 64, "capabilities": ["completion"]}),
    ):
        async with serving(answering()) as upstream:
            upstream.listed = {"data": [entry], "models": [entry], "version": "0.20.0"}
            async with running_hub(upstream.url, api_mode=mode, health=QUIET) as hub:
                body = {"model": "m", "messages": HI, "stream": False, "tools": [TOOL]}
                answer = await hub.post("/api/chat", body)
                assert (answer.status, answer.json()) == (400, {"error": '"m" does not support tools'})
                assert (await hub.post("/api/chat", body | {"tools": []})).status == 200
                assert len(upstream.asked) == 1


ALL = frozenset({"completion", "tools", "insert", "vision", "thinking", "effort"})
THINKING = ("thinking", "effort")
DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("dialect", "entry", "lacks"),
    [
        ("ollama", {"digest": DIGEST, "capabilities": ["completion", "tools"]}, {"insert", "vision", *THINKING}),
        ("ollama", {"digest": "a" * 64, "capabilities": ["embedding"]}, ALL),
        ("ollama", {"digest": "a" * 64, "capabilities": ["completion", "audio"]}, {"tools", "insert", *THINKING}),
        # As llama.cpp lists every model.
        ("ollama", {"digest": "", "capabilities": ["completion"]}, None),
        ("openai", {"owned_by": "llamacpp", "capabilities": ["completion"]}, None),
        ("openai", {"capabilities": ["completion", "multimodal"]}, None),
        ("openai", {"capabilities": ["chat", "tools"]}, None),
        ("openai", {"capabilities": ["tools"]}, None),
        ("openai", {"capabilities": []}, None),
        ("openai", {"capabilities": None}, None),
        ("openai", {"capabilities": [["completion"]]}, None),
        ("openai", {}, None),
        ("openai", {"capabilities": {"function_calling": False, "vision": True}}, {"tools"}),
        ("openai", {"capabilities": {"vision": None}}, set()),
    ],
)
def test_what_a_list_says(dialect: str, entry: dict[str, Any], lacks: set[str] | None) -> None:
    """Only what is in Ollama's words, and from one who means them."""
    assert lacks_by_list(ModelInfo("m", dialect, entry)) == lacks


SHOWN = {"modelfile": "# Modelfile", "capabilities": ["completion", "tools"]}


@pytest.mark.parametrize(
    ("shown", "version", "lacks"),
    [
        (SHOWN, "0.12.0", {"insert", "vision", *THINKING}),
        (SHOWN, "0.0.0", {"insert", "vision", *THINKING}),
        (SHOWN, "v1.2", {"insert", "vision", *THINKING}),
        # Its OpenAI-compatible API did not read reasoning_effort.
        (SHOWN, "0.9.3", {"insert", "vision", "thinking"}),
        # These did not know the word.
        (SHOWN, "0.8.0", {"insert", "vision"}),
        (SHOWN, "", {"insert", "vision"}),
        (SHOWN | {"capabilities": []}, "0.9.3", set()),
        (SHOWN | {"capabilities": None}, "0.9.3", set()),
        ({"modelfile": "", "capabilities": ["completion"]}, "0.9.3", set()),
        ([], "0.9.3", set()),
    ],
)
def test_what_show_says(shown: Any, version: str, lacks: set[str]) -> None:
    """Only what an Ollama says; what its version did not know it does not lack."""
    assert lacks_by_show(json.dumps(shown).encode(), version) == lacks


@pytest.mark.parametrize("body", [b"", b"<html>", b"null"])
def test_what_is_no_answer_of_show(body: bytes) -> None:
    """It says nothing."""
    assert lacks_by_show(body, "0.9.3") == frozenset()


@pytest.mark.parametrize(
    ("dialect", "name", "entry", "can"),
    [
        ("ollama", "m", {"digest": "a" * 64}, True),
        ("ollama", "m", {"digest": ""}, False),
        ("openai", "m", {"owned_by": "library"}, True),
        ("openai", "me/m", {"owned_by": "me"}, True),
        ("openai", "m", {"owned_by": "vllm"}, False),
        ("openai", "m", {}, False),
    ],
)
def test_who_is_asked(dialect: str, name: str, entry: dict[str, Any], can: bool) -> None:
    """Only what seems to be an Ollama, which owns its models or the namespace that they are in."""
    assert can_show(ModelInfo(name, dialect, entry)) is can


def ask(path: str, fields: dict[str, Any]) -> TextRequest:
    wanted = {"messages": HI} if "chat" in path else {"prompt": "hi"}
    codecs = ollama.CODECS if path.startswith("/api/") else openai.CODECS
    request = codecs[path].parse_request(json.dumps({"model": "m"} | wanted | fields).encode())
    assert isinstance(request, TextRequest)
    return request


@pytest.mark.parametrize(
    ("path", "fields", "losses", "word"),
    [
        ("/api/generate", {}, [], "generate"),
        ("/api/chat", {}, [], "chat"),
        ("/api/chat", {"messages": []}, [], ""),
        ("/api/generate", {"prompt": ""}, [], ""),
        ("/v1/completions", {}, [], "generate"),
    ],
)
def test_a_model_that_only_embeds(path: str, fields: dict[str, Any], losses: Sequence[Loss], word: str) -> None:
    """It can neither chat nor generate, but be loaded."""
    assert refusal(ask(path, fields), {"completion"}, losses) == (f'"m" does not support {word}' if word else "")


@pytest.mark.parametrize(
    ("path", "fields", "losses", "word"),
    [
        ("/api/generate", {"suffix": "x"}, [], "insert"),
        ("/api/generate", {"images": [PIXEL]}, [], "vision"),
        ("/api/generate", {"think": "low"}, [], "thinking"),
        ("/api/chat", {"think": True}, [Loss("think")], ""),
        ("/v1/chat/completions", {"tools": [TOOL], "tool_choice": "none"}, [], ""),
        ("/v1/chat/completions", {"tools": [TOOL], "tool_choice": "auto"}, [], "tools"),
        ("/v1/chat/completions", {"functions": [TOOL["function"]]}, [], "tools"),
        ("/api/chat", {}, [], ""),
    ],
)
def test_what_a_request_needs(path: str, fields: dict[str, Any], losses: Sequence[Loss], word: str) -> None:
    """Of a model that completes and nothing else; what is lost on the way it does not need."""
    assert refusal(ask(path, fields), ALL - {"completion"}, losses) == (f'"m" does not support {word}' if word else "")


@pytest.mark.parametrize(
    ("path", "fields", "word"),
    [
        ("/v1/chat/completions", {"think": True}, ""),
        ("/v1/chat/completions", {"reasoning_effort": "low"}, "thinking"),
        ("/v1/chat/completions", {"reasoning": {"effort": "low"}}, "thinking"),
        ("/v1/chat/completions", {"reasoning_effort": "none"}, ""),
        ("/api/chat", {"think": "low"}, "thinking"),
    ],
)
def test_a_wish_to_think_that_nobody_reads(path: str, fields: dict[str, Any], word: str) -> None:
    """Ollama's ``think`` goes through the OpenAI-compatible API as it is, and is passed over there."""
    request, words = ask(path, fields), f'"m" does not support {word}' if word else ""
    assert refusal(request, {"effort"}, (), "openai") == words
    assert refusal(request, {"effort"}, (), "native") == ""


def refusal(
    request: TextRequest, lacks: set[str] | frozenset[str], losses: Sequence[Loss], api_mode: str = "native"
) -> str:
    """Return the words of the refusal, empty where there is none."""
    try:
        refuse_lacking(request, api_mode, frozenset(lacks), losses)
    except Unsupported as error:
        return f"{error}" if error.status == 400 else f"{error.status} {error}"
    return ""
