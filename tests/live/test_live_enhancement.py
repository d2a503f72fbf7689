"""Prompts put better by a real Ollama, in both API modes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthub.enhancement.rules import Rule, Rules
from agenthub.settings import EnhancementSettings
from tests.forwarder import Forwarder
from tests.hubs import Answered, RunningHub, running_hub
from tests.real import SENTENCE

pytestmark = [pytest.mark.live, pytest.mark.parametrize("adapter", ["native", "openai"])]

PATH, PROMPT = "/hub/enhance", "say something about gateways"
TINY = Rule(model="tiny", timeout_s=30.0)
RULES = Rules(
    TINY,
    {
        "loop": Rule(name="loop", model="tiny-loop", max_tokens=16, timeout_s=30.0),
        "think": Rule(name="think", model="tiny-think", timeout_s=30.0),
        "gone": Rule(name="gone", model="nope", fallback_models=("tiny",), timeout_s=30.0),
    },
)


@pytest.fixture
async def hub(forwarder: Forwarder, adapter: str) -> AsyncIterator[RunningHub]:
    async with running_hub(forwarder.url, api_mode=adapter, enhancement=EnhancementSettings(rules=RULES)) as running:
        yield running
        print(*running.lines, sep="\n")


async def enhance(hub: RunningHub, **fields: Any) -> Any:
    answer = await hub.post(PATH, {"prompt": PROMPT} | fields)
    assert answer.status == 200, answer.text
    return answer.json()


async def test_enhanced_then_cached(hub: RunningHub, adapter: str) -> None:
    """The known sentence; the second time from the cache, with the same counts; whole and streamed."""
    first, second = await enhance(hub), await enhance(hub)
    assert (first["enhanced"], first["was_enhanced"], first["error"]) == (SENTENCE.strip(), True, None)
    assert (first["original"], first["rule"], first["model"]) == (PROMPT, "default", "tiny")
    assert (first["cached"], second["cached"]) == (False, True)
    assert (second["enhanced"], second["usage"]) == (first["enhanced"], first["usage"])
    assert first["usage"]["completion_tokens"] in (32, 33)
    streamed = await hub.post(PATH, {"prompt": PROMPT, "stream": True, "bypass_cache": True})
    *deltas, result = streamed.frames()
    assert "".join(line["delta"] for line in deltas) == result["enhanced"] == SENTENCE.strip()
    assert result["cached"] is False
    assert {line["api_mode"] for line in hub.dispatches()} == {adapter}


async def test_endless_thinking_and_missing_models(hub: RunningHub) -> None:
    """A model without an end gives the prompt back, thoughts are taken off, a missing model has its stand-in."""
    loop = await enhance(hub, client="loop")
    assert (loop["enhanced"], loop["error"]) == (PROMPT, "the model went on and on")
    think = await enhance(hub, client="think")
    assert (think["enhanced"], think["was_enhanced"]) == ("Forty-two.", True)
    gone = await enhance(hub, client="gone")
    assert (gone["enhanced"], gone["model"]) == (SENTENCE.strip(), "tiny")
    alone = await enhance(hub, model="nope")
    assert (alone["enhanced"], alone["was_enhanced"]) == (PROMPT, False)
    assert "not found" in alone["error"]


async def test_ollama_stopped(hub: RunningHub, forwarder: Forwarder) -> None:
    """The prompt comes back with the reason, long before ``timeout_s``; what is kept is still served."""
    assert (await enhance(hub))["was_enhanced"] is True
    await forwarder.stop()
    for _ in range(4):
        began = time.perf_counter()
        left = await enhance(hub, prompt="another prompt")
        assert time.perf_counter() - began < TINY.timeout_s
        assert (left["enhanced"], left["was_enhanced"]) == ("another prompt", False)
    assert "ollama" in left["error"]
    assert (await enhance(hub))["cached"] is True


async def test_in_line_through_both_sdks(hub: RunningHub) -> None:
    """A header is all that it takes; the model is asked the better prompt, as its count of tokens shows."""
    messages: list[Any] = [{"role": "user", "content": PROMPT}]
    plain = await hub.ollama.chat("tiny", messages)
    hub.ollama._client.headers["X-Enhance"] = "true"
    better = await hub.ollama.chat("tiny", messages)
    assert (plain.message.content, better.message.content) == (SENTENCE, SENTENCE)
    assert better.prompt_eval_count != plain.prompt_eval_count
    raw = await hub.openai.chat.completions.with_raw_response.create(
        model="tiny", messages=messages, extra_headers={"X-Enhance": "true"}
    )
    completion = raw.parse()
    assert raw.headers["X-AgentHub-Enhanced"] == "default@1"
    assert completion.choices[0].message.content == SENTENCE
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == better.prompt_eval_count
    own = [line for line in hub.dispatches() if "enhancing" not in line]
    assert [line.get("enhanced") for line in own] == [None, "default@1", "default@1"]


async def test_in_line_with_ollama_stopped(hub: RunningHub, forwarder: Forwarder) -> None:
    """The request fails as it would have without; the header says what became of the prompt."""
    await forwarder.stop()
    answer: Answered = await hub.post(
        "/api/chat", {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}]}, X_Enhance="true"
    )
    assert answer.status == 502
    assert answer.headers["X-AgentHub-Enhanced"].startswith("no: ")
