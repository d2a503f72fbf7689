"""Both dialects through both adapters, with the SDKs that people use: the same question gets the same answer."""

from __future__ import annotations

from typing import Any

import pytest

from agenthub.standin import Standin
from tests.hubs import RunningHub

TEXT = "Naïve café ☕ text, and <more> & more."
HISTORY: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "And now?"},
]


@pytest.fixture
def standin() -> Standin:
    return Standin(text=TEXT)


@pytest.fixture
def hub_settings(lane: tuple[str, str]) -> dict[str, Any]:
    return {"api_mode": lane[1]}


async def test_chat_whole(hub: RunningHub, lane: tuple[str, str]) -> None:
    """A conversation is answered with its text, its reason and its counts."""
    if lane[0] == "ollama":
        answer = await hub.ollama.chat("standin", HISTORY)
        got = (answer.message.content, answer.done_reason, answer.prompt_eval_count, answer.eval_count)
        assert answer.total_duration
        assert answer.eval_duration
        assert answer.load_duration
    else:
        completion = await hub.openai.chat.completions.create(model="standin", messages=HISTORY)
        assert completion.usage
        choice = completion.choices[0]
        usage = completion.usage
        got = (choice.message.content, choice.finish_reason, usage.prompt_tokens, usage.completion_tokens)
    assert got[:2] == (TEXT, "stop")
    assert got[2]
    assert got[2] > 4
    assert got[3]
    assert got[3] > 4


async def test_chat_streamed(hub: RunningHub, lane: tuple[str, str]) -> None:
    """Streamed, the pieces join to the same text and the end carries the same reason and counts."""
    if lane[0] == "ollama":
        parts = [part async for part in await hub.ollama.chat("standin", HISTORY, stream=True)]
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        text = "".join(part.message.content or "" for part in parts)
        end = (parts[-1].done_reason, parts[-1].prompt_eval_count, parts[-1].eval_count)
    else:
        stream = await hub.openai.chat.completions.create(
            model="standin", messages=HISTORY, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert len({chunk.id for chunk in chunks}) == 1
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
        usage = chunks[-1].usage
        assert usage
        end = (reasons[-1], usage.prompt_tokens, usage.completion_tokens)
    assert text == TEXT
    assert end[0] == "stop"
    assert end[1]
    assert end[2]


async def test_the_stream_helper_of_openai(hub: RunningHub, lane: tuple[str, str]) -> None:
    """``.stream()`` of the openai package accumulates the answer without a doubled role or a lost piece."""
    if lane[0] == "ollama":
        pytest.skip("the helper belongs to the openai package")
    async with hub.openai.chat.completions.stream(
        model="standin", messages=HISTORY, stream_options={"include_usage": True}
    ) as stream:
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == TEXT
    assert completion.usage
    assert completion.usage.completion_tokens


async def test_history_options_and_limits_arrive(hub: RunningHub, lane: tuple[str, str], standin: Standin) -> None:
    """System prompt, turns, sampling options, stop and limit reach the upstream under its own names."""
    if lane[0] == "ollama":
        options = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "num_predict": 3, "stop": ["END"]}
        answer = await hub.ollama.chat("standin", HISTORY, options=options)
        assert answer.done_reason == "length"
        assert answer.eval_count == 3
    else:
        completion = await hub.openai.chat.completions.create(
            model="standin", messages=HISTORY, temperature=0.5, top_p=0.9, seed=7, max_tokens=3, stop="END"
        )
        assert completion.choices[0].finish_reason == "length"
        assert completion.usage
        assert completion.usage.completion_tokens == 3
    asked = standin.requests[-1].json()
    assert [(m["role"], m["content"]) for m in asked["messages"]] == [(m["role"], m["content"]) for m in HISTORY]
    sampling = asked.get("options") or asked
    assert (sampling["temperature"], sampling["top_p"], sampling["seed"]) == (0.5, 0.9, 7)
    assert sampling["stop"] in ("END", ["END"])
    assert sampling.get("num_predict", sampling.get("max_tokens")) == 3


