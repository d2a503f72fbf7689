"""Short requests go without a session's work: the same bytes, the same failures, and no connection that is in doubt."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from yarl import URL

from agenthub.upstream import http_client
from agenthub.upstream.connecting import ReusedConnectionClosed
from agenthub.upstream.http_client import HttpClient, LeanResponse, open_client
from agenthub.upstream.reading import read_any
from agenthub.upstream.upload import Upload
from tests.hubs import until
from tests.raw_upstream import CLOSE, RESET, Act, Asked, RawUpstream, chunked, message, raw_upstream

HEADERS = {"User-Agent": "agenthub", "Content-Type": "application/json", "Authorization": "Bearer own", "Via": "1.1 a"}
GOOD = Act(message(b"good"))


@asynccontextmanager
async def client_of(keepalive_s: float = 3600.0, **connections: Any) -> AsyncIterator[HttpClient]:
    client = open_client(HEADERS, aiohttp.ClientTimeout(total=None, sock_connect=5), keepalive_s, **connections)
    try:
        async with asyncio.timeout(20):
            yield client
    finally:
        await client.close()


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handle, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Have each connection handled and closed; all are at their ends when the block is."""
    handlers: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await handle(reader, writer)
            await reader.read()
        writer.close()

    made = listener or socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=made, limit=4096)
    async with server:
        yield f"http://127.0.0.1:{made.getsockname()[1]}"
        server.close()
        await asyncio.gather(*handlers)


async def read(client: HttpClient, url: str, body: bytes | None = b"{}", path: str = "/api/chat") -> bytes:
    async with await client.send("POST" if body is not None else "GET", URL(url + path), body) as response:
        assert isinstance(response, LeanResponse)
        return await response.content.read()


def in_use(client: HttpClient) -> int:
    connector: Any = client.session.connector
    return len(connector._acquired) - len(idle(client))


def age(client: HttpClient) -> None:
    """Have each connection wait for an hour longer."""
    for waiting in client._idle.values():
        waiting._idle = deque((since - 3600.0, connection) for since, connection in waiting._idle)


def idle(client: HttpClient) -> list[Any]:
    return [connection for waiting in client._idle.values() for _, connection in waiting._idle]


def test_this_aiohttp_is_known() -> None:
    """Else each request would go through a session, which works and takes twice the time."""
    assert http_client.IS_KNOWN


@pytest.mark.parametrize("headers", [None, {"Authorization": "Bearer another", "Via": "1.1 a, 1.1 b"}, {"X-New": "é"}])
@pytest.mark.parametrize("body", [None, b"", b"{}", b"1" * 100, b"x" * 2**18, b"y" * (2**18 + 1)])
async def test_the_same_bytes_as_by_a_session(
    body: bytes | None, headers: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole requests, byte for byte, whichever way they take."""
    sent: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        sent.append(head + await reader.readexactly(len(body or b"")))
        writer.write(GOOD.data)

    async with serving(handle) as url:
        asked = URL(f"{url}/api/chat%20x?a=1&b=%C3%A4")
        for is_known in (True, False):
            monkeypatch.setattr(http_client, "IS_KNOWN", is_known)
            async with client_of() as client, await client.send("PUT", asked, body, headers) as response:
                assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
                assert isinstance(response, LeanResponse) is is_known
                assert await response.content.read() == b"good"
    assert sent[0] == sent[1]


async def test_connections_serve_again() -> None:
    """One after another on the same, two at a time on two: never is one asked before it has answered."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of() as client:
        assert [await read(client, upstream.url) for _ in range(3)] == [b"good"] * 3
        assert await asyncio.gather(*[read(client, upstream.url) for _ in range(2)]) == [b"good"] * 2
        assert [(asked.connection, asked.number) for asked in upstream.asked] == [
            (1, 1),
            (1, 2),
            (1, 3),
            (1, 4),
            (2, 1),
        ]


async def test_a_connection_that_waited_too_long() -> None:
    """Does not serve again, and is closed though nobody asks."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of() as client:
        await asyncio.gather(*[read(client, upstream.url) for _ in range(2)])
        assert len(idle(client)) == 2
        age(client)
        assert await read(client, upstream.url) == b"good"
        assert [asked.is_reused for asked in upstream.asked] == [False] * 3
        age(client)
        for waiting in client._idle.values():
            waiting._close_old()
        assert not idle(client)
        assert in_use(client) == 0


async def test_no_connection_waits() -> None:
    """Where none is to serve again."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of(0.0) as client:
        assert [await read(client, upstream.url) for _ in range(2)] == [b"good"] * 2
        assert not idle(client)
        assert [asked.is_reused for asked in upstream.asked] == [False] * 2


STRAY = {
    "an answer": message(b"stray"),
    "half a head": b"HTTP/1.1 200 OK\r\nX-Half: ",
    "no HTTP": b"hello",
    "an interim answer": b"HTTP/1.1 102 Processing\r\n\r\n",
}


@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)
@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "not yet seen"])
async def test_bytes_on_an_idle_connection(stray: bytes, is_seen: bool) -> None:
    """Nobody asked for them, so they are nobody's answer: the next request has a connection of its own."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of() as client:
        assert await read(client, upstream.url) == b"good"
        upstream.writers[0].write(stray)
        if is_seen:
            (connection,) = idle(client)
            await until(lambda: connection.transport is None)
        assert await read(client, upstream.url) == b"good"
        assert [asked.connection for asked in upstream.asked] == [1, 2]


@pytest.mark.parametrize("stray", [message(b"stray"), b"HTTP/1.1 200 OK\r\nX-Half: "], ids=["answer", "half a head"])
async def test_bytes_behind_an_answer(stray: bytes) -> None:
    """In the same packet: the next request does not get them for its answer."""
    async with raw_upstream(lambda asked: Act(GOOD.data + stray)) as upstream, client_of() as client:
        for _ in range(3):
            assert await read(client, upstream.url) == b"good"


@pytest.mark.parametrize("is_known", [True, False], ids=["lean", "by a session"])
async def test_bytes_behind_the_end_of_a_stream(is_known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a chunked body that was being read, and more in the same packet."""
    monkeypatch.setattr(http_client, "IS_KNOWN", is_known)
    async with raw_upstream(lambda asked: Act(chunked(b"go"))) as upstream, client_of() as client:
        for number in range(3):
            async with await client.send("POST", URL(upstream.url), b"{}") as response:
                assert await response.content.readany() == b"go"
                upstream.writers[number].write(b"2\r\nod\r\n0\r\n\r\n" + message(b"stray"))
                assert await response.content.read() == b"od"
        assert [asked.connection for asked in upstream.asked] == [1, 2, 3]


