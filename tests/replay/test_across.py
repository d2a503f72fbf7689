"""Every recorded answer, reached from the other dialect: what it says arrives, in the shape that clients rely on."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from agenthub.settings import CircuitBreakerSettings
from tests.hubs import RunningHub, running_hub
from tests.replay.exchanges import Exchange, exchanges
from tests.replay.oracle import KINDS, STREAM_BROKE, Call, Said, told
from tests.replay.readers import read
from tests.replay.wire import Player, playing, send

MODEL = "asked-for"
MESSAGES = [{"role": "user", "content": "hi"}]
WAYS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "/api/chat": [("/v1/chat/completions", {"messages": MESSAGES})],
    "/api/generate": [("/v1/completions", {"prompt": "hi"})],
    "/api/embed": [
        ("/v1/embeddings", {"input": ["hi", "ho"]}),
        ("/v1/embeddings", {"input": "hi", "encoding_format": "base64"}),
    ],
    "/v1/chat/completions": [
        ("/api/chat", {"messages": MESSAGES}),
        ("/api/generate", {"prompt": "hi", "system": "Be brief."}),
    ],
    "/v1/completions": [("/api/generate", {"prompt": "hi", "raw": True})],
    "/v1/embeddings": [("/api/embed", {"input": ["hi", "ho"]}), ("/api/embeddings", {"prompt": "hi"})],
}
"""Which requests of the other dialect an endpoint's answers are reached by.

Nothing of OpenAI's reaches /api/embeddings: the native adapter asks its successor.
"""
ANSWERED = [exchange for exchange in exchanges() if exchange.method == "POST" and exchange.path in WAYS]


def by_name(exchange: Exchange) -> str:
    return exchange.name


@pytest.mark.parametrize("exchange", ANSWERED, ids=by_name)
async def test_an_answer_reached_from_the_other_dialect(exchange: Exchange) -> None:
    """Text, thinking, calls, reason, counts, log-probabilities, vectors and errors are those that were recorded.

    So it is whole and streamed, however the upstream answered; a stream that was cut becomes an error.
    """
    mode = "native" if exchange.path.startswith("/api") else "openai"
    patient = CircuitBreakerSettings(failure_threshold=100)
    async with (
        playing(exchange) as (upstream, player),
        running_hub(upstream, api_mode=mode, circuit_breaker=patient) as hub,
    ):
        for path, body in WAYS[exchange.path]:
            if "input" in body:
                # An answer holds a vector for each input, or it is none; there must be one.
                body = body | {"input": ["hi"] * max(1, len(told(exchange).vectors))}
            for extras in ({},) if "embed" in path else ways_of_streaming(path):
                await ask(hub, player, exchange, path, {"model": MODEL} | body | extras)
        assert not [line for line in hub.lines if line["event"] == "agenthub.request_crashed"]


def ways_of_streaming(path: str) -> list[dict[str, Any]]:
    """Whole and streamed; OpenAI's streams with and without counts."""
    if path.startswith("/api"):
        return [{"stream": False}, {"stream": True}]
    return [{"stream": False}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}]


