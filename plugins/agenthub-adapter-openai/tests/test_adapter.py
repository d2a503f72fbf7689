"""The openai adapter by itself, in front of the stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthub import (
    BackendSettings,
    ChatRequest,
    Finished,
    GenerateRequest,
    Message,
    ModelInfo,
    RelayRequest,
    UnknownModel,
    assemble,
)
from agenthub.standin import Standin, running
from agenthub_adapter_openai.adapter import OpenAIAdapter, make_adapter
from agenthub_adapter_openai.running import KEEP_ALIVE_S, Running
from agenthub_adapter_openai.translated import as_chat


@pytest.fixture
def standin() -> Standin:
    return Standin(text="one two")


@pytest.fixture(params=["", "/v1"], ids=["root", "v1"])
async def adapter(request: pytest.FixtureRequest, standin: Standin) -> AsyncIterator[OpenAIAdapter]:
    """With the server's root as URL, and with one that ends in /v1."""
    async with running(standin) as url, make_adapter("box", BackendSettings(url=url + request.param)) as opened:
        yield opened


async def events_of(batches: Any) -> list[Any]:
    return [event async for batch in batches for event in batch]


@pytest.mark.parametrize("streamed", [False, True])
async def test_it_answers_a_canonical_request(adapter: OpenAIAdapter, standin: Standin, streamed: bool) -> None:
    """With counts, which it asks a stream for, and with durations, which it measures."""
    request = ChatRequest(
        model="standin", stream=streamed, messages=(Message("user", "hi"),), options={"num_predict": 9}
    )
    events = await events_of(adapter.chat(request))
    finished = events[-1]
    assert type(finished) is Finished
    assert assemble(events).text == "one two"
    assert finished.usage is not None
    assert finished.timings is not None
    assert finished.timings.total_s > 0
    assert standin.requests[-1].path == "/v1/chat/completions"
    assert standin.requests[-1].json()["max_tokens"] == 9


async def test_a_prompt_becomes_a_conversation(adapter: OpenAIAdapter, standin: Standin) -> None:
    """Unless it is raw or has a suffix: then it is a completion."""
    await events_of(adapter.generate(GenerateRequest(model="standin", prompt="hi", system="Be brief.")))
    assert [m["role"] for m in standin.requests[-1].json()["messages"]] == ["system", "user"]
    await events_of(adapter.generate(GenerateRequest(model="standin", prompt="hi", raw=True)))
    assert standin.requests[-1].path == "/v1/completions"


def test_the_conversation_asks_the_same() -> None:
    """Every field that both requests have is carried over."""
    prompt = GenerateRequest(model="m", prompt="hi", format="json", think="low", options={"seed": 1}, logprobs=True)
    chat = as_chat(prompt)
    for name in ("model", "format", "think", "options", "logprobs", "top_logprobs", "stream", "keep_alive"):
        assert getattr(chat, name) == getattr(prompt, name)


async def test_show_and_ps(adapter: OpenAIAdapter) -> None:
    """Made of what /v1/models lists; a model that it does not list is unknown."""
    await events_of(adapter.chat(ChatRequest(model="standin", messages=(Message("user", "hi"),))))
    shown = await events_of(adapter.relay(RelayRequest(verb="show", model="standin")))
    assert b"model_info" in shown[1].data
    held = await events_of(adapter.relay(RelayRequest(verb="ps", model="")))
    assert b'"name":"standin:latest"' in held[1].data
    with pytest.raises(UnknownModel):
        await events_of(adapter.relay(RelayRequest(verb="show", model="nope")))


def test_running_models_are_forgotten() -> None:
    """After five minutes without traffic, at once when unloaded, and made-up names do not pile up."""
    now = [1000.0]
    held = Running(clock=lambda: now[0])
    known = {name: ModelInfo(name, "openai", {"meta": {"n_ctx_train": 2048}}) for name in ("a", "b:latest")}
    held.touch("a")
    now[0] += KEEP_ALIVE_S - 1
    held.touch("b")
    entries = held.entries(known)
    assert [(entry["name"], entry["context_length"]) for entry in entries] == [("b:latest", 2048), ("a", 2048)]
    now[0] += 2
    assert [entry["name"] for entry in held.entries(known)] == ["b:latest"]
    held.forget("b")
    assert held.entries(known) == []
    for number in range(5000):
        held.touch(f"made-up-{number}")
    assert len(held._used) < 300
