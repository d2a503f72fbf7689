"""Loading and unloading a model by asking it nothing, and how long it stays: in both APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthub.dialects.ollama.fields import is_zero, parse_keep_alive
from agenthub.settings import BackendSettings, ModelSettings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, running_hub
from tests.upstreams import Reply, Upstream, answering, serving

LOADS: list[tuple[str, dict[str, Any], str]] = [
    ("/api/generate", {}, "load"),
    ("/api/generate", {"prompt": "", "stream": True, "keep_alive": "10m"}, "load"),
    ("/api/generate", {"keep_alive": 0}, "unload"),
    ("/api/generate", {"keep_alive": "0"}, "unload"),
    ("/api/generate", {"keep_alive": "0h0m"}, "unload"),
    ("/api/generate", {"keep_alive": -1}, "load"),
    ("/api/generate", {"keep_alive": "-1"}, "load"),
    ("/api/chat", {}, "load"),
    ("/api/chat", {"messages": [], "keep_alive": 0}, "unload"),
    ("/api/chat", {"messages": [], "stream": True, "keep_alive": "0s"}, "unload"),
]
EMPTY: dict[str, dict[str, Any]] = {
    "/api/generate": {"response": ""},
    "/api/chat": {"message": {"role": "assistant", "content": ""}},
}


@pytest.fixture(params=["native", "openai"])
async def hub(request: pytest.FixtureRequest, standin: Standin) -> AsyncIterator[RunningHub]:
    # A server of the OpenAI API that is no Ollama: it loads by itself, and the hub tells what it asked for.
    async with running(standin) as upstream:
        backend = BackendSettings(url=upstream, api_mode=request.param, flavour="generic")
        async with running_hub({"ollama": backend}) as running_one:
            yield running_one


@pytest.mark.parametrize(("path", "fields", "reason"), LOADS)
async def test_a_load_is_one_object(hub: RunningHub, path: str, fields: dict[str, Any], reason: str) -> None:
    """Never a stream, whatever ``stream`` says, and without figures of an answer; ps tells what is loaded."""
    answer = await hub.post(path, {"model": "standin"} | fields)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    body = answer.json()
    assert body.pop("created_at")
    assert body == {"model": "standin", "done": True, "done_reason": reason, **EMPTY[path]}
    loaded = [entry["name"] for entry in (await hub.get("/api/ps")).json()["models"]]
    assert loaded == (["standin:latest"] if reason == "load" else [])


async def test_a_load_by_embedding_nothing(hub: RunningHub) -> None:
    """No vectors, of either endpoint."""
    embedded = await hub.post("/api/embed", {"model": "standin-embed"})
    assert (embedded.status, embedded.json()) == (200, {"model": "standin-embed", "embeddings": []})
    legacy = await hub.post("/api/embeddings", {"model": "standin-embed", "prompt": ""})
    assert (legacy.status, legacy.json()) == (200, {"embedding": []})


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_empty_completion_stops(hub: RunningHub, streamed: bool) -> None:
    """``load`` is no finish reason of OpenAI's, though Ollama's own /v1 says so."""
    answer = await hub.post("/v1/completions", {"model": "standin", "prompt": "", "stream": streamed})
    assert answer.status == 200
    (choice,) = answer.frames()[0]["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize(
    ("keep_alive", "words"),
    [
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ("soon", 'time: invalid duration "soon"'),
    ],
)
async def test_what_is_no_duration(hub: RunningHub, keep_alive: object, words: str) -> None:
    """400 in Ollama's words."""
    answer = await hub.post("/api/generate", {"model": "standin", "keep_alive": keep_alive})
    assert (answer.status, answer.json()) == (400, {"error": words})


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        (b'"-1"', b"-1"),
        (b'"300"', b"300"),
        (b'"1.5"', b"1.5"),
        (b'"5m"', b'"5m"'),
        (b"1.50", b"1.50"),
        (b"null", b"null"),
    ],
)
async def test_a_number_in_quotes_is_sent_as_a_number(standin: Standin, written: bytes, sent: bytes) -> None:
    """Ollama takes it for a duration without a unit, and refuses it; all other bytes stay as they are."""
    body = b'{"model":"standin", "prompt":"hi", "Keep_Alive" : %s, "stream":false}'
    async with running(standin) as upstream, running_hub(upstream) as hub:
        assert (await hub.post("/api/generate", body % written)).status == 200
    assert standin.requests[-1].body == body % sent


LOADED = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "load"}
MISSING = {"error": "model 'm' not found"}


