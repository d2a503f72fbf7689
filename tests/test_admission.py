"""What the head of a request decides: rights and limits are checked before anything of a body is read."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from agenthub.api import bodies
from agenthub.api.hub import Serving
from agenthub.settings import ClientSettings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, error_of, running_hub, until
from tests.test_access import ASKS, VERBS
from tests.test_listening import Wire, wire_to
from tests.upstreams import HI, PATHS

MIB = 2**20
CHAT: dict[str, Any] = {"model": "standin", "messages": HI, "stream": False}
ENHANCE = [("chat", "POST", "/hub/enhance", {"prompt": "hi"}), ("chat", "GET", "/hub/enhancement", None)]
KEYS = {"none": ("push",), "one": ("chat",), "all": ("all",)}
"""Keys, which are called as their clients, and what those may do."""
CLIENTS = {
    name: ClientSettings(api_key=f"key-{name}", operations=operations)  # type: ignore[arg-type]
    for name, operations in KEYS.items()
}
EXPECT = b"Expect: 100-continue"


@pytest.fixture
def hub_settings() -> dict[str, Any]:
    return {"clients": CLIENTS}


def head(method: str, path: str, key: str, length: int, *fields: bytes) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (method.encode(), path.encode()), b"Authorization: Bearer key-%b" % key.encode()]
    if not any(field.startswith(b"Host") for field in fields):
        lines.append(b"Host: localhost")
    return b"\r\n".join([*lines, b"Content-Length: %d" % length, *fields]) + b"\r\n\r\n"


def asked(standin: Standin) -> list[str]:
    return [received.path for received in standin.requests if received.method != "GET"]


@pytest.mark.parametrize("fields", [(), (EXPECT,)], ids=["", "expects"])
@pytest.mark.parametrize(("operation", "method", "path", "body"), [*VERBS, *ASKS, *ENHANCE])
async def test_what_may_not_be_asked_is_refused_by_its_head(
    hub: RunningHub, standin: Standin, operation: str, method: str, path: str, body: Any, fields: tuple[bytes, ...]
) -> None:
    """403 though nothing of the body has come, and no 100 Continue; a dispatch is logged as it is with its body."""
    key = "one" if operation == "push" else "none"
    async with wire_to(hub) as wire:
        await wire.send(head(method, path, key, 50 * MIB, *fields))
        if method == "HEAD":
            assert (await wire.reader.readline()).split()[1] == b"403"
        else:
            answer = await wire.answer()
            assert (answer.status, answer.header("Connection")) == (403, "close")
            assert error_of(json.loads(answer.body)) == f"this client may not use the operation {operation}"
    assert asked(standin) == []
    lines = [(line["operation"], line["outcome"], line["status"], line["client"]) for line in hub.dispatches()]
    is_dispatched = operation not in ("list", "ps", "version") and not path.startswith("/hub")
    assert lines == [(operation, "rejected", 403, key)] * is_dispatched


@pytest.mark.parametrize(("operation", "method", "path", "body"), VERBS + ASKS)
async def test_the_operation_of_an_endpoint_is_that_of_its_requests(
    hub: RunningHub, operation: str, method: str, path: str, body: Any
) -> None:
    """What is checked by the head is what the parsed request turns out to be."""
    sent = None if body is None else json.dumps(body)
    headers = {"Authorization": "Bearer key-all"}
    async with hub.http.request(method, hub.url + path, data=sent, headers=headers) as response:
        assert response.status != 403
    assert {line["operation"] for line in hub.dispatches()} <= {operation}


@pytest.mark.parametrize("path", ["/api/pull", "/api/blobs/sha256:" + "0" * 64, "/hub/enhance", "/api/nothing"])
async def test_what_is_refused_is_not_unpacked(hub: RunningHub, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Nor read: a bomb costs nothing where its client may not send it."""

    def fail(*arguments: Any) -> None:
        raise AssertionError("the body is read")

    monkeypatch.setattr(bodies, "Unpacker", fail)
    monkeypatch.setattr(bodies, "read_body", fail)
    answer = await hub.post(path, gzip.compress(b"\0" * MIB), Content_Encoding="gzip", Authorization="Bearer key-none")
    assert answer.status == (404 if path.endswith("nothing") else 403)


@pytest.mark.parametrize(
    ("key", "fields", "status"),
    [
        ("wrong", (), 401),
        ("all", (b"Origin: https://evil.example",), 403),
        ("one", (), 403),
        ("all", (), 100),
    ],
)
async def test_who_may_send_a_body(hub: RunningHub, key: str, fields: tuple[bytes, ...], status: int) -> None:
    """A client that asks first is told by keys, Origin and rights; only one that may is told to go on."""
    async with wire_to(hub) as wire:
        await wire.send(head("POST", "/api/pull", key, 1000, EXPECT, *fields))
        answer = await wire.answer()
        assert answer.status == status
        assert status == 100 or (answer.header("X-Request-Id") and await wire.is_closed())
        assert (answer.header("WWW-Authenticate") == "Bearer") is (status == 401)