LARGE = b"x" * 2**23


@pytest.fixture
def by_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "IS_KNOWN", False)


async def send_large(client: HttpClient, url: str) -> list[bytes]:
    """Send a body that takes many writes, and read the answer as a stream is read."""
    async with await client.send("POST", URL(url), LARGE) as response:
        return [piece async for piece in read_any(response.content)]


@pytest.mark.usefixtures("by_a_session")
async def test_connections_of_a_session_serve_again() -> None:
    """Though aiohttp's reader has the parser go on, with nothing, when the answer is read."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of() as client:
        for _ in range(4):
            assert await send_large(client, upstream.url) == [b"good"]
        assert [asked.connection for asked in upstream.asked] == [1] * 4


@pytest.mark.usefixtures("by_a_session")
@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)
async def test_bytes_on_a_connection_that_aiohttp_looked_after(stray: bytes) -> None:
    """Its pool asks each connection now and then whether it is still there: that is no use of it."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of() as client:
        connector: Any = client.session.connector
        assert await send_large(client, upstream.url) == [b"good"]
        connector._cleanup()
        ((handler, _),) = next(iter(connector._conns.values()))
        upstream.writers[0].write(stray)
        await until(lambda: handler.transport is None)
        assert await send_large(client, upstream.url) == [b"good"]
        assert [asked.connection for asked in upstream.asked] == [1, 2]


