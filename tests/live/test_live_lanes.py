"""A real Ollama, asked by the real SDKs through the hub: the known sentence arrives exactly, in all four lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ollama
import openai
import pytest

from tests.hubs import RunningHub
from tests.real import SENTENCE

pytestmark = pytest.mark.live

COUNTS = (11, 32)
QUESTION: list[Any] = [{"role": "user", "content": "hi"}]


async def test_chat_whole(hub: RunningHub, lane: tuple[str, str]) -> None:
    """The sentence, its reason and its counts, by the asynchronous clients."""
    if lane[0] == "ollama":
        answer = await hub.ollama.chat("tiny", QUESTION)
        assert (answer.message.content, answer.done_reason) == (SENTENCE, "stop")
        assert (answer.prompt_eval_count, answer.eval_count) == COUNTS
        assert answer.total_duration
        assert answer.load_duration
        assert answer.eval_duration
    else:
        completion = await hub.openai.chat.completions.create(model="tiny", messages=QUESTION)
        choice, usage = completion.choices[0], completion.usage
        assert (choice.message.content, choice.finish_reason) == (SENTENCE, "stop")
        assert usage
        assert (usage.prompt_tokens, usage.completion_tokens) == COUNTS


async def test_chat_streamed(hub: RunningHub, lane: tuple[str, str]) -> None:
    """The same, streamed: many pieces, no piece broken in the middle of a character."""
    if lane[0] == "ollama":
        parts = [part async for part in await hub.ollama.chat("tiny", QUESTION, stream=True)]
        pieces = [part.message.content or "" for part in parts]
        assert (parts[-1].prompt_eval_count, parts[-1].eval_count) == COUNTS
        assert (parts[-1].done, parts[-1].done_reason) == (True, "stop")
    else:
        stream = await hub.openai.chat.completions.create(
            model="tiny", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
        usage = chunks[-1].usage
        assert usage
        assert (usage.prompt_tokens, usage.completion_tokens) == COUNTS
    assert "".join(pieces) == SENTENCE
    assert len(pieces) > 20


async def test_the_stream_helper_of_openai(hub: RunningHub, lane: tuple[str, str]) -> None:
    """``.stream()`` of the openai package ends with the whole completion."""
    if lane[0] == "ollama":
        pytest.skip("the helper belongs to the openai package")
    async with hub.openai.chat.completions.stream(model="tiny", messages=QUESTION) as stream:
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == SENTENCE
    # Ollama 0.9.3 repeats the role in each chunk; the lane that changes nothing passes that on, and they are joined.
    assert completion.choices[0].message.role.startswith("assistant")


async def test_generate_and_complete(hub: RunningHub, lane: tuple[str, str]) -> None:
    """A single prompt, whole and streamed."""
    if lane[0] == "ollama":
        whole = await hub.ollama.generate("tiny", "hi")
        parts = [part async for part in await hub.ollama.generate("tiny", "hi", stream=True)]
        texts = [whole.response, "".join(part.response for part in parts)]
        counts = [(whole.prompt_eval_count, whole.eval_count), (parts[-1].prompt_eval_count, parts[-1].eval_count)]
    else:
        create = hub.openai.completions.create
        completion = await create(model="tiny", prompt="hi")
        stream = await create(model="tiny", prompt="hi", stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        texts = [completion.choices[0].text, "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)]
        usages = [completion.usage, chunks[-1].usage]
        counts = [(usage.prompt_tokens, usage.completion_tokens) for usage in usages if usage]
    assert texts == [SENTENCE, SENTENCE]
    assert counts == [COUNTS, COUNTS]


async def test_the_synchronous_clients(hub: RunningHub, lane: tuple[str, str]) -> None:
    """The blocking clients of both packages: chat whole and streamed, embed and list."""

    def ask_ollama() -> tuple[Any, ...]:
        client = ollama.Client(host=hub.url)
        try:
            streamed = "".join(part.message.content or "" for part in client.chat("tiny", QUESTION, stream=True))
            vector = client.embed("tiny-embed", "hello world").embeddings[0]
            names = {model.model for model in client.list().models}
            return client.chat("tiny", QUESTION).message.content, streamed, len(vector), names
        finally:
            client._client.close()

    def ask_openai() -> tuple[Any, ...]:
        with openai.OpenAI(base_url=f"{hub.url}/v1", api_key="none") as client:
            create = client.chat.completions.create
            chunks = create(model="tiny", messages=QUESTION, stream=True)
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            vector = client.embeddings.create(model="tiny-embed", input="hello world").data[0].embedding
            names = {model.id for model in client.models.list()}
            return create(model="tiny", messages=QUESTION).choices[0].message.content, streamed, len(vector), names

    ask: Callable[[], tuple[Any, ...]] = ask_ollama if lane[0] == "ollama" else ask_openai
    whole, streamed, dimensions, names = await asyncio.to_thread(ask)
    assert (whole, streamed, dimensions) == (SENTENCE, SENTENCE, 256)
    assert names >= {"tiny:latest", "tiny-embed:latest"}


async def test_embeddings_agree(hub: RunningHub, lane: tuple[str, str]) -> None:
    """The vector of a text is the same in every lane, as floats and as base64."""
    reference = (await hub.ollama.embed("tiny-embed", ["hello world", "the cat"])).embeddings
    if lane[0] == "ollama":
        vectors = [(await hub.ollama.embed("tiny-embed", text)).embeddings[0] for text in ("hello world", "the cat")]
    else:
        listed = await hub.openai.embeddings.create(model="tiny-embed", input=["hello world", "the cat"])
        vectors = [item.embedding for item in listed.data]
    for vector, expected in zip(vectors, reference, strict=True):
        assert list(vector) == pytest.approx(list(expected), abs=1e-6)


async def test_limits_and_stops(hub: RunningHub, lane: tuple[str, str]) -> None:
    """A limit ends the answer as ``length`` after so many tokens; a stop sequence ends it as ``stop``."""
    if lane[0] == "ollama":
        cut = await hub.ollama.chat("tiny-loop", QUESTION, options={"num_predict": 5})
        stopped = await hub.ollama.chat("tiny", QUESTION, options={"stop": ["tiny model"]})
        got = [(cut.message.content, cut.done_reason), (stopped.message.content, stopped.done_reason)]
    else:
        create = hub.openai.chat.completions.create
        limited = await create(model="tiny-loop", messages=QUESTION, max_tokens=5)
        ended = await create(model="tiny", messages=QUESTION, stop="tiny model")
        choices = [limited.choices[0], ended.choices[0]]
        got = [(choice.message.content, choice.finish_reason) for choice in choices]
    assert got[0] == (" one two three four five", "length")
    assert got[1][0]
    assert got[1][0].rstrip() == " Hello there this is a"
    assert got[1][1] == "stop"


async def test_an_unknown_model(hub: RunningHub, lane: tuple[str, str]) -> None:
    """404 in the asking dialect's words, whole and streamed, as the SDKs' own exceptions."""
    for streamed in (False, True):
        if lane[0] == "ollama":
            with pytest.raises(ollama.ResponseError, match="not found") as refused:
                await ask_for_nope(hub, streamed)
            assert refused.value.status_code == 404
        else:
            with pytest.raises(openai.NotFoundError, match="not found"):
                await hub.openai.chat.completions.create(model="nope", messages=QUESTION, stream=streamed)


async def ask_for_nope(hub: RunningHub, streamed: bool) -> None:
    if not streamed:
        await hub.ollama.chat("nope", QUESTION)
        return
    async for _ in await hub.ollama.chat("nope", QUESTION, stream=True):
        pass
