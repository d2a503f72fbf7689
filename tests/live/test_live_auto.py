"""``auto`` before a real Ollama and a real llama.cpp, and what the real models of the one cannot do."""

from __future__ import annotations

from typing import Any

import ollama
import openai
import pytest

from agenthub.health import Health
from agenthub.settings import BackendSettings, HealthSettings, ModelSettings
from tests.hubs import RunningHub, error_of, running_hub
from tests.real import SENTENCE
from tests.upstreams import PATHS

pytestmark = pytest.mark.live

CHAT, OLLAMA = PATHS["openai"], PATHS["ollama"]
QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
HI: list[Any] = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
ASKED: list[tuple[str, dict[str, Any], str, str, str]] = [
    (OLLAMA, {}, "native", "", ""),
    (OLLAMA, {"options": {"num_ctx": 512}}, "native", "", "options.num_ctx"),
    (CHAT, {}, "native", "", ""),
    (CHAT, {"max_completion_tokens": 4, "user": "u"}, "native", "user", ""),
    (CHAT, {"logit_bias": {"5": 1}}, "openai", "logit_bias", ""),
]


@pytest.mark.parametrize(("path", "fields", "mode", "dropped", "elsewhere"), ASKED)
async def test_requests(
    real_ollama: str, llama: str, path: str, fields: dict[str, Any], mode: str, dropped: str, elsewhere: str
) -> None:
    """At an Ollama the API that carries more; a llama.cpp, though it answers /api/tags, is asked by its only one."""
    for url, expected in ((real_ollama, (mode, dropped)), (llama, ("openai", elsewhere))):
        async with running_hub(url, api_mode="auto", health=QUIET) as hub:
            answer = await hub.post(path, {"model": "tiny", "messages": HI, "stream": False} | fields)
            told = (answer.headers["X-AgentHub-Api-Mode"], answer.headers.get("X-AgentHub-Dropped", ""))
            assert (answer.status, told) == (200, expected), answer.text


async def test_what_they_answer(real_ollama: str, llama: str) -> None:
    """Both at once behind one hub: each is known for what it speaks, and SDKs of both dialects are served by both."""
    backends = {"o": BackendSettings(url=real_ollama), "l": BackendSettings(url=llama, flavour="llamacpp")}
    models = {name: ModelSettings(target="tiny", backends=(name,)) for name in backends}
    async with running_hub(backends, models=models, api_mode="auto", health=QUIET) as hub:
        for name in backends:
            assert (await hub.ollama.chat(name, HI)).message.content == SENTENCE
            said = await hub.openai.chat.completions.create(model=name, messages=HI)
            assert said.choices[0].message.content == SENTENCE
        answers = {name: sorted(backend.answers) for name, backend in hub.hub.router.backends.items()}
        assert answers == {"o": ["native", "openai"], "l": ["openai"]}
        await Health(hub.hub.router).check()
        assert all(backend.is_up for backend in hub.hub.router.backends.values())


async def refusal(hub: RunningHub, dialect: str, model: str, fields: dict[str, Any]) -> str:
    answer = await hub.post(PATHS[dialect], {"model": model, "messages": HI, "stream": False} | fields)
    assert answer.status in (200, 400)
    return "" if answer.status == 200 else error_of(answer.json())


async def test_what_models_lack(real_ollama: str, lane: tuple[str, str]) -> None:
    """What the hub refuses once it has learned it is what Ollama refused before, by the name of what is missing."""
    dialect, adapter = lane
    think: dict[str, Any] = {"think": True} if dialect == "ollama" else {"reasoning_effort": "low"}
    asked = [
        (model, fields) for model in ("tiny", "tiny-tools", "tiny-think") for fields in ({}, {"tools": [TOOL]}, think)
    ]
    asked.append(("tiny-embed", {}))
    async with running_hub(real_ollama, api_mode=adapter, health=QUIET) as hub:
        theirs = [await refusal(hub, dialect, *one) for one in asked]
        await Health(hub.hub.router).check()
        ours = [await refusal(hub, dialect, *one) for one in asked]
        assert [bool(words) for words in ours] == [bool(words) for words in theirs]
        lacking = [("tiny", "tools"), ("tiny", "thinking"), ("tiny-tools", "thinking"), ("tiny-think", "tools")]
        if adapter == "openai":
            # This Ollama's OpenAI-compatible API reads no reasoning_effort.
            lacking = [one for one in lacking if one[1] == "tools"]
        lacking.append(("tiny-embed", "chat"))
        assert [words for words in ours if words] == [f'"{model}" does not support {word}' for model, word in lacking]


async def test_the_sdks_read_the_refusal(real_ollama: str) -> None:
    """As a ResponseError and as a BadRequestError that names the field."""
    async with running_hub(real_ollama, health=QUIET) as hub:
        await hub.ollama.chat("tiny", HI)
        await Health(hub.hub.router).check()
        with pytest.raises(ollama.ResponseError, match='"tiny" does not support tools') as native:
            await hub.ollama.chat("tiny", HI, tools=[TOOL])
        assert native.value.status_code == 400
        with pytest.raises(openai.BadRequestError, match="does not support tools") as other:
            await hub.openai.chat.completions.create(model="tiny", messages=HI, tools=[TOOL])  # type: ignore[list-item]
        assert other.value.param == "tools"
