"""Which headers pass from a client to an upstream and back, in every lane, and which secrets never do."""

from __future__ import annotations

import gzip
import json
import re

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agenthub.settings import BackendSettings, LogSettings
from tests.hubs import ONCE, RunningHub, running_hub
from tests.replay.exchanges import Exchange
from tests.replay.wire import Message, playing, send
from tests.test_broken_answers import PATHS, STREAMS, TYPES, WHOLE, answer

SENT = (
    "Connection: keep-alive, X-Private",
    "X-Private: hop",
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "Trailer: X-Sum",
    "Proxy-Authorization: Basic c2VjcmV0",
    "Proxy-Connection: keep-alive",
    "Authorization: Bearer client-key",
    "X-Api-Key: client-key",
    "Cookie: session=client-cookie",
    "Forwarded: for=10.0.0.1",
    "User-Agent: client/1",
    "Accept-Encoding: gzip, br",
    "X-Client-Name: vscode",
)
"""What a client may send along."""
OURS = {"host", "user-agent", "via", "accept", "accept-encoding", "content-type", "content-length"}
"""All that an upstream is told."""
HOP_BY_HOP = (
    ("Connection", "X-Private"),
    ("X-Private", "hop"),
    ("Keep-Alive", "timeout=5, max=100"),
    ("Proxy-Authenticate", "Basic"),
    ("Trailer", "X-Sum"),
    ("Upgrade", "h2c"),
)
END_TO_END = (
    ("Server", "llama.cpp"),
    ("Set-Cookie", "upstream=secret"),
    ("Access-Control-Allow-Origin", "*"),
    ("X-Powered-By", "upstream"),
    ("X-Request-Id", "upstream-id"),
)
KEPT = (
    ("Retry-After", "7"),
    ("x-ratelimit-remaining-requests", "5"),
    ("X-RateLimit-Reset-Tokens", "6m0s"),
)
HUBS = {
    *("content-type", "content-length", "transfer-encoding", "date", "server", "cache-control", "x-accel-buffering"),
    *("x-request-id", "x-agenthub-backend", "x-agenthub-api-mode", "x-agenthub-cache", "server-timing", "connection"),
}
"""What the hub itself tells a client."""