async def test_connections_of_large_requests_serve_again() -> None:
    """Whether their answers are streamed or not."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of() as client:
        for _ in range(3):
            assert await send_large(client, upstream.url) == [b"good"]
            assert await read(client, upstream.url, LARGE) == b"good"
        assert [(asked.connection, len(asked.body)) for asked in upstream.asked] == [(1, len(LARGE))] * 6


async def test_an_old_connection_says_nothing_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the pool closes one that has waited too long is no sign that the upstream closes connections."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of() as client:
        connector: Any = client.session.connector
        assert await read(client, upstream.url) == b"good"
        monkeypatch.setattr(http_client, "IS_KNOWN", False)
        for _ in range(2):
            assert await send_large(client, upstream.url) == [b"good"]
        assert [asked.connection for asked in upstream.asked] == [1, 2, 2]
        for waiting in connector._conns.values():
            waiting[0] = (waiting[0][0], 0.0)
        connector._cleanup()
        assert not connector._conns
        monkeypatch.setattr(http_client, "IS_KNOWN", True)
        assert await read(client, upstream.url) == b"good"
        assert upstream.asked[-1].connection == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_a_stream_without_a_body(status: str) -> None:
    """Has nothing to be read."""
    act = Act(f"HTTP/1.1 {status}\r\n\r\n".encode())
    async with (
        raw_upstream(lambda asked: act) as upstream,
        client_of() as client,
        await client.send("POST", URL(upstream.url), b"{}") as response,
    ):
        assert [piece async for piece in read_any(response.content)] == []


@pytest.mark.parametrize(("name", "value"), [("X-Odd", "\ud800"), ("X-Line", "a\r\nb")])
async def test_what_only_a_session_can_send(name: str, value: str) -> None:
    """Goes by a session, or is refused by it."""
    async with raw_upstream(lambda asked: GOOD) as upstream, client_of() as client:
        with suppress(ValueError):
            async with await client.send("POST", URL(upstream.url), b"{}", {name: value}) as response:
                assert not isinstance(response, LeanResponse)


async def test_an_answer_before_the_request_is_sent() -> None:
    """What is left of the request would run into the next one: the connection is closed."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(message(b"too large", status="413 Content Too Large"))
        await writer.drain()
        await released.wait()

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    released = asyncio.Event()

    def small_buffers(address: Any) -> socket.socket:
        made = socket.socket(*address[:3])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return made

    async with serving(handle, listener) as url, client_of(socket_factory=small_buffers) as client:
        for _ in range(2):
            assert await read(client, url, b"x" * 2**18) == b"too large"
        released.set()
    assert connections == 2


