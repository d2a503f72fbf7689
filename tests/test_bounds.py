"""Memory is bounded: bodies that unpack into much, answers without end, clients that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import repeat
from typing import Any

import attrs
import pytest

from agenthub.settings import BackendSettings
from agenthub.standin import Standin, running
from tests.hubs import error_of, running_hub
from tests.replay.wire import send
from tests.test_bodies import request
from tests.upstreams import HI, PATHS, chunk, line

MIB = 2**20
BODY: dict[str, Any] = {"model": "standin", "messages": HI, "stream": False}
STREAM = {"native": "application/x-ndjson", "openai": "text/event-stream"}


@contextmanager
def growing_less_than(size: int) -> Iterator[None]:
    """Fail if Python's memory was ever that much larger than before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < size, f"{peak / MIB:.1f} MiB"


def make_bomb(size: int) -> bytes:
    """Zeros, packed a thousand times smaller by gzip; the check sum at their end is wrong, but that is far away."""
    packer = zlib.compressobj(9, wbits=31)
    head = packer.compress(b"\0" * 16) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b"\0" * (16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (size // (16 * MIB)) + packer.flush()


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_bomb(lane: tuple[str, str], framing: str) -> None:
    """One MiB that unpacks into one GiB is 413 as soon as the limit is reached, and the connection is closed."""
    bomb = make_bomb(1024 * MIB)
    assert len(bomb) < 2 * MIB
    field = "Content-Encoding: gzip"
    sent = request(PATHS[lane[0]], bomb, field)
    if framing == "chunks":
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(bomb), bomb)
        sent = request(PATHS[lane[0]], chunked, field, "Transfer-Encoding: chunked")
    async with running(standin := Standin()) as upstream, running_hub(upstream, max_body_bytes=MIB) as hub:
        with growing_less_than(12 * MIB):
            answer = await send(hub.url, sent)
        assert (answer.status, answer.header("Connection")) == (413, "close")
        assert error_of(json.loads(answer.body)) == "http: request body too large"
        assert (await hub.post(PATHS[lane[0]], BODY)).status == 200
        assert [one.path for one in standin.requests if one.method == "POST"] == ["/api/chat"]


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked", b"Content-Length: 1000000000000"])
async def test_a_body_without_end(lane: tuple[str, str], head: bytes) -> None:
    """413 when the limit is reached, or at once where the length is told; what follows is dropped."""
    async with running(Standin()) as upstream, running_hub(upstream, max_body_bytes=MIB) as hub:
        port = int(hub.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % (PATHS[lane[0]].encode(), head))
        piece = b"x" * 2**16 if b"Length" in head else b"%x\r\n%b\r\n" % (2**16, b"x" * 2**16)

        async def send_on() -> None:
            for data in repeat(piece):
                writer.write(data)
                await writer.drain()

        with growing_less_than(12 * MIB):
            sending = asyncio.create_task(send_on())
            try:
                assert (await reader.readline()).split()[1] == b"413"
            finally:
                sending.cancel()
                await asyncio.wait([sending])
                writer.transport.abort()


@attrs.define
class Torrent:
    """An upstream that lists one model, and answers all else without end; ``sent`` are the bytes that it got rid of."""

    pieces: bytes
    content_type: str
    status: int = 200
    sent: int = 0
    open: int = 0
    url: str = ""
    _left: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    body = json.dumps({"models": [{"name": "m"}], "data": [{"id": "m"}]}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                    continue
                await self._pour(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _pour(self, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            kind = self.content_type.encode()
            writer.write(b"HTTP/1.1 %d Said\r\nContent-Type: %b\r\n\r\n" % (self.status, kind))
            while True:
                writer.write(self.pieces)
                await writer.drain()
                self.sent += len(self.pieces)
        finally:
            self.open -= 1
            self._left.set()

    async def until_stuck(self) -> None:
        """Return when nothing has been sent for a while, that is when whoever reads it has stopped."""
        before = -1
        async with asyncio.timeout(20):
            while before != self.sent or not self.open:
                before = self.sent
                await asyncio.sleep(0.3)

    async def until_left(self) -> None:
        async with asyncio.timeout(5):
            await self._left.wait()


@asynccontextmanager
async def pouring(torrent: Torrent) -> AsyncIterator[Torrent]:
    server = await asyncio.start_server(torrent.handle, "127.0.0.1", 0)
    torrent.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield torrent
    finally:
        server.close()


def frames(mode: str) -> bytes:
    """64 frames of a stream, of a kilobyte each."""
    if mode == "native":
        return (json.dumps(line(content="x" * 1000)).encode() + b"\n") * 64
    return b"data: %b\n\n" % json.dumps(chunk(content="x" * 1000)).encode() * 64


async def test_a_client_that_does_not_read(lane: tuple[str, str]) -> None:
    """It stops the upstream of a stream, once the buffers of the sockets are full; the hub holds next to nothing."""
    async with (
        pouring(Torrent(frames(lane[1]), STREAM[lane[1]])) as torrent,
        running_hub(torrent.url, api_mode=lane[1]) as hub,
    ):
        body = json.dumps(BODY | {"model": "m", "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2]))) as client:
            with growing_less_than(16 * MIB):
                client.sendall(request(PATHS[lane[0]], body))
                await torrent.until_stuck()
            # How much two pairs of sockets hold is the system's business, and no more than this on any.
            stuck_at = torrent.sent
            assert stuck_at < 64 * MIB
            await asyncio.to_thread(_read, client, stuck_at)
            assert torrent.sent > stuck_at
        await torrent.until_left()
        assert [line["outcome"] for line in hub.dispatches()] == ["abandoned"]


def _read(client: socket.socket, size: int) -> None:
    client.settimeout(10)
    while size > 0:
        data = client.recv(2**20)
        assert data, "the hub broke off"
        size -= len(data)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_whole_answer_without_end(lane: tuple[str, str], streams: bool) -> None:
    """502 beyond max_answer_bytes, also where the upstream streams though it was asked for a whole answer."""
    pieces = frames(lane[1]) if streams else b" " * 2**16
    content_type = STREAM[lane[1]] if streams else "application/json"
    async with pouring(Torrent(pieces, content_type)) as torrent:
        backend = BackendSettings(url=torrent.url, max_answer_bytes=MIB)
        async with running_hub({"ollama": backend}, api_mode=lane[1]) as hub:
            with growing_less_than(24 * MIB):
                answer = await hub.post(PATHS[lane[0]], BODY | {"model": "m"})
            assert answer.status == 502
            assert error_of(answer.json()) == f"the upstream's answer is larger than max_answer_bytes, {MIB} bytes"
            await torrent.until_left()
            assert [line["outcome"] for line in hub.dispatches()] == ["failed"]


async def test_an_error_without_end(lane: tuple[str, str]) -> None:
    """Its status counts, and what its first bytes say."""
    torrent = Torrent(b"overloaded " * 1000, "text/plain", status=503)
    async with pouring(torrent), running_hub(torrent.url, api_mode=lane[1]) as hub:
        with growing_less_than(8 * MIB):
            answer = await hub.post(PATHS[lane[0]], BODY | {"model": "m"})
        assert answer.status == 503
        assert error_of(answer.json()).startswith("overloaded overloaded")
        assert len(answer.body) < 8192
        await torrent.until_left()


@pytest.mark.parametrize(("most", "status"), [(2000, 200), (1999, 502), (0, 200)])
async def test_the_limit_of_answers_is_exact(lane: tuple[str, str], most: int, status: int) -> None:
    """An answer of just so many bytes passes, and 0 is no limit."""
    said = line(True) if lane[1] == "native" else {"choices": [{"index": 0, "message": {"content": "x"}}], "id": "c"}
    body = json.dumps(said).encode()
    body += b" " * (2000 - len(body))

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    backend = BackendSettings(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", max_answer_bytes=most)
    async with running_hub({"ollama": backend}, api_mode=lane[1]) as hub:
        assert (await hub.post(PATHS[lane[0]], BODY | {"model": "m"})).status == status
    server.close()