async def test_a_foreign_host_is_not_told_to_send(standin: Standin) -> None:
    """Without keys a Host that is not this machine's is 403, as it is without Expect."""
    async with running(standin) as upstream, running_hub(upstream) as hub, wire_to(hub) as wire:
        await wire.send(head("POST", "/api/chat", "", 1000, EXPECT, b"Host: evil.example"))
        answer = await wire.answer()
        assert (answer.status, answer.body) == (403, b"")


async def test_a_hub_that_is_closed_tells_nobody_to_send(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After instead of 100 Continue."""
    serving: list[Serving] = []
    original = Serving.enter

    def enter(self: Serving, *arguments: Any) -> Any:
        serving.append(self)
        return original(self, *arguments)

    monkeypatch.setattr(Serving, "enter", enter)
    assert (await hub.get("/health")).status == 200
    serving[0].is_closed = True
    async with wire_to(hub) as wire:
        await wire.send(head("POST", "/api/chat", "all", 1000, EXPECT))
        answer = await wire.answer()
        assert (answer.status, answer.header("Retry-After")) == (503, "1")


async def test_a_connection_goes_on_after_a_small_body(hub: RunningHub) -> None:
    """A refusal that did not read its body ends no connection on which the next request can be found."""
    async with wire_to(hub) as wire:
        body = json.dumps({"model": "standin"}).encode()
        for pieces in (
            [head("POST", "/api/pull", "one", len(body)) + body],
            [head("POST", "/api/pull", "one", 9), body[:9]],
        ):
            await wire.send(*pieces, gap_s=0.02)
            answer = await wire.answer()
            assert (answer.status, answer.header("Connection")) == (403, "")
        chat = json.dumps(CHAT).encode()
        await wire.send(head("POST", "/api/chat", "one", len(chat)) + chat)
        assert (await wire.answer()).status == 200


async def test_a_large_body_that_is_refused_is_dropped(hub: RunningHub, standin: Standin) -> None:
    """A client that sends on before it reads comes to its answer, which is the last on the connection."""
    async with wire_to(hub) as wire:
        await wire.send(head("POST", "/api/blobs/sha256:" + "0" * 64, "one", 8 * MIB), *[b"x" * MIB] * 8)
        answer = await wire.answer()
        assert (answer.status, answer.header("Connection")) == (403, "close")
        assert await wire.is_closed()
    assert asked(standin) == []


# --- limits


async def begin_stream(hub: RunningHub, wire: Wire, path: str) -> None:
    body = json.dumps(CHAT | {"stream": True}).encode()
    await wire.send(head("POST", path, "none", len(body)) + body)
    assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("fields", [(), (EXPECT,)], ids=["", "expects"])
async def test_a_client_over_its_places_is_refused_by_its_head(
    lane: tuple[str, str], fields: tuple[bytes, ...]
) -> None:
    """429 with Retry-After before its body is there; one dispatch is logged; with a place again it may send."""
    clients = {"none": ClientSettings(api_key="key-none", max_concurrency=1)}
    standin, path = Standin(endless=True, pace_s=0.005), PATHS[lane[0]]
    async with running(standin) as upstream, running_hub(upstream, clients=clients, api_mode=lane[1]) as hub:
        async with wire_to(hub) as first, wire_to(hub) as second:
            await begin_stream(hub, first, path)
            await second.send(head("POST", path, "none", 5 * MIB, *fields))
            answer = await second.answer()
            assert (answer.status, answer.header("Retry-After")) == (429, "1")
            assert [(line["outcome"], line["status"]) for line in hub.dispatches()] == [("rejected", 429)]
        await until(lambda: len(hub.dispatches()) == 2)
        standin.endless = False
        assert (await hub.post(path, CHAT, Authorization="Bearer key-none")).status == 200


async def test_a_minute_that_is_used_up_is_seen_by_the_head() -> None:
    """429 with the rate headers before the body is there; a body that is read is counted once, a refusal never."""
    clients = {"none": ClientSettings(api_key="key-none", requests_per_minute=2)}
    large = json.dumps(CHAT | {"x": "y" * MIB}).encode()
    async with running(Standin()) as upstream, running_hub(upstream, clients=clients) as hub:
        for left in ("1", "0"):
            async with wire_to(hub) as wire:
                # Its body follows late, so that the limits are looked at by the head and counted afterwards.
                await wire.send(head("POST", "/api/chat", "none", len(large)), large, gap_s=0.05)
                answer = await wire.answer()
                assert (answer.status, answer.header("RateLimit-Remaining")) == (200, left)
        for _ in range(3):
            async with wire_to(hub) as wire:
                await wire.send(head("POST", "/api/chat", "none", len(large)))
                answer = await wire.answer()
                assert (answer.status, answer.header("RateLimit-Remaining")) == (429, "0")
                assert int(answer.header("Retry-After")) >= 1
