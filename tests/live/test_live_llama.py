"""A real llama.cpp server behind the hub, which has but the OpenAI-compatible API, asked in both dialects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthub.settings import BackendSettings
from tests.hubs import RunningHub, running_hub
from tests.real import SENTENCE

pytestmark = pytest.mark.live

HI: list[Any] = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@pytest.fixture
async def hub(llama: str) -> AsyncIterator[RunningHub]:
    backends = {"llama": BackendSettings(url=llama, api_mode="openai", flavour="llamacpp")}
    async with running_hub(backends) as running:
        yield running
        print(*running.lines, sep="\n")


async def test_ollama_clients(hub: RunningHub) -> None:
    """The sentence, its reason, its counts and the server's own times, whole and streamed, as chat and as generate."""
    whole = await hub.ollama.chat("tiny", HI)
    assert (whole.message.content, whole.done_reason) == (SENTENCE, "stop")
    assert whole.prompt_eval_count
    assert whole.eval_count == 32
    assert whole.eval_duration
    assert whole.eval_duration > 1000
    parts = [part async for part in await hub.ollama.chat("tiny", HI, stream=True)]
    assert "".join(part.message.content or "" for part in parts) == SENTENCE
    assert (parts[-1].done, parts[-1].eval_count) == (True, 32)
    assert (await hub.ollama.generate("tiny", "hi")).response == SENTENCE
    raw = await hub.ollama.generate("tiny", "hi", raw=True, options={"num_predict": 3})
    assert (raw.response, raw.done_reason) == (" Hello there this", "length")


async def test_openai_clients(hub: RunningHub) -> None:
    """The same through the other dialect, which changes nothing."""
    completion = await hub.openai.chat.completions.create(model="tiny", messages=HI)
    assert completion.choices[0].message.content == SENTENCE
    async with hub.openai.chat.completions.stream(
        model="tiny", messages=HI, stream_options={"include_usage": True}
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == SENTENCE
    assert final.usage
    assert final.usage.completion_tokens == 32


async def test_what_a_chat_carries(hub: RunningHub) -> None:
    """Options under llama.cpp's names, a schema, log-probabilities; what has no name there is named in the header."""
    options = {"num_ctx": 512, "top_k": 1, "num_predict": 4, "seed": 1, "repeat_penalty": 1.1}
    body = {"model": "tiny", "messages": HI, "stream": False, "logprobs": True, "top_logprobs": 2}
    answer = await hub.post("/api/chat", body | {"options": options})
    assert (answer.status, answer.headers["X-AgentHub-Dropped"]) == (200, "options.num_ctx")
    told = answer.json()
    assert (told["message"]["content"], told["done_reason"]) == (" Hello there this is", "length")
    assert [item["token"] for item in told["logprobs"]] == [" Hello", " there", " this", " is"]
    assert all(len(item["top_logprobs"]) == 2 for item in told["logprobs"])
    shaped = await hub.ollama.chat("tiny", HI, format=SCHEMA)
    assert isinstance(json.loads(shaped.message.content or "")["text"], str)


async def test_what_it_has(hub: RunningHub) -> None:
    """Ollama's listings are made of what the server tells; what it cannot do is 501 before any byte."""
    assert [model.model for model in (await hub.ollama.list()).models] == ["tiny"]
    shown = await hub.ollama.show("tiny")
    assert shown.modelinfo
    assert 2048 in shown.modelinfo.values()
    await hub.ollama.chat("tiny", HI, options={"num_predict": 1})
    assert [model.model for model in (await hub.ollama.ps()).models] == ["tiny"]
    pulled = await hub.post("/api/pull", {"model": "tiny"})
    assert (pulled.status, list(pulled.json())) == (501, ["error"])
    embedded = await hub.post("/api/embed", {"model": "tiny", "input": "hi"})
    # Not started for embeddings: 501 of newer ones, 400 of this.
    assert (embedded.status in (400, 501), list(embedded.json())) == (True, ["error"])
