"""Loading and unloading a model by asking it nothing, and how long it stays: in both APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthub.settings import BackendSettings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, running_hub

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
