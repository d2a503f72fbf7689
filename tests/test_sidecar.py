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
