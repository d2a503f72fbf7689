"""Blobs: asked for and uploaded through the hub, which holds no upload."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from agenthub.settings import HealthSettings, Settings
from agenthub.standin import Fault, Standin
from tests.hubs import Answered, RunningHub, running_hub

MEBIBYTE = 2**20
NO_REFRESH = HealthSettings(models_refresh_s=0, interval_s=0)
HELLO = "/api/blobs/sha256:" + hashlib.sha256(b"hello").hexdigest()


@pytest.fixture(params=["native", "openai"])
def hub_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"health": NO_REFRESH, "api_mode": request.param}


async def upload(hub: RunningHub, path: str, data: Any, **headers: str) -> Answered:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with hub.http.post(hub.url + path, data=data, headers=sent) as response:
        return Answered(response.status, response.headers, await response.read())


async def mebibytes(count: int) -> AsyncIterator[bytes]:
    """Make a large body as it is sent."""
    for number in range(count):
        yield bytes([number % 256]) * MEBIBYTE


def path_of(count: int) -> str:
    digest = hashlib.sha256()
    for number in range(count):
        digest.update(bytes([number % 256]) * MEBIBYTE)
    return f"/api/blobs/sha256:{digest.hexdigest()}"


async def test_a_blob_is_asked_for_uploaded_and_used(hub: RunningHub, standin: Standin) -> None:
    """404, then 201, then 200, with bodies of nothing; and a model can be made from it."""
    assert (await hub.get(HELLO, "HEAD")).status == 404
    created = await upload(hub, HELLO, b"hello")
    assert (created.status, created.body) == (201, b"")
    assert "Content-Type" not in created.headers
    assert (await hub.get(HELLO, "HEAD")).status == 200
    assert (await upload(hub, HELLO, b"hello")).status == 200
    assert (await hub.get(HELLO.replace(":", "%3A"), "HEAD")).status == 200
    await hub.ollama.create("made", files={"a.gguf": HELLO.rpartition("/")[2]})
    assert standin.find("made") is not None
    lines = [(line["operation"], line["outcome"], line["status"]) for line in hub.dispatches()]
    assert lines[:3] == [("blobs", "rejected", 404), ("blobs", "ok", 201), ("blobs", "ok", 200)]


@pytest.mark.parametrize("digest", ["sha256:xx", "md5:" + 64 * "0", "sha256:" + 65 * "0", "..%2F..%2Ftags"])
async def test_what_is_no_digest_is_refused(hub: RunningHub, standin: Standin, digest: str) -> None:
    """400 in Ollama's words; nothing of it is in the path of a request upstream."""
    answer = await upload(hub, f"/api/blobs/{digest}", b"hello")
    assert (answer.status, answer.json()) == (400, {"error": "invalid digest format"})
    assert (await hub.get(f"/api/blobs/{digest}", "HEAD")).status == 400
    assert {request.method for request in standin.requests} <= {"GET"}
    assert (await hub.get("/health")).status == 200


async def test_a_digest_that_is_not_the_contents(hub: RunningHub) -> None:
    """The upstream's 400 with its words."""
    answer = await upload(hub, "/api/blobs/sha256:" + 64 * "0", b"hello")
    assert answer.status == 400
    assert answer.json()["error"].startswith("digest mismatch, expected")


@pytest.mark.parametrize("told", [True, False], ids=["with-its-length", "in-chunks"])
async def test_a_large_upload_takes_constant_memory(hub: RunningHub, standin: Standin, told: bool) -> None:
    """200 MB, beyond ``max_body_bytes``: client, hub and upstream together hold less than a twentieth at any time."""
    count = 200
    assert count * MEBIBYTE > Settings(backends={}).max_body_bytes
    headers = {"Content_Length": str(count * MEBIBYTE)} if told else {}
    path = path_of(count)
    tracemalloc.start()
    try:
        assert (await upload(hub, path, mebibytes(count), **headers)).status == 201
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert standin.blobs[path.rpartition("/")[2].replace(":", "-")] == count * MEBIBYTE
    assert standin.requests[-1].headers.get("Content-Length") == headers.get("Content_Length")
    assert peak_bytes < 10 * MEBIBYTE