def ollama_of(upstream: Upstream, **settings: Any) -> dict[str, BackendSettings]:
    return {"b": BackendSettings(upstream.url, api_mode="openai", **settings)}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        *((path, fields) for path, fields, _ in LOADS),
        ("/api/embed", {"model": "standin-embed"}),
        ("/api/embed", {"model": "standin-embed", "input": [], "keep_alive": 0}),
        ("/api/embeddings", {"model": "standin-embed", "prompt": ""}),
    ],
)
async def test_an_ollama_is_asked_by_its_own_api(standin: Standin, path: str, fields: dict[str, Any]) -> None:
    """In openai mode too, since its OpenAI-compatible API neither loads nor unloads: it gets the client's own body."""
    body = {"model": "standin"} | fields
    async with (
        running(standin) as upstream,
        running_hub({"b": BackendSettings(upstream, api_mode="openai")}) as hub,
    ):
        for asked in ({"model": body["model"]}, body):
            answer = await hub.post(path, asked)
            assert (answer.status, answer.headers["X-AgentHub-Api-Mode"]) == (200, "openai")
        sent = [each.json() for each in standin.requests if each.path == path]
        numbers = {"keep_alive": int(fields["keep_alive"])} if fields.get("keep_alive") in ("0", "-1") else {}
        assert sent == [{"model": body["model"]}, body | numbers]
        async with hub.http.get(f"{upstream}/api/ps") as response:
            held = [entry["name"] for entry in (await response.json())["models"]]
    unloads = is_zero(parse_keep_alive(fields.get("keep_alive")))
    assert held == ([] if unloads else [f"{body['model']}:latest"])


async def test_what_a_load_carries() -> None:
    """The options, those of an alias as well, and its target; strict clients lose nothing."""
    async with serving(lambda path, body: Reply(LOADED | {"response": ""})) as upstream:
        alias = ModelSettings(target="m", options={"num_ctx": 8192})
        async with running_hub(ollama_of(upstream), models={"gpt": alias}) as hub:
            asked = {"model": "gpt", "keep_alive": "1h", "options": {"num_gpu": 0}}
            answer = await hub.post("/api/generate", asked, X_AgentHub_Strict="true")
            assert (answer.status, answer.headers.get("X-AgentHub-Dropped")) == (200, None)
            assert answer.json()["model"] == "gpt"
    assert upstream.paths == ["/api/generate"]
    assert upstream.asked == [asked | {"model": "m", "options": {"num_ctx": 8192, "num_gpu": 0}}]


@pytest.mark.parametrize("keep_alive", [0, "5m"], ids=["unload", "load"])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed"])
async def test_a_load_of_a_model_that_is_missing(path: str, keep_alive: object) -> None:
    """404 in Ollama's words, and no word that it was loaded or unloaded."""
    async with serving(lambda path, body: Reply(MISSING, status=404)) as upstream:
        upstream.listed = {"models": [], "data": [], "version": "0.9.3"}
        async with running_hub(ollama_of(upstream)) as hub:
            answer = await hub.post(path, {"model": "m", "keep_alive": keep_alive})
    assert (answer.status, answer.json()) == (404, MISSING)


async def test_a_load_that_fails() -> None:
    """The server's own error; a mistake of the client's does not feed the breaker."""
    problem = 'option "num_ctx" must be of type integer'
    async with (
        serving(lambda path, body: Reply({"error": problem}, status=500)) as upstream,
        running_hub(ollama_of(upstream)) as hub,
    ):
        for _ in range(4):
            answer = await hub.post("/api/generate", {"model": "m", "options": {"num_ctx": "x"}})
            assert (answer.status, answer.json()) == (500, {"error": problem})
    assert len(upstream.asked) == 4


@pytest.mark.parametrize("blocked", [True, False], ids=["404", "a page"])
async def test_an_ollama_without_its_own_api(blocked: bool) -> None:
    """Behind a proxy that passes nothing but /v1 the hub tells what it was asked for, as for any other server."""
    reply = answering()

    def behind_proxy(path: str, body: Any) -> Reply:
        return Reply("<html>nothing here</html>") if path.startswith("/api/") else reply(path, body)

    async with serving(behind_proxy) as upstream:
        upstream.missing = ("/api/",) if blocked else ()
        async with running_hub(ollama_of(upstream, flavour="ollama")) as hub:
            answer = await hub.post("/api/generate", {"model": "m"})
            assert (answer.status, answer.json()["done_reason"]) == (200, "load")


@pytest.mark.parametrize("flavour", ["generic", "llamacpp", "vllm", "openai"])
async def test_other_servers_are_not_asked(flavour: str) -> None:
    """Who is no Ollama, or is not to be taken for one, gets no request that it could not know."""
    async with serving(answering()) as upstream, running_hub(ollama_of(upstream, flavour=flavour)) as hub:
        assert (await hub.post("/api/generate", {"model": "m"})).json()["done_reason"] == "load"
        assert (await hub.post("/api/chat", {"model": "m", "keep_alive": 0})).json()["done_reason"] == "unload"
    assert upstream.asked == []