def request(dialect: str, *headers: str, streamed: bool = False) -> bytes:
    """A chat with these headers."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": streamed}).encode()
    lines = [f"POST {PATHS[dialect]} HTTP/1.1", "Host: hub.internal", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def with_headers(recording: Exchange, *headers: tuple[str, str]) -> Exchange:
    return attrs.evolve(recording, answer_headers=(*recording.answer_headers, *headers))


def good(mode: str, streamed: bool) -> Exchange:
    """A good answer of an upstream, streamed or whole."""
    if streamed:
        return answer(mode, STREAMS[mode])
    return answer(mode, [WHOLE[mode]], content_type="application/json")


WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@WAYS
async def test_headers_of_a_request(lane: tuple[str, str], streamed: bool) -> None:
    """An upstream learns nothing but what the hub has to say: no hop-by-hop headers, no cookies, no keys."""
    async with (
        playing(good(lane[1], streamed)) as (upstream, player),
        running_hub(upstream, api_mode=lane[1]) as hub,
    ):
        assert (await send(hub.url, request(lane[0], *SENT, streamed=streamed))).status == 200
    (asked,) = player.asked
    sent = {name.lower(): value for name, value in asked.headers}
    assert set(sent) == OURS
    assert re.fullmatch(r"1\.1 agenthub-[0-9a-f]{16}", sent["via"])
    assert (sent["user-agent"], sent["accept-encoding"]) == ("agenthub", "identity")
    assert sent["host"] == upstream.removeprefix("http://")
    assert len(sent) == len(asked.headers)


@WAYS
async def test_headers_of_an_answer(lane: tuple[str, str], streamed: bool) -> None:
    """Rate limits pass; nothing that is between the hub and its upstream does, nor what tells of the upstream."""
    told = with_headers(good(lane[1], streamed), *HOP_BY_HOP, *END_TO_END, *KEPT)
    async with playing(told) as (upstream, _), running_hub(upstream, api_mode=lane[1]) as hub:
        got = await send(hub.url, request(lane[0], streamed=streamed))
    assert got.status == 200
    check_answer(got)


async def test_headers_of_a_refusal(lane: tuple[str, str]) -> None:
    """The same of an error."""
    told = with_headers(answer(lane[1], [b'{"error":"slow down"}'], status=429), *HOP_BY_HOP, *END_TO_END, *KEPT)
    async with playing(told) as (upstream, _), running_hub(upstream, api_mode=lane[1], retries=ONCE) as hub:
        got = await send(hub.url, request(lane[0]))
    assert got.status == 429
    check_answer(got)


def check_answer(got: Message) -> None:
    """Only what the hub says, and the rate limits; each header once."""
    names = [name.lower() for name, _ in got.headers]
    assert sorted(names) == sorted(set(names))
    assert set(names) - HUBS == {name.lower() for name, _ in KEPT}
    assert {got.header(name) for name, _ in KEPT} == {value for _, value in KEPT}
    assert "llama" not in got.header("Server")
    assert got.header("X-Request-Id") != "upstream-id"


@WAYS
async def test_an_upstream_that_compresses(lane: tuple[str, str], streamed: bool) -> None:
    """Though it was asked not to: the client, which did not ask for it, gets the same answer plain."""
    plain = good(lane[1], streamed)
    packed = with_headers(attrs.evolve(plain, parts=(gzip.compress(plain.answer),)), ("Content-Encoding", "gzip"))
    bodies = []
    for recording in (plain, packed):
        async with playing(recording) as (upstream, _), running_hub(upstream, api_mode=lane[1]) as hub:
            got = await send(hub.url, request(lane[0], streamed=streamed))
            assert (got.status, got.header("Content-Encoding")) == (200, "")
            bodies.append(got.body)
    same = lane in (("ollama", "native"), ("openai", "openai"))
    assert bodies[0] == bodies[1] if same else len(bodies[0].split(b"\n")) == len(bodies[1].split(b"\n"))


@pytest.mark.parametrize("forwards", [False, True], ids=["kept", "forwarded"])
@pytest.mark.parametrize("key", ["", "backend-key"], ids=["no-key", "key"])
async def test_authorization_goes_upstream_where_configured(lane: tuple[str, str], forwards: bool, key: str) -> None:
    """The backend's key where it has one; the client's own only where that is wished for."""
    async with playing(good(lane[1], False)) as (upstream, player):
        backend = BackendSettings(url=upstream, api_key=key, forward_authorization=forwards)
        async with running_hub({"one": backend}, api_mode=lane[1]) as hub:
            await send(hub.url, request(lane[0], "Authorization: Bearer client-key"))
            await send(hub.url, request(lane[0]))
    backends = f"Bearer {key}" if key else ""
    first, second = [asked.header("Authorization") for asked in player.asked]
    assert (first, second) == ("Bearer client-key" if forwards else backends, backends)


LEAKS = {
    "spelled with escapes": rb'{"error":{"message":"no \u0062ackend-key","type":"\u0062ackend-key",'
    rb'"code":"\u0062ackend-key","param":"\u0062ackend-key"}}',
    "a text": b'{"error":"Incorrect API key provided: backend-key. See X-Team: team-secret."}',
    "an object": b'{"error":{"message":"key backend-key of team-secret is wrong","code":"backend-key"}}',
    "a page": b"<html>Authorization: Bearer backend-key</html>",
    "a key of a header": b'{"error":"the token second-key is not known"}',
    "an address": b'{"error":"unauthorized","signin_url":"https://x.example/?key=backend-key"}',
}
"""Errors of upstreams that show the key that they were sent, as some do."""


def everything(got: Message, hub: RunningHub) -> str:
    """All that a client or a reader of the log can see."""
    return f"{got.headers} {got.body!r} {hub.lines} {hub.hub!r}"


@pytest.mark.parametrize("body", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize("status", [401, 500])
async def test_a_backends_key_is_never_shown(lane: tuple[str, str], body: bytes, status: int) -> None:
    """Not in an answer, a header, an error, the log or a repr, even where the upstream repeats it."""
    async with playing(answer(lane[1], [body], content_type="application/json", status=status)) as (upstream, player):
        backend = BackendSettings(
            url=upstream, api_key="backend-key", headers={"X-Team": "team-secret", "X-Key": "Token second-key"}
        )
        async with running_hub({"one": backend}, api_mode=lane[1], log=LogSettings(content=True)) as hub:
            got = await send(hub.url, request(lane[0], "Authorization: Bearer client-key"))
            shown = everything(got, hub)
    assert player.asked[-1].header("Authorization") == "Bearer backend-key"
    # A refusal of the hub's key is no refusal of the client's; where to sign in is for the client to read.
    assert got.status == (502 if status == 401 and b"signin_url" not in body else status)
    assert not [secret for secret in ("backend-key", "team-secret", "second-key", "client-key") if secret in shown]
    assert "********" in shown


@pytest.mark.parametrize("body", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize("mode", ["native", "openai"])
async def test_a_backends_key_in_what_the_hub_asks_by_itself(mode: str, body: bytes) -> None:
    """The same of lists and health checks, whose errors /ready tells to everyone."""
    asked: list[str] = []

    async def refuse(http_request: web.Request) -> web.Response:
        asked.append(http_request.headers["Authorization"])
        return web.Response(body=body, status=401, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    async with TestServer(app) as server:
        headers = {"X-Team": "team-secret", "X-Key": "Token second-key"}
        backend = BackendSettings(url=str(server.make_url("")), api_key="backend-key", headers=headers)
        async with running_hub({"one": backend}, api_mode=mode) as hub:
            answers = [await hub.get(path) for path in ("/ready", "/api/tags", "/v1/models")]
            shown = f"{[told.body for told in answers]} {hub.lines}"
    assert set(asked) == {"Bearer backend-key"}
    assert not [secret for secret in ("backend-key", "team-secret", "second-key") if secret in shown]
    status = 401 if b"signin_url" in body else 502
    assert [told.status for told in answers] == [503, status, status]


@WAYS
async def test_a_backends_key_in_a_broken_answer(lane: tuple[str, str], streamed: bool) -> None:
    """The same of errors in the middle of a stream, and of what is no answer at all."""
    error = b'{"error":"the key backend-key has run out"}'
    frame = error + b"\n" if lane[1] == "native" else b"data: " + error + b"\n\n"
    garbage = b"backend-key is no JSON\n\n"
    for recording in (
        answer(lane[1], [STREAMS[lane[1]][0], frame]),
        answer(lane[1], [b"data: " + garbage if lane[1] == "openai" else garbage]),
        answer(lane[1], [garbage], content_type="application/json"),
        answer(lane[1], [error], content_type="application/json"),
    ):
        async with playing(recording) as (upstream, _):
            backend = BackendSettings(url=upstream, api_key="backend-key")
            async with running_hub({"one": backend}, api_mode=lane[1]) as hub:
                got = await send(hub.url, request(lane[0], streamed=streamed))
                shown = everything(got, hub)
        assert "backend-key" not in shown
        assert "error" in got.body.decode()


async def test_a_backend_that_cannot_be_reached(lane: tuple[str, str]) -> None:
    """Its key is not in the error."""
    backend = BackendSettings(url="http://127.0.0.1:9", api_key="backend-key", headers={"X-Team": "team-secret"})
    async with running_hub({"one": backend}, api_mode=lane[1]) as hub:
        got = await send(hub.url, request(lane[0]))
        shown = everything(got, hub)
    assert got.status == 502
    assert "backend-key" not in shown
    assert "team-secret" not in shown


def test_the_types_of_streams() -> None:
    """The upstreams of these tests stream under the types that tell a stream from a whole answer."""
    assert TYPES == {"native": "application/x-ndjson", "openai": "text/event-stream"}
