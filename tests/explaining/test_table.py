"""What explain says is what happens: its upstream requests against the bytes that an upstream then receives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import attrs
import pytest

from agenthub.settings import (
    BackendSettings,
    CachingSettings,
    ClientSettings,
    HealthSettings,
    ModelSettings,
    Secret,
)
from agenthub.standin import Standin, running
from tests.hubs import ONCE, RunningHub, running_hub

CHAT, GENERATE, EMBED = "/api/chat", "/api/generate", "/api/embed"
CHATS, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
HI: list[Any] = [{"role": "user", "content": "hi"}]
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
SHOWN: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
TOOL: Any = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
CALLED: list[Any] = [
    {"role": "user", "content": "what time is it now?"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "noon"},
]
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}}
DIGEST = "sha256:" + "a" * 64
KEY, ORG, FORWARDED, CLIENTS = "sk-upstream-key", "org-of-the-upstream", "Bearer my-own-upstream-key", "sk-of-a-client"
SECRETS = {"authorization": {f"Bearer {KEY}", FORWARDED}, "x-org": {ORG}}
STARS = {"********", "Bearer ********"}
NATIVE, OPENAI = {"X-AgentHub-Api-Mode": "native"}, {"X-AgentHub-Api-Mode": "openai"}


@attrs.frozen
class Row:
    """A request; ``path`` and ``body`` as a client sends them, ``hub`` the settings that it meets."""

    path: str
    body: Any = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    method: str = "POST"
    hub: str = "plain"


def both(path: str, body: Any) -> list[Row]:
    """The same through either adapter."""
    return [Row(path, body, mode) for mode in (NATIVE, OPENAI)]


ROWS = [
    *both(CHAT, {"model": "standin", "messages": HI}),
    *both(CHAT, {"model": "standin", "messages": HI, "stream": False, "options": {"num_ctx": 4096, "seed": 1}}),
    *both(CHAT, {"model": "standin", "messages": [{**HI[0], "images": [PICTURE]}], "keep_alive": "5m"}),
    *both(CHAT, {"model": "standin", "messages": HI, "tools": [TOOL], "think": True, "stream": False}),
    *both(CHAT, {"model": "standin", "messages": HI, "think": "high", "format": "json"}),
    *both(CHAT, {"model": "standin"}),
    *both(
        CHAT, b'{"messages" : [ {"content": "h\\u00e9", "role":"user"}], "model":"standin","zzz": 1.0 , "stream":false}'
    ),
    *both(GENERATE, {"model": "standin", "prompt": "hi", "system": "be brief", "stream": False}),
    *both(GENERATE, {"model": "standin", "prompt": "hi", "raw": True, "options": {"num_predict": 3}}),
    *both(GENERATE, {"model": "standin", "prompt": "def f():", "suffix": "return 1", "stream": False}),
    *both(EMBED, {"model": "standin-embed", "input": ["a", "b"], "truncate": True}),
    *both("/api/embeddings", {"model": "standin-embed", "prompt": "a"}),
    *both(CHATS, {"model": "standin", "messages": HI}),
    *both(CHATS, {"model": "standin", "messages": HI, "stream": True, "stream_options": {"include_usage": True}}),
    *both(
        CHATS, {"model": "standin", "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, SHOWN]}]}
    ),
    *both(CHATS, {"model": "standin", "messages": CALLED, "tools": [TOOL], "parallel_tool_calls": False}),
    *both(CHATS, {"model": "agent", "messages": CALLED[:1], "tools": [TOOL], "tool_choice": "required", "n": 2}),
    *both(CHATS, {"model": "standin", "messages": HI, "n": 3, "seed": 7, "max_tokens": 5}),
    *both(CHATS, {"model": "standin", "messages": HI, "response_format": SCHEMA, "reasoning_effort": "low"}),
    *both(CHATS, {"model": "standin", "messages": HI, "logit_bias": {"1": 5}}),
    *both(CHATS, {"model": "standin", "messages": HI, "user": "me", "metadata": {"a": "b"}}),
    *both(CHATS, {"model": "standin", "messages": HI, "keep_alive": "1h", "num_ctx": 2048}),
    *both(COMPLETIONS, {"model": "standin", "prompt": "hi", "max_tokens": 4, "stop": ["x"]}),
    *both(COMPLETIONS, {"model": "standin", "prompt": ["one", "two"], "n": 2, "stream": True}),
    *both(EMBEDDINGS, {"model": "standin-embed", "input": "a", "dimensions": 3}),
    *both(EMBEDDINGS, {"model": "standin-embed", "input": ["a", "b"], "encoding_format": "base64"}),
    *both("/api/show", {"model": "standin"}),
    *both("/api/pull", {"model": "fresh", "stream": False}),
    *both("/api/copy", {"source": "standin", "destination": "twin"}),
    Row("/api/pull", {"model": "fresh"}),
    Row("/api/push", {"model": "standin", "stream": False}),
    Row("/api/create", {"model": "made", "from": "standin", "stream": False}),
    Row("/api/delete", {"model": "twin"}, method="DELETE"),
    Row("/api/delete", {"model": "standin-embed"}, method="DELETE"),
    Row(f"/api/blobs/{DIGEST}", None, method="HEAD"),
    Row(f"/api/blobs/{DIGEST}", b"not what the digest says"),
    Row("/v1/models/standin", method="GET"),
    Row("/v1/models/no%2Fsuch", method="GET"),
    Row("/v1/models", method="GET"),
    Row("/api/tags", method="GET"),
    Row("/api/ps", method="GET"),
    Row("/api/version", method="GET"),
    Row("/", method="GET"),
    Row("/nowhere"),
    Row(CHAT, method="GET"),
    Row(CHAT, b"{"),
    Row(CHATS, b"[1]"),
    Row(CHATS, {"messages": HI}),
    Row(CHAT, {"model": "unheard-of", "messages": HI, "stream": False}),
    Row(CHATS, {"model": "standin", "messages": HI}, {"X-AgentHub-Api-Mode": "telepathy"}),
    Row(CHATS, {"model": "standin", "messages": HI, "user": "me"}, {"X-AgentHub-Strict": "true"}),
    Row(CHAT, {"model": "standin", "messages": HI}, {"Host": "evil.example"}),
    Row(CHAT, {"model": "standin", "messages": HI}, {"Origin": "https://evil.example"}),
    Row(CHAT, {"model": "standin", "messages": HI, "stream": False}, {"Origin": "http://localhost:3000"}),
    Row(CHAT, None, {"Origin": "http://localhost", "Access-Control-Request-Method": "POST"}, method="OPTIONS"),
    Row(CHAT, {"model": "standin", "messages": HI}, {"Content-Encoding": "snappy"}),
    *(
        Row(path, {"messages": HI, "stream": False, **body}, {"X-AgentHub-Api-Mode": "auto"})
        for path in (CHAT, CHATS)
        for body in (
            {"model": "standin"},
            {"model": "standin", "logit_bias": {"1": 5}},
            {"model": "standin", "keep_alive": "1h", "options": {"num_ctx": 512}},
            {"model": "standin-embed"},
            {"model": "standin", "messages": [{"role": "user", "content": "long " * 9000}]},
        )
    ),
    *(
        Row(path, {"model": name, "messages": HI, "stream": False, **more}, {"X-Client-Name": client}, hub="rich")
        for path in (CHAT, CHATS)
        for name, client, more in [
            ("standin", "", {}),
            ("gpt-4o", "", {}),
            ("GPT-4o:latest", "editor", {"temperature": 0.5}),
            ("pinned", "editor", {"options": {"temperature": 0}}),
            ("pinned", "strict", {}),
            ("only-b", "", {}),
        ]
    ),
    Row(COMPLETIONS, {"model": "gpt-4o", "prompt": ["a", "b"]}, {"X-Client-Name": "editor"}, hub="rich"),
    Row(CHAT, {"model": "standin", "messages": HI}, {"Authorization": FORWARDED}, hub="rich"),
    Row(CHATS, {"model": "pinned", "messages": HI}, {"Authorization": FORWARDED, **NATIVE}, hub="rich"),
    Row(EMBEDDINGS, {"model": "standin-embed", "input": "a"}, {"Authorization": FORWARDED}, hub="rich"),
    Row("/api/show", {"model": "gpt-4o"}, hub="rich"),
    Row("/api/show", {"model": "gpt-4o"}, {"User-Agent": "GitHubCopilotChat/1"}, hub="rich"),
    Row("/api/ps", method="GET", hub="rich"),
    Row("/v1/models/gpt-4o", method="GET", hub="rich"),
    Row(CHAT, {"model": "standin", "messages": HI}, hub="keyed"),
    Row(CHAT, {"model": "standin", "messages": HI}, {"Authorization": "Bearer wrong"}, hub="keyed"),
    Row(CHATS, {"model": "standin", "messages": HI}, {"Authorization": f"Bearer {CLIENTS}"}, hub="keyed"),
    Row(CHATS, {"model": "standin", "messages": HI}, {"x-api-key": CLIENTS, "Authorization": FORWARDED}, hub="keyed"),
    Row(CHATS, {"model": "another", "messages": HI}, {"x-api-key": CLIENTS}, hub="keyed"),
    Row(EMBED, {"model": "standin", "input": "a"}, {"x-api-key": CLIENTS}, hub="keyed"),
    Row("/api/show", {"model": "another"}, {"x-api-key": CLIENTS}, hub="keyed"),
    Row("/api/tags", None, {"x-api-key": CLIENTS}, method="GET", hub="keyed"),
]


def configured(name: str, url: str) -> tuple[dict[str, BackendSettings], dict[str, Any]]:
    """The backends and the other settings under that name."""
    secret = BackendSettings(
        url=f"{url}/v1",
        api_mode="openai",
        api_key=Secret(KEY),
        headers={"X-Org": Secret(ORG)},
        forward_authorization=True,
        flavour="vllm",
    )
    if name == "plain":
        return {"a": BackendSettings(url=url)}, {}
    if name == "keyed":
        client = ClientSettings(api_key=CLIENTS, models=("standin",), operations=("chat", "show", "list"))  # type: ignore[arg-type]
        return {"b": secret}, {"clients": {"known": client}}
    aliases = {
        "gpt-4o": ModelSettings(target="standin", options={"num_predict": 9, "top_k": 2}),
        "pinned": ModelSettings(target="standin", backends=("b",), options={"temperature": 0.1}),
        "only-b": ModelSettings(target="standin", backends=("b",), api_mode="native"),
    }
    clients = {"editor": ClientSettings(api_mode="openai"), "strict": ClientSettings(api_mode="native", strict=True)}
    return {"a": BackendSettings(url=url, priority=2), "b": secret}, {"models": aliases, "clients": clients}


@asynccontextmanager
async def hub_of(name: str) -> AsyncIterator[tuple[RunningHub, Standin]]:
    """Serve a hub of that name, whose lists are known and which asks nothing by itself."""
    standin = Standin(models=("standin", "standin-embed", "agent"), text=None)
    quiet: dict[str, Any] = {"health": HealthSettings(interval_s=0, models_refresh_s=0), "retries": ONCE}
    quiet["caching"] = CachingSettings(policy="off")
    async with running(standin) as url:
        backends, settings = configured(name, url)
        async with running_hub(backends, **quiet, **settings) as hub:
            await hub.hub.router.refresh()
            await hub.hub.router.detect()
            standin.requests.clear()
            yield hub, standin


def spelled(body: Any) -> str | None:
    if body is None:
        return None
    return body.decode() if isinstance(body, bytes) else json.dumps(body)


def uploaded(body: bytes) -> str:
    """What the stand-in remembers of an upload."""
    return f"{len(body)} {sha256(body).hexdigest()}"


async def explained(hub: RunningHub, row: Row, **headers: str) -> Any:
    description = {"method": row.method, "path": row.path, "headers": dict(row.headers), "body": spelled(row.body)}
    answer = await hub.post("/hub/explain", description, **headers)
    assert answer.status == 200, answer.text
    return answer.json()


def check_headers(told: list[list[str]], received: Mapping[str, str]) -> None:
    """Each header in its place, with its value, or with stars where it is a secret that was really sent."""
    assert [name.lower() for name, _ in told] == [name.lower() for name in received]
    for name, value in told:
        if value in STARS:
            assert received[name] in SECRETS[name.lower()]
        else:
            assert received[name] == value


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.hub} {row.method} {row.path} {ROWS.index(row)}")
async def test_what_is_said_is_what_happens(row: Row) -> None:
    """The upstream gets just the requests that explain told, byte for byte; a refusal has the status and body told."""
    async with hub_of(row.hub) as (hub, standin):
        told = await explained(hub, row, **({"x-api-key": CLIENTS} if row.hub == "keyed" else {}))
        assert not standin.requests
        headers = row.headers
        if row.hub == "keyed" and not headers:
            headers = {"x-api-key": CLIENTS}  # who asks for an explanation without a key asks about itself
        data = spelled(row.body)
        async with hub.http.request(row.method, hub.url + row.path, headers=headers, data=data) as response:
            body = await response.read()
        received = list(standin.requests)
        requests = (told.get("upstream") or {"requests": []})["requests"]
        certain = sum(one["is_certain"] for one in requests)
        assert certain <= len(received) <= len(requests)
        assert all(one["is_certain"] for one in requests[:certain])
        for one, arrived in zip(requests, received, strict=False):
            assert (one["method"], one["url"]) == (arrived.method, f"http://{arrived.headers['Host']}{arrived.path}")
            check_headers(one["headers"], arrived.headers)
            assert (uploaded(row.body) if one["body"] is None else one["body"]) == arrived.body.decode()
        answer = told["answer"]
        if answer["status"] is not None:
            assert response.status == answer["status"]
            if response.status >= 400:
                assert body == b"" if answer["body"] is None else json.loads(body) == answer["body"]
        for secret in (KEY, ORG, FORWARDED.split()[1], CLIENTS):
            assert secret not in json.dumps(told)


def test_the_table_is_large_enough() -> None:
    """At least 40 requests that reach an upstream or are refused."""
    assert len(ROWS) >= 40
