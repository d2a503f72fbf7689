"""Every recorded request, sent through the other adapter: what is taken, refused, dropped."""

from __future__ import annotations

import json

import pytest

from tests.hubs import running_hub
from tests.replay.exchanges import Exchange, exchanges, find
from tests.replay.wire import playing, send

ANSWERS = {
    "/v1/chat/completions": ("native", "57-chat-nonstream", "58-chat-stream"),
    "/v1/completions": ("native", "21-generate-nonstream", "22-generate-stream"),
    "/v1/embeddings": ("native", "74-embed", "74-embed"),
    "/api/chat": ("openai", "102-v1-chat", "103-v1-chat-stream"),
    "/api/generate": ("openai", "102-v1-chat", "103-v1-chat-stream"),
    "/api/embed": ("openai", "145-v1-embeddings", "145-v1-embeddings"),
    "/api/embeddings": ("openai", "145-v1-embeddings", "145-v1-embeddings"),
}
"""The adapter to go through, and what its upstream answers, whole and streamed, whatever it is asked."""
ELSEWHERE = {
    "ollama-0.9.3/32-generate-missing-model": "the server does not have the model",
    "ollama-0.9.3/33-generate-missing-model-nonstream": "the server does not have the model",
    "ollama-0.9.3/36-generate-model-bad-name": "the server does not have the model",
    "ollama-0.9.3/61-chat-missing-model": "the server does not have the model",
    "ollama-0.9.3/82-embed-missing-model": "the server does not have the model",
    "ollama-0.9.3/112-v1-chat-missing-model": "the server does not have the model",
    "ollama-0.9.3/113-v1-chat-missing-model-stream": "the server does not have the model",
    "ollama-0.9.3/141-v1-completions-missing-model": "the server does not have the model",
    "ollama-0.9.3/152-v1-embeddings-missing-model": "the server does not have the model",
    "ollama-0.9.3/47-generate-suffix-unsupported": "the model cannot do it",
    "ollama-0.9.3/48-generate-think-unsupported": "the model cannot do it",
    "ollama-0.9.3/51-generate-embed-model": "the model cannot do it",
    "ollama-0.9.3/68-chat-tools-unsupported": "the model cannot do it",
    "ollama-0.9.3/73-chat-embed-model": "the model cannot do it",
    "ollama-0.9.3/130-v1-chat-tools-unsupported": "the model cannot do it",
    "ollama-0.9.3/143-v1-completions-suffix": "the model cannot do it",
    "llama-server-2026/30-v1-chat-image": "the model cannot do it",
    "llama-server-2026/47-v1-embeddings-disabled": "the model cannot do it",
    "ollama-0.9.3/83-embed-too-long-truncate-false": "the text is too long for the model",
    "llama-server-2026/35-v1-chat-too-long": "the text is too long for the model",
    "llama-server-2026/36-v1-chat-too-long-stream": "the text is too long for the model",
    "ollama-0.9.3-busy/busy-api-generate-503": "the server was busy",
    "ollama-0.9.3-busy/busy-v1-chat-completions-503": "the server was busy",
    "ollama-0.9.3-runner-killed/10-runner-killed-generate-nonstream": "the model died",
    "ollama-0.9.3-runner-killed/12-runner-killed-v1-chat-nonstream": "the model died",
    "ollama-0.9.3/125-v1-chat-content-null": "Ollama's /v1 refuses null; its own API has no such thing",
    "llama-server-2026/31-v1-chat-n2": "llama.cpp gives one choice; the hub asks twice",
    "ollama-0.9.3/139-v1-completions-array": "Ollama takes one prompt; the hub asks for each",
    "llama-server-2026/38-v1-chat-grammar-bad": "a field of llama.cpp's own, which is dropped and noted",
    "llama-server-2026/45-v1-completions-no-prompt": "without a prompt Ollama loads the model",
}
"""Requests that were refused for what the server, its model or its dialect is: another may answer them."""
OTHERWISE = {
    "ollama-0.9.3/27-generate-bad-option-type": "the request is at fault, whatever number Ollama puts on it",
    "ollama-0.9.3/31-generate-format-bad": "the request is at fault, whatever number Ollama puts on it",
    "ollama-0.9.3/46-generate-system-template": "a template has no place in the other API: rejected by name",
    "ollama-0.9.3/111-v1-chat-response-format-bad": "a format that nobody knows: rejected by name, not ignored",
    "llama-server-2026/15-v1-chat-no-model": "a hub routes by the model",
    "llama-server-2026/23-v1-chat-empty-messages": "as Ollama does: there is nothing to answer",
    "llama-server-2026/24-v1-chat-malformed": "a client's mistake is no 500",
    "llama-server-2026/25-v1-chat-empty-body": "a client's mistake is no 500",
    "llama-server-2026/41-v1-chat-invalid-utf8": "a client's mistake is no 500",
    "llama-server-2026-key/02-chat-no-key": "a hub routes by the model",
    "llama-server-2026-key/03-chat-bad-key": "a hub routes by the model",
    "llama-server-2026-key/04-chat-good-key": "a hub routes by the model",
}
"""Requests that are a 400 though the real server gave them another number, and why."""
DROPPED = {
    "ollama-0.9.3/26-generate-unknown-option": "options.bogus",
    "ollama-0.9.3/43-generate-unknown-field": "bogus",
    "ollama-0.9.3/48-generate-think-unsupported": "think",
    "ollama-0.9.3/53-generate-num-ctx": "options.num_ctx",
    "ollama-0.9.3/55-generate-think-stream": "think",
    "ollama-0.9.3/69-chat-think": "think",
    "ollama-0.9.3/70-chat-think-stream": "think",
    "ollama-0.9.3/83-embed-too-long-truncate-false": "truncate",
    "ollama-0.9.3/86-embeddings-legacy": "unnormalised",
    "ollama-0.9.3/110-v1-chat-json-schema": "response_format.json_schema.strict",
    "ollama-0.9.3/122-v1-chat-unknown-field": "bogus",
    "llama-server-2026/38-v1-chat-grammar-bad": "grammar",
}
"""What is left behind of these requests, as the client is told; of all others nothing."""
SEVERAL = {
    "ollama-0.9.3/121-v1-chat-n2",
    "ollama-0.9.3/139-v1-completions-array",
    "llama-server-2026/31-v1-chat-n2",
    "llama-server-2026/44-v1-completions-array",
}
"""Requests for two choices, or of two prompts: an Ollama is asked twice."""
SAME_COUNT = {
    "ollama-0.9.3/75-embed-array": "146-v1-embeddings-array",
    "ollama-0.9.3/146-v1-embeddings-array": "75-embed-array",
}
"""Requests for several vectors, and an answer that holds as many."""
ASKED = [exchange for exchange in exchanges() if exchange.method == "POST" and exchange.path in ANSWERS]


