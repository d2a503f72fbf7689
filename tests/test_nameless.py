"""Tools without a name: no Ollama gets one, in any lane, since it dies of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agenthub.settings import BackendSettings, CircuitBreakerSettings, ModelSettings
from tests.hubs import error_of, running_hub
from tests.upstreams import Upstream, answering, serving

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
GOOD = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
NAMELESS: dict[str, Any] = {
    "custom": {"type": "custom", "custom": {"name": "f"}},
    "nothing": {},
    "no-function": {"type": "function"},
    "function-null": {"type": "function", "function": None},
    "function-a-text": {"type": "function", "function": "f"},
    "function-empty": {"type": "function", "function": {}},
    "no-name": {"type": "function", "function": {"description": "f", "parameters": {}}},
    "name-empty": {"type": "function", "function": {"name": ""}},
    "name-null": {"type": "function", "function": {"name": None}},
    "name-a-number": {"type": "function", "function": {"name": 3}},
    "name-an-object": {"type": "function", "function": {"name": {"name": "f"}}},
    "no-type": {"function": {"name": ""}},
    "responses": {"type": "function", "name": "f", "parameters": {}},
    "server-side": {"type": "web_search"},
    "another-spelling": {"type": "function", "function": {"name": "f"}, "Function": {"NAME": ""}},
}
LIBRARY = {"models": [{"name": "m"}], "data": [{"id": "m", "owned_by": "library"}], "version": "0.9.3"}
OTHER = {"data": [{"id": "m", "owned_by": "acme"}]}


def chat(*tools: Any, **fields: Any) -> dict[str, Any]:
    asked = {"tools": list(tools)} if tools else {}
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False, **asked, **fields}


@asynccontextmanager
async def ollama_serving() -> AsyncIterator[Upstream]:
    """Serve what lists its models as an Ollama does."""
    async with serving(answering()) as upstream:
        upstream.listed = LIBRARY
        yield upstream


@pytest.mark.parametrize("flavour", ["generic", "ollama"])
@pytest.mark.parametrize("name", NAMELESS)
async def test_a_nameless_tool_is_refused(lane: tuple[str, str], name: str, flavour: str) -> None:
    """It is a 400 that names the tool, before anything is sent to anybody, and no failure of a backend."""
    dialect, adapter = lane
    async with ollama_serving() as one, ollama_serving() as two:
        backends = {each: BackendSettings(up.url, flavour=flavour) for each, up in (("one", one), ("two", two))}
        breaker = CircuitBreakerSettings(failure_threshold=1)
        async with running_hub(backends, api_mode=adapter, circuit_breaker=breaker) as hub:
            refused = await hub.post(PATHS[dialect], chat(GOOD, GOOD, NAMELESS[name]))
            assert refused.status == 400
            assert error_of(refused.json()).startswith("tools[2].function.name is missing or empty: an Ollama would")
            if dialect == "openai":
                assert refused.json()["error"]["param"] == "tools[2].function.name"
            assert (one.paths, two.paths) == ([], [])
            assert (await hub.post(PATHS[dialect], chat(GOOD))).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        b'"Tools":[{}]',
        b'"TOOLS":[{}]',
        b'"\\u0074ools":[{}]',
        '"tool\u017f":[{}]'.encode(),
        b'"tools":[{"type":"function","function":{"name":"f"}}],"tools":[{}]',
        b'"tools":[{"type":"function","function":{"name":"f"}}],"Tools":[{}]',
    ],
)
@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_other_spellings(adapter: str, fields: bytes) -> None:
    """What Go takes for tools counts as such: its members match in any case, and of several the last counts."""
    async with ollama_serving() as upstream, running_hub(upstream.url, api_mode=adapter) as hub:
        body = json.dumps(chat()).encode()[:-1] + b"," + fields + b"}"
        answer = await hub.post(PATHS["ollama" if adapter == "native" else "openai"], body)
        assert answer.status == 400
        assert upstream.paths == []


@pytest.mark.parametrize("adapter", ["native", "openai", "auto"])
async def test_deprecated_functions(adapter: str) -> None:
    """OpenAI's older word for tools, in which they are named."""
    async with ollama_serving() as upstream, running_hub(upstream.url, api_mode=adapter) as hub:
        refused = await hub.post(PATHS["openai"], chat(functions=[{"name": "f"}, {"description": "g"}]))
        assert (refused.status, refused.json()["error"]["param"]) == (400, "functions[1].name")
        assert upstream.paths == []


async def test_through_an_alias(lane: tuple[str, str]) -> None:
    """An alias, whose options are put into the body, does not let it by."""
    dialect, adapter = lane
    models = {"a": ModelSettings("m", options={"num_ctx": 64})}
    async with ollama_serving() as upstream, running_hub(upstream.url, api_mode=adapter, models=models) as hub:
        assert (await hub.post(PATHS[dialect], chat({}, model="a"))).status == 400
        assert upstream.paths == []


@pytest.mark.parametrize(
    ("flavour", "listed", "status"),
    [
        ("generic", OTHER, 200),
        ("openai", LIBRARY, 200),
        ("vllm", OTHER, 200),
        ("llamacpp", OTHER, 200),
        ("generic", {"data": []}, 400),
        ("generic", {"data": [{"id": "user/m", "owned_by": "user"}]}, 400),
        ("ollama", OTHER, 400),
    ],
)
async def test_who_is_an_ollama(flavour: str, listed: Any, status: int) -> None:
    """A custom tool is one of OpenAI's: it passes, byte for byte, to a server that is known to be no Ollama."""
    async with serving(answering()) as upstream:
        upstream.listed = listed
        backend = BackendSettings(upstream.url, api_mode="openai", flavour=flavour)
        async with running_hub({"b": backend}) as hub:
            answer = await hub.post(PATHS["openai"], chat(NAMELESS["custom"]))
            assert answer.status == status
            assert len(upstream.paths) == (status == 200)
            if flavour == "generic" and status == 400:
                assert 'flavour = "openai"' in error_of(answer.json())


async def test_another_backend_may_take_it() -> None:
    """If one of the backends is not an Ollama, the request goes there, whatever the strategy says."""
    async with serving(answering()) as ollama, serving(answering()) as other:
        ollama.listed, other.listed = LIBRARY, OTHER
        backends = {
            "ollama": BackendSettings(ollama.url, priority=1),
            "other": BackendSettings(other.url, api_mode="openai"),
        }
        async with running_hub(backends) as hub:
            assert (await hub.post(PATHS["openai"], chat(NAMELESS["custom"]))).status == 200
    assert (len(ollama.paths), len(other.paths)) == (0, 1)


async def test_what_is_harmless_passes(lane: tuple[str, str]) -> None:
    """Names of blanks, tools without parameters and calls of the history without a name do an Ollama no harm."""
    dialect, adapter = lane
    tools = [{"function": {"name": " "}}, {"type": "function", "function": {"name": "f", "parameters": None}}]
    function = {"name": "", "arguments": {} if dialect == "ollama" else "{}"}
    calls = [{"id": "c", "type": "function", "function": function}]
    history = [{"role": "assistant", "content": "", "tool_calls": calls}, {"role": "tool", "tool_call_id": "c"}]
    async with ollama_serving() as upstream, running_hub(upstream.url, api_mode=adapter) as hub:
        for body in (chat(*tools), chat(messages=[{"role": "user", "content": "hi"}, *history])):
            assert (await hub.post(PATHS[dialect], body)).status == 200
    assert len(upstream.paths) == 2