def answer_and_reset(listener: socket.socket, has_reset: threading.Event) -> None:
    """Answer a request of which only the head is read, and reset the connection."""
    connection, _ = listener.accept()
    with connection:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1024)
        connection.sendall(message(b"good"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    has_reset.set()


@pytest.mark.parametrize("length", [None, 2**20], ids=["in chunks", "with a length"])
async def test_an_answer_before_a_reset(length: int | None) -> None:
    """An upstream that has enough of a body answers and resets the connection: the answer is what counts."""
    has_reset = threading.Event()

    async def content() -> AsyncIterator[bytes]:
        yield b"first"
        # The loop stands still, so that the next write comes before it can read the answer.
        assert has_reset.wait(20)
        for _ in range(10):
            yield b"x" * 2**16

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer_and_reset, args=(listener, has_reset))
        server.start()
        url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
        async with client_of() as client, await client.send("POST", url, Upload(content(), length)) as response:
            assert (response.status, await response.content.read()) == (200, b"good")
        server.join()


FRAMED: dict[str, tuple[Act, bytes, bool]] = {
    "after interim answers": (
        Act(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + GOOD.data),
        b"good",
        True,
    ),
    "without a length": (Act(b"HTTP/1.1 200 OK\r\n\r\nto the end", "FIN"), b"to the end", False),
    "of HTTP/1.0": (Act(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood"), b"good", False),
    "that is the last": (Act(message(b"good", head="Connection: close\r\n")), b"good", False),
    "in chunks with trailers": (Act(chunked(b"good") + b"0\r\nX-Trailer: 1\r\n\r\n"), b"good", True),
    "without a body": (Act(b"HTTP/1.1 204 No Content\r\n\r\n"), b"", True),
    "with an empty body": (Act(message(b"")), b"", True),
}


@pytest.mark.parametrize("name", FRAMED)
async def test_an_answer(name: str) -> None:
    """However HTTP frames it; its connection serves again where it may."""
    act, content, serves_again = FRAMED[name]
    async with raw_upstream(lambda asked: act) as upstream, client_of() as client:
        assert [await read(client, upstream.url) for _ in range(2)] == [content] * 2
        assert [asked.is_reused for asked in upstream.asked] == [False, serves_again]
        assert in_use(client) == 0


async def test_a_head_that_comes_byte_by_byte() -> None:
    """Is waited for."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for place in range(len(GOOD.data)):
            writer.write(GOOD.data[place : place + 1])
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(handle) as url, client_of() as client:
        assert await read(client, url) == b"good"


LONG_HEAD = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 9000 + b"\r\nContent-Length: 0\r\n\r\n"
FAILING: dict[str, tuple[Act, type[Exception]]] = {
    "closed": (CLOSE, aiohttp.ServerDisconnectedError),
    "reset": (RESET, aiohttp.ClientOSError),
    "closed in the head": (Act(b"HTTP/1.1 200 OK\r\nConte", "FIN"), aiohttp.ServerDisconnectedError),
    "closed after an interim answer": (Act(b"HTTP/1.1 102 Processing\r\n\r\n", "FIN"), aiohttp.ServerDisconnectedError),
    "no HTTP": (Act(b"220 smtp.example.org ready\r\n"), aiohttp.ClientResponseError),
    "a head that is too long": (Act(LONG_HEAD), aiohttp.ClientResponseError),
    "a chunk that is none": (Act(chunked(b"good") + b"zz\r\n"), aiohttp.ClientResponseError),
    "closed in a chunk": (Act(chunked(b"good") + b"8\r\ngoo", "FIN"), aiohttp.ClientPayloadError),
    "closed before the length": (Act(GOOD.data[:-1], "FIN"), aiohttp.ClientPayloadError),
}


@pytest.mark.parametrize("is_known", [True, False], ids=["lean", "by a session"])
@pytest.mark.parametrize("name", FAILING)
async def test_failures(name: str, is_known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the same error as with a session, is sent once, and gives the connection up."""
    monkeypatch.setattr(http_client, "IS_KNOWN", is_known)
    act, kind = FAILING[name]
    async with raw_upstream(lambda asked: act) as upstream, client_of() as client:
        with pytest.raises(kind) as raised:
            async with await client.send("POST", URL(upstream.url), b"{}") as response:
                await response.content.read()
        assert not isinstance(raised.value, ReusedConnectionClosed)
        assert len(upstream.asked) == 1
        assert in_use(client) == 0


@pytest.mark.parametrize("act", [CLOSE, RESET], ids=["closed", "reset"])
async def test_a_reused_connection_that_dies(act: Act) -> None:
    """Is told apart from a new one, on which the upstream must have seen the request."""
    async with raw_upstream() as upstream, client_of() as client:
        upstream.act = lambda asked: act if asked.is_reused else GOOD
        assert await read(client, upstream.url) == b"good"
        with pytest.raises(ReusedConnectionClosed):
            await read(client, upstream.url)
        assert len(upstream.asked) == 2
        assert await read(client, upstream.url) == b"good"


async def test_an_answer_that_is_not_read() -> None:
    """Its connection is closed: the rest of it would be in the way."""
    async with raw_upstream(lambda asked: Act(message(b"x" * 2**20))) as upstream, client_of() as client:
        for _ in range(2):
            async with await client.send("POST", URL(upstream.url), b"{}") as response:
                assert await response.content.readany()
        assert [asked.is_reused for asked in upstream.asked] == [False, False]
        assert in_use(client) == 0


async def _cancelled_where(waits: Callable[[], object], client: HttpClient, url: str) -> None:
    task = asyncio.ensure_future(read(client, url))
    await until(waits)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert in_use(client) == 0


async def test_cancelled_while_it_connects() -> None:
    """Nothing is left of it."""

    class Endless(aiohttp.abc.AbstractResolver):
        asked = False

        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            self.asked = True
            await asyncio.Event().wait()

        async def close(self) -> None:
            pass

    resolver = Endless()
    async with client_of(resolver=resolver) as client:
        await _cancelled_where(lambda: resolver.asked, client, "http://model.example:11434")


SILENT = {"before the head": Act(), "in the head": Act(b"HTTP/1.1 200"), "in the body": Act(chunked(b"good"))}


@pytest.mark.parametrize("name", SILENT)
async def test_cancelled_while_it_waits(name: str) -> None:
    """For the head or for the rest of the body: the upstream sees the end, and the next request is not concerned."""
    upstream = RawUpstream()
    ended = asyncio.Event()
    has_answered = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        upstream.asked.append(Asked("POST", "/", b"", 1, 1))
        if len(upstream.asked) > 1:
            writer.write(GOOD.data)
        else:
            writer.write(SILENT[name].data)
            has_answered.set()
        try:
            await reader.read()
        finally:
            ended.set()  # by FIN, or by RST where the client had not read all

    async with serving(handle) as url, client_of() as client:
        await _cancelled_where(has_answered.is_set, client, url)
        await ended.wait()
        assert await read(client, url) == b"good"


async def test_what_was_learned_is_bounded() -> None:
    """However many keys clients forward, and each goes to the upstream as it came."""
    seen: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            seen.append(head.decode().partition("Authorization: ")[2].partition("\r\n")[0])
            writer.write(GOOD.data)

    keys = [f"Bearer {number}" for number in range(300)]
    async with serving(handle) as url, client_of() as client:
        for key in keys:
            async with await client.send("GET", URL(url), headers={"Authorization": key}) as response:
                await response.content.read()
        assert seen == keys
        assert len(client._templates) <= 256
        assert "Bearer" not in repr(client)