async def test_generate_and_complete(hub: RunningHub, lane: tuple[str, str]) -> None:
    """A single prompt is answered whole and streamed, by /api/generate and by /v1/completions."""
    if lane[0] == "ollama":
        whole = await hub.ollama.generate("standin", "Hello", system="Be brief.")
        parts = [part async for part in await hub.ollama.generate("standin", "Hello", stream=True)]
        texts = [whole.response, "".join(part.response for part in parts)]
        ends = [whole.done_reason, parts[-1].done_reason]
        counts = [whole.eval_count, parts[-1].eval_count]
    else:
        client = hub.openai.completions
        completion = await client.create(model="standin", prompt="Hello")
        stream = await client.create(
            model="standin", prompt="Hello", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        streamed = [chunk.choices[0] for chunk in chunks if chunk.choices]
        texts = [completion.choices[0].text, "".join(choice.text for choice in streamed)]
        ends = [completion.choices[0].finish_reason, streamed[-1].finish_reason]
        assert completion.usage
        assert chunks[-1].usage
        counts = [completion.usage.completion_tokens, chunks[-1].usage.completion_tokens]
    assert texts == [TEXT, TEXT]
    assert ends == ["stop", "stop"]
    assert counts[0] == counts[1]
    assert counts[0]


async def test_embed(hub: RunningHub, lane: tuple[str, str]) -> None:
    """Two texts give two vectors in their order; base64, which the openai package asks for by default, included."""
    if lane[0] == "ollama":
        embedded = await hub.ollama.embed("standin-embed", ["one", "two"])
        again = await hub.ollama.embed("standin-embed", "two")
        vectors, second = embedded.embeddings, again.embeddings[0]
        assert embedded.prompt_eval_count
        legacy = await hub.ollama.embeddings("standin-embed", "two")
        assert len(legacy.embedding) == len(second)
    else:
        client = hub.openai.embeddings
        listed = await client.create(model="standin-embed", input=["one", "two"])
        floats = await client.create(model="standin-embed", input="two", encoding_format="float")
        vectors, second = [item.embedding for item in listed.data], floats.data[0].embedding
        assert listed.usage.prompt_tokens
    assert len(vectors) == 2
    assert vectors[0] != pytest.approx(vectors[1])
    assert vectors[1] == pytest.approx(second, abs=1e-6)


async def test_tools_cross_the_dialects(hub: RunningHub, lane: tuple[str, str]) -> None:
    """A tool is offered, called with its arguments and an id, and its result goes back in the history."""
    function = {"name": "get_time", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    tools: list[Any] = [{"type": "function", "function": function}]
    question: Any = {"role": "user", "content": "use get_time"}
    if lane[0] == "ollama":
        parts = [part async for part in await hub.ollama.chat("standin", [question], tools=tools, stream=True)]
        (call,) = [call for part in parts for call in part.message.tool_calls or ()]
        assert call.function.name == "get_time"
        assert "city" in call.function.arguments
        result: Any = {"role": "tool", "tool_name": "get_time", "content": "noon"}
        turn: Any = {"role": "assistant", "tool_calls": [call.model_dump()]}
        final = (await hub.ollama.chat("standin", [question, turn, result], tools=tools)).message.content
    else:
        create = hub.openai.chat.completions.create
        completion = await create(model="standin", messages=[question], tools=tools)
        (made,) = completion.choices[0].message.tool_calls or ()
        assert completion.choices[0].finish_reason == "tool_calls"
        assert made.type == "function"
        assert made.function.name == "get_time"
        assert "city" in made.function.arguments
        result = {"role": "tool", "tool_call_id": made.id, "content": "noon"}
        turn = completion.choices[0].message.model_dump(exclude_none=True)
        finished = await create(model="standin", messages=[question, turn, result], tools=tools)
        final = finished.choices[0].message.content
    assert final == TEXT


async def test_thinking_crosses_the_dialects(hub: RunningHub, lane: tuple[str, str]) -> None:
    """What a model thinks aloud arrives apart from its answer."""
    if lane[0] == "ollama":
        if lane[1] == "openai":
            answer = await hub.ollama.chat("standin", HISTORY, think="high")
        else:
            answer = await hub.ollama.chat("standin", HISTORY, think=True)
        assert answer.message.content == TEXT
        assert answer.message.thinking
    else:
        completion = await hub.openai.chat.completions.create(
            model="standin", messages=HISTORY, reasoning_effort="high"
        )
        message = completion.choices[0].message
        assert message.content == TEXT
        assert (message.model_extra or {}).get("reasoning")


async def test_lists(hub: RunningHub, lane: tuple[str, str]) -> None:
    """Models are listed and shown in each dialect, whatever API they were read through."""
    if lane[0] == "ollama":
        client = hub.ollama
        names = {model.model for model in (await client.list()).models}
        shown = await client.show("standin")
        assert shown.modelinfo is not None
        assert shown.capabilities
        await client.chat("standin", HISTORY)
        assert {model.model for model in (await client.ps()).models} >= {"standin:latest"}
        assert (await hub.get("/api/version")).json()["version"].count(".") == 2
    else:
        names = {model.id async for model in hub.openai.models.list()}
        model = await hub.openai.models.retrieve("standin")
        assert (model.id, model.object) == ("standin", "model")
        assert model.created >= 0
    assert names == {"standin:latest", "standin-embed:latest"}
