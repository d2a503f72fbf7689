"""The journey of a request, from the client's socket to the upstream's and back. Read this one first."""

from __future__ import annotations

import json

from agenthub.standin import Standin, running
from tests.hubs import running_hub

TEXT = "Naïve café ☕ text."


async def test_a_request_of_the_backends_own_dialect_goes_through_byte_for_byte() -> None:
    """An Ollama client at a native backend: the upstream sees the client's bytes, the client sees the upstream's."""
    body = b'{ "model":"standin" , "stream":false, "new_field": 1.50, "messages":[{"role":"user","content":"hi"}] }'
    async with running(Standin(text=TEXT)) as upstream, running_hub(upstream) as hub:
        async with hub.http.post(upstream + "/api/chat", data=body) as response:
            direct = await response.read()
        answered = await hub.post("/api/chat", body)
        assert answered.status == 200
        assert strip_times(answered.json()) == strip_times(json.loads(direct))
        assert list(answered.json()) == list(json.loads(direct))


async def test_a_request_of_the_other_dialect_crosses_by_way_of_the_canonical_model() -> None:
    """An OpenAI client at a native backend: the upstream gets Ollama's request, the client OpenAI's answer."""
    standin = Standin(text=TEXT)
    body = {"model": "standin", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    async with running(standin) as upstream, running_hub(upstream) as hub:
        answered = await hub.post("/v1/chat/completions", body, X_Request_Id="abc", X_Client_Name="test")

        asked = standin.requests[-1]
        assert asked.path == "/api/chat"
        assert asked.json() == {
            "model": "standin",
            "stream": False,
            "options": {"num_predict": 100},
            "messages": [{"role": "user", "content": "hi"}],
        }
        answer = answered.json()
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"]["content"] == TEXT
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answered.headers["X-Request-Id"] == "abc"
        assert answered.headers["X-AgentHub-Backend"] == "ollama"
        assert answered.headers["X-AgentHub-Api-Mode"] == "native"
        assert answered.headers["X-AgentHub-Cache"] == "bypass"
        assert "upstream;dur=" in answered.headers["Server-Timing"]

        (line,) = hub.dispatches()
        facts = {"request_id": "abc", "client": "test", "dialect": "openai", "operation": "chat", "model": "standin"}
        facts |= {"backend": "ollama", "api_mode": "native", "cache": "bypass", "outcome": "ok", "status": 200}
        assert facts.items() <= line.items()
        usage = answer["usage"]
        assert (line["prompt_tokens"], line["completion_tokens"]) == (
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
        assert line["bytes"] == len(answered.body)
        assert 0 <= line["first_event_s"] <= line["total_s"]
        assert TEXT not in str(line)


async def test_a_stream_is_rendered_while_it_arrives() -> None:
    """Each piece reaches the client before the upstream has sent the next: nothing is collected on the way."""
    standin = Standin(text="one two three", endless=True, pace_s=0.01)
    async with running(standin) as upstream, running_hub(upstream) as hub:
        stream = await hub.openai.chat.completions.create(
            model="standin", stream=True, messages=[{"role": "user", "content": "hi"}]
        )
        pieces = []
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")
            if len(pieces) == 5:
                break
        await stream.close()
        assert "".join(pieces).startswith("one two three")
        await standin.abandoned.reach(1, timeout_s=10.0)


def strip_times(answer: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in answer.items() if name != "created_at" and "duration" not in name}
