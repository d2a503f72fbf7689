"""The context of a model: its default for both dialects, and a word where a prompt is longer than it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.canonical import ChatRequest, Loss, Message
from agenthub.contexts import BYTES_PER_TOKEN, note_length
from agenthub.health import Health
from agenthub.settings import BackendSettings, HealthSettings, ModelSettings
from agenthub.standin import Standin, running
from tests.hubs import running_hub
from tests.upstreams import HI, PATHS, answering, serving

QUIET = HealthSettings(models_refresh_s=0, interval_s=0)
LONG = "word " * 40_000
"""Of some 40,000 tokens, and by the hub's count of at least 26,666."""


def chat(content: str, **fields: Any) -> dict[str, Any]:
    return {"model": "standin", "messages": [{"role": "user", "content": content}], "stream": False} | fields


@pytest.mark.parametrize("name", ["m", "M:latest", "gpt-4o"])
async def test_a_default_reaches_both_dialects(lane: tuple[str, str], name: str) -> None:
    """For a model under its own name, in any spelling, or an alias: it goes along, or is named as lost."""
    dialect, adapter = lane
    settings = ModelSettings(target="m" if name == "gpt-4o" else "", options={"num_ctx": 8192})
    models = {"gpt-4o" if name == "gpt-4o" else "m": settings}
    async with serving(answering()) as upstream:
        backends = {"b": BackendSettings(url=upstream.url, api_mode=adapter)}
        async with running_hub(backends, models=models, health=QUIET) as hub:
            answer = await hub.post(PATHS[dialect], {"model": name, "messages": HI, "stream": False})
            (body,) = upstream.asked
            # Under its own name the model is asked for as the client has written it, but by the adapter that respells.
            own = name if adapter == "native" else "m"
            assert (answer.status, body["model"]) == (200, "m" if name == "gpt-4o" else own)
            if adapter == "native":
                assert body["options"] == {"num_ctx": 8192}
                assert "X-AgentHub-Dropped" not in answer.headers
            else:
                assert "options" not in body
                assert answer.headers["X-AgentHub-Dropped"] == "options.num_ctx"
            asks = {"options": {"num_ctx": 99}} if dialect == "ollama" else {"num_ctx": 99}
            await hub.post(PATHS[dialect], {"model": name, "messages": HI, "stream": False} | asks)
            if adapter == "native":
                assert upstream.asked[1]["options"] == {"num_ctx": 99}
            listed = [model["name"] for model in (await hub.get("/api/tags")).json()["models"]]
            assert listed == (["m", "gpt-4o"] if name == "gpt-4o" else ["m"])


async def test_a_prompt_that_is_too_long_is_named(lane: tuple[str, str]) -> None:
    """With the context that the upstream tells, once it has; in the header and the log, and not as a refusal."""
    dialect, adapter = lane
    standin = Standin()
    async with running(standin) as url, running_hub(url, api_mode=adapter, health=QUIET) as hub:

        async def dropped(content: str, **fields: Any) -> str:
            answer = await hub.post(PATHS[dialect], chat(content, **fields), X_AgentHub_Strict="true")
            assert answer.status == 200
            return answer.headers.get("X-AgentHub-Dropped", "")

        assert await dropped(LONG) == ""
        await Health(hub.hub.router).check()
        # Through the OpenAI-compatible API too: an Ollama behind it is asked by its own how it has loaded a model.
        assert await dropped(LONG) == "messages"
        assert await dropped("hi") == ""
        line = hub.dispatches()[1]
        assert line["dropped"] == ["messages"]
        assert line["notes"] == ["messages of at least 26666 tokens, by their length, for a context of 2048"]
        assert "notes" not in hub.dispatches()[0]


@pytest.mark.parametrize(
    ("num_ctx", "noted"), [(26_666, False), (26_665, True), (8192, True), (100_000, False), (-1, False), (True, False)]
)
async def test_the_request_says_its_context(num_ctx: int, noted: bool) -> None:
    """What it asks for counts, before anything that is loaded."""
    standin = Standin()
    async with running(standin) as url, running_hub(url, health=QUIET) as hub:
        for path, body in (
            ("/api/chat", chat(LONG)),
            ("/api/generate", {"model": "standin", "prompt": LONG, "stream": False}),
        ):
            answer = await hub.post(path, body | {"options": {"num_ctx": num_ctx}})
            field = "messages" if "chat" in path else "prompt"
            assert answer.headers.get("X-AgentHub-Dropped", "") == (field if noted else ""), answer.text


async def test_a_context_that_is_lost_does_not_count() -> None:
    """An adapter that cannot carry num_ctx leaves the context as it is."""
    standin = Standin()
    async with running(standin) as url, running_hub(url, api_mode="openai", health=QUIET) as hub:
        answer = await hub.post("/api/chat", chat(LONG, options={"num_ctx": 64}))
        assert answer.headers["X-AgentHub-Dropped"] == "options.num_ctx"


async def test_who_has_short_prompts_is_not_asked() -> None:
    """What is loaded matters to a single backend only once a prompt was long."""
    standin = Standin()
    async with running(standin) as url, running_hub(url, health=QUIET) as hub:
        for content, times in (("hi", 0), (LONG, 1)):
            await hub.post("/api/chat", chat(content))
            await Health(hub.hub.router).check()
            assert [received.path for received in standin.requests].count("/api/ps") == times


def request_of(texts: list[str], **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=tuple(Message("user", text) for text in texts), **fields)


@given(st.lists(st.text(max_size=60), max_size=4), st.integers(0, 40), st.sampled_from(["", " ", "\n\t", " " * 9]))
def test_there_is_no_false_alarm(texts: list[str], context: int, blanks: str) -> None:
    """What has no more than six bytes for each token of the context is never too long, and blanks never count."""
    black = [text.translate(dict.fromkeys(map(ord, " \t\r\n"))) for text in texts]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in black)
    note = note_length(request_of(texts), context, ())
    if not context or size <= BYTES_PER_TOKEN * context:
        assert note is None
    blank = note_length(request_of([text.replace(" ", blanks) for text in texts]), context, ())
    if context:
        assert (blank is None) == (note is None)


def test_pictures_are_no_text() -> None:
    """However large, they take their own share of a context."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi", "images": ["A" * 100_000]}]}
    from agenthub.dialects import ollama

    request = ollama.CODECS["/api/chat"].parse_request(json.dumps(body).encode())
    assert isinstance(request, ChatRequest)
    assert note_length(request, 2048, ()) is None
    assert note_length(request_of(["x" * 30]), 4, ()) == Loss(
        "messages", reason="messages of at least 5 tokens, by their length, for a context of 4", is_note=True
    )