async def test_an_upload_that_is_answered_before_its_end(hub: RunningHub, standin: Standin) -> None:
    """Ollama does not read a blob that it has: its 200 is passed on, whatever is left of the body."""
    path = path_of(32)
    standin.blobs[path.rpartition("/")[2].replace(":", "-")] = 32 * MEBIBYTE
    assert (await upload(hub, path, mebibytes(32))).status == 200
    assert [(line["outcome"], line["status"]) for line in hub.dispatches()] == [("ok", 200)]


async def test_a_refused_upload(hub: RunningHub, standin: Standin) -> None:
    """An error's status and words pass, and the next request is answered."""
    standin.script(Fault.answer(507, "no space left on device").at(HELLO))
    answer = await upload(hub, HELLO, b"hello")
    assert (answer.status, answer.json()) == (507, {"error": "no space left on device"})
    assert (await upload(hub, HELLO, b"hello")).status == 201


async def test_the_ollama_package_uploads(hub: RunningHub, standin: Standin, tmp_path: Path) -> None:
    """``create_blob``, asynchronous and blocking, each with a file that is new."""
    for number in range(2):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 3 * MEBIBYTE)

    def blocking() -> str:
        client = ollama.Client(host=hub.url)
        try:
            return client.create_blob(tmp_path / "1")
        finally:
            client._client.close()

    digests = [await hub.ollama.create_blob(tmp_path / "0"), await asyncio.to_thread(blocking)]
    assert standin.blobs == {digest.replace(":", "-"): 3 * MEBIBYTE for digest in digests}


async def begin_upload(hub: RunningHub, head: str, part: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head and a part of an upload, and leave the rest to the caller."""
    port = int(hub.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {HELLO} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode() + part)
    await writer.drain()
    return reader, writer


class ReadingUpstream:
    """Takes an upload without end, and tells when it began and when its connection was closed."""

    def __init__(self, *, gives_up: bool = False) -> None:
        self.gives_up = gives_up
        self.began, self.closed = asyncio.Event(), asyncio.Event()
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/api/tags" in head:
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"models":[]}')
            writer.close()
            return
        self.heads.append(head)
        await reader.readexactly(1)
        self.began.set()
        try:
            while not self.gives_up and await reader.read(2**16):
                pass
        except ConnectionError:
            pass
        self.closed.set()
        writer.transport.abort()


async def test_a_client_that_leaves_ends_its_upload() -> None:
    """The upstream's connection closes soon; it is no failure of the backend's."""
    upstream = ReadingUpstream()
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, running_hub(url, health=NO_REFRESH) as hub:
        for head in ("Content-Length: 10000000", "Transfer-Encoding: chunked"):
            upstream.began.clear()
            upstream.closed.clear()
            _, writer = await begin_upload(hub, head, b"3e8\r\n" + 1000 * b"x" + b"\r\n")
            async with asyncio.timeout(20):
                await upstream.began.wait()
            writer.close()
            async with asyncio.timeout(20):
                await upstream.closed.wait()
        assert [line["outcome"] for line in hub.dispatches()] == ["abandoned"] * 2


async def test_a_body_that_is_broken_is_the_clients_fault(hub: RunningHub, standin: Standin) -> None:
    """400, and not counted against the backend, which did nothing wrong; one that can be decoded is passed on so."""
    for _ in range(4):
        answer = await upload(hub, HELLO, b"hello", Content_Encoding="gzip")
        assert (answer.status, answer.json()) == (400, {"error": "the body cannot be decoded"})
    assert {line["outcome"] for line in hub.dispatches()} == {"rejected"}
    assert (await upload(hub, HELLO, gzip.compress(b"hello"), Content_Encoding="gzip")).status == 201
    assert list(standin.blobs.values()) == [5]


async def test_an_upstream_that_dies_in_an_upload_is_not_asked_twice() -> None:
    """502, counted: what was read of the body is gone, so that no second try could be right."""
    upstream = ReadingUpstream(gives_up=True)
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, running_hub(url, health=NO_REFRESH) as hub:
        answers = [await upload(hub, HELLO, mebibytes(4)) for _ in range(4)]
        assert [answer.status for answer in answers] == [502, 502, 502, 503]
        assert len(upstream.heads) == 3
        assert "broke off" in answers[0].json()["error"]