async def ask(hub: RunningHub, player: Player, exchange: Exchange, path: str, body: dict[str, Any]) -> None:
    """Send one request and compare what its answer says with what the recording says."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nCache-Control: no-store\r\nContent-Length: {len(data)}\r\n\r\n"
    answer = await send(hub.url, head.encode() + data)
    streamed = bool(body.get("stream"))
    assert (answer.content_type == "application/json") == (answer.status >= 400 or not streamed)
    with_usage = not streamed or path.startswith("/api") or "stream_options" in body
    said = read(answer, path, MODEL, usage_wanted=with_usage)
    assert player.asked[-1].path == exchange.path
    wanted = expected(told(exchange), path, streamed, with_usage)
    assert settled(said, wanted) == wanted, (path, body)


def settled(said: Said, wanted: Said) -> Said:
    """What was said, with what nobody can foretell put as it was wanted: ids the hub made up, words of its own."""
    calls = said.calls
    if len(calls) == len(wanted.calls):
        pairs = zip(calls, wanted.calls, strict=True)
        calls = tuple(attrs.evolve(call, id=call.id if other.id else "") for call, other in pairs)
    return attrs.evolve(said, calls=calls, error="?" if said.error and wanted.error == "?" else said.error)


def expected(said: Said, path: str, streamed: bool, with_usage: bool) -> Said:
    """What a client of ``path`` has to be told."""
    openai = path.startswith("/v1")
    if said.error and said.status in (401, 403):
        # About the hub's own key, which is no matter of the client's.
        return failure(Said(STREAM_BROKE, error="?"), openai, streamed)
    if said.error:
        return failure(said, openai, streamed)
    if "embed" in path:
        legacy = path == "/api/embeddings"
        if not said.vectors or (legacy and len(said.vectors) > 1):
            return failure(Said(STREAM_BROKE, error="?"), openai, streamed)
        count = said.usage[0] if said.usage else 0
        return Said(vectors=said.vectors, usage=None if legacy else (count, 0, None))
    usage = said.usage
    if openai:
        usage = (said.usage or (0, 0, None)) if with_usage else None
        reason = {"length": "length"}.get(said.reason, "tool_calls" if said.calls else "stop")
        if path == "/v1/completions":
            # The legacy endpoint has no place for thinking.
            said = attrs.evolve(said, reasoning="")
        return attrs.evolve(said, reason=reason, usage=usage)
    if path == "/api/generate":
        said = attrs.evolve(said, calls=())
    return attrs.evolve(said, usage=usage)


def failure(said: Said, openai: bool, streamed: bool) -> Said:
    """An error keeps its status and its words; in the middle of a stream it follows what came before.

    Ollama says 500 to what is the client's mistake: OpenAI's SDKs would try again, so to them it is 400.
    """
    if openai and said.status == 500 and said.error.startswith(('option "', "invalid format")):
        said = attrs.evolve(said, status=400)
    kind, code = KINDS[said.status if said.status >= 400 else STREAM_BROKE]
    kind, code = (said.kind or kind, said.code or code) if openai else ("", None)
    if said.status >= 400 or not streamed:
        return Said(said.status if said.status >= 400 else STREAM_BROKE, error=said.error, kind=kind, code=code)
    return attrs.evolve(said, reasoning="", reason="", usage=None, calls=(), kind=kind, code=code)


def test_the_oracle_itself() -> None:
    """Spot checks by hand, so that no mistake is made twice."""
    by = {exchange.name: told(exchange) for exchange in ANSWERED}
    assert by["ollama-0.9.3/67-chat-tools-stream"].calls == (Call("get_time", '{"city":"Oslo"}'),)
    assert by["ollama-0.9.3/70-chat-think-stream"] == Said(
        text="Forty-two.", reasoning="Let me ponder", reason="stop", usage=by["ollama-0.9.3/69-chat-think"].usage
    )
    assert by["ollama-0.9.3/57-chat-nonstream"].usage == (11, 32, None)
    assert by["llama-server-2026/13-v1-chat-stream-usage"].usage == (11, 32, 10)
    assert by["ollama-0.9.3-busy/busy-api-generate-503"].status == 503
    killed = by["ollama-0.9.3-runner-killed/06-runner-killed-v1-chat-stream"]
    assert (killed.text[:14], killed.error, killed.reason) == (" one two three", "?", "")
    dead = by["ollama-0.9.3-runner-killed/04-runner-killed-chat-stream"]
    assert dead.error == "an error was encountered while running the model: unexpected EOF"
    assert len(by["ollama-0.9.3/75-embed-array"].vectors) == 2
    assert len(by["llama-server-2026/32-v1-chat-logprobs"].logprobs) == 2