def expected_status(exchange: Exchange) -> int:
    """The recorded status, or the one that the lists give a reason for."""
    if exchange.name in OTHERWISE:
        return 400
    return 200 if exchange.name in ELSEWHERE else exchange.status


@pytest.mark.parametrize("exchange", ASKED, ids=lambda exchange: exchange.name)
async def test_a_request_through_the_other_adapter(exchange: Exchange) -> None:
    """Nothing that a real server takes is refused but what the list says, and nothing is dropped in silence."""
    mode, whole, streamed = ANSWERS[exchange.path]
    answers = find(f"ollama-0.9.3/{SAME_COUNT.get(exchange.name, streamed if exchange.streamed else whole)}")
    is_load = mode == "openai" and loads_only(exchange)
    answers = exchange if is_load else answers
    async with playing(answers) as (upstream, player), running_hub(upstream, api_mode=mode) as hub:
        answer = await send(hub.url, exchange.request())
    assert answer.status == expected_status(exchange), answer.body
    assert answer.header("X-AgentHub-Dropped") == DROPPED.get(exchange.name, "")
    if answer.status >= 400:
        assert player.asked == []
        error = json.loads(answer.body)["error"]
        assert isinstance(error, str if exchange.path.startswith("/api") else dict)
    else:
        assert len(player.asked) == (2 if exchange.name in SEVERAL else 1)
        assert player.asked[0].start.split()[1].startswith("/api/" if is_load or mode == "native" else "/v1/")


def loads_only(exchange: Exchange) -> bool:
    """Say whether the request only loads or unloads a model, which an Ollama is asked by its own API."""
    body = {} if exchange.streamed or exchange.status != 200 else json.loads(exchange.answer)
    return body.get("done_reason") in ("load", "unload") or [] in (body.get("embedding"), body.get("embeddings"))
