"""The field beside an answer that carries, when it is wanted, what the client's dialect has no place for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hubs import running_hub
from tests.upstreams import Reply, serving

HI: list[Any] = [{"role": "user", "content": "hi"}]
LINE = {"model": "m", "message": {"role": "assistant", "content": "hey"}, "done": True, "done_reason": "load"}
LINE |= {"total_duration": 9, "load_duration": 2, "prompt_eval_duration": 3, "eval_duration": 4, "remote_host": "far"}
CHUNK = {"id": "x1", "service_tier": "flex", "choices": [{"index": 0, "delta": {"content": "hey"}}]}
END = {"id": "x1", "service_tier": "flex", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("sidecar", [False, True])
async def test_what_ollama_told(sidecar: bool) -> None:
    """OpenAI's clients get Ollama's durations and its own word for the end, whole and streamed."""
    told = {"done_reason": "load", "total_duration": 9, "load_duration": 2, "prompt_eval_duration": 3}
    told |= {"eval_duration": 4, "remote_host": "far"}

    def reply(path: str, body: Any) -> Reply:
        return Reply(frames=[LINE]) if body["stream"] else Reply(LINE)

    async with serving(reply) as upstream, running_hub(upstream.url, sidecar=sidecar) as hub:
        body = {"model": "m", "messages": HI}
        whole = (await hub.post("/v1/chat/completions", body)).json()
        assert whole.get("x_ollama") == (told if sidecar else None)
        for options in ({}, {"stream_options": {"include_usage": True}}):
            frames = (await hub.post("/v1/chat/completions", body | {"stream": True} | options)).frames()[:-1]
            found = [frame for frame in frames if "x_ollama" in frame]
            assert [frame["x_ollama"] for frame in found] == ([told] if sidecar else [])
            assert all(frame["choices"][0]["finish_reason"] == "stop" for frame in found)
        async with hub.openai.chat.completions.stream(model="m", messages=HI) as stream:
            assert (await stream.get_final_completion()).choices[0].message.content == "hey"


@pytest.mark.parametrize("sidecar", [False, True])
async def test_what_openai_told(sidecar: bool) -> None:
    """Ollama's clients get the id and the tier of the upstream's answer, in the last line."""

    def reply(path: str, body: Any) -> Reply:
        return Reply(frames=[CHUNK, END, "[DONE]"])

    async with serving(reply) as upstream, running_hub(upstream.url, sidecar=sidecar, api_mode="openai") as hub:
        lines = (await hub.post("/api/chat", {"model": "m", "messages": HI})).frames()
        assert [line.get("x_openai") for line in lines] == [
            *[None] * (len(lines) - 1),
            {"id": "x1", "service_tier": "flex"} if sidecar else None,
        ]
        answer = await hub.ollama.chat("m", HI)
        assert answer.message.content == "hey"


REFUSED = {"role": "assistant", "content": None, "refusal": "no", "annotations": [{"type": "x"}]}
COUNTED = {"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}
BESIDE = {"refusal": "no", "annotations": [{"type": "x"}], "completion_tokens_details": {"reasoning_tokens": 1}}


def refusing(path: str, body: Any) -> Reply:
    """Refuse, in two pieces where it is streamed."""
    if not body.get("stream"):
        choice = {"index": 0, "message": REFUSED, "finish_reason": "stop"}
        return Reply({"id": "x1", "choices": [choice], "usage": COUNTED})
    deltas = [{"refusal": "n"}, {"refusal": "o", "annotations": [{"type": "x"}]}]
    chunks = [{"id": "x1", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"id": "x1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return Reply(frames=[*chunks, end, {"choices": [], "usage": COUNTED}, "[DONE]"])


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_stands_beside_a_text(streamed: bool) -> None:
    """A refusal is the text, and stands in the sidecar too, with annotations and the details of the counts."""
    async with serving(refusing) as upstream, running_hub(upstream.url, sidecar=True, api_mode="openai") as hub:
        lines = (await hub.post("/api/chat", {"model": "m", "messages": HI, "stream": streamed})).frames()
        assert "".join(line["message"]["content"] for line in lines) == "no"
        assert lines[-1]["x_openai"] == {"id": "x1"} | BESIDE


async def test_a_refusal_out_of_the_cache() -> None:
    """It is a refusal again to OpenAI's clients, and the text to Ollama's."""
    async with serving(refusing) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        body = {"model": "m", "messages": HI, "seed": 1}
        first, again = [await hub.post("/v1/chat/completions", body) for _ in range(2)]
        assert again.headers["X-AgentHub-Cache"] == "hit"
        assert first.json()["choices"][0]["message"] == again.json()["choices"][0]["message"] == REFUSED
        asked = {"model": "m", "messages": HI, "options": {"seed": 1}, "stream": False}
        native = await hub.post("/api/chat", asked)
        assert (native.headers["X-AgentHub-Cache"], native.json()["message"]["content"]) == ("hit", "no")


async def test_a_refusal_streamed_out_of_the_cache() -> None:
    """It is a refusal again to OpenAI's clients."""
    async with serving(refusing) as upstream, running_hub(upstream.url, api_mode="openai") as hub:
        body = {"model": "m", "messages": HI, "seed": 1, "stream": True}
        for _ in range(2):
            frames = (await hub.post("/v1/chat/completions", body)).frames()
            deltas = [frame["choices"][0]["delta"] for frame in frames[:-1] if frame["choices"]]
            assert "".join(delta.get("refusal") or "" for delta in deltas) == "no"
