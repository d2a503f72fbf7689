"""Attacks on HTTP itself, each on a raw socket: what is tried, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from agenthub.settings import ProtectionSettings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, error_of, running_hub
from tests.replay.wire import Message, read_message
from tests.upstreams import HI, PATHS, Reply, answering, serving

CHAT: dict[str, Any] = {"model": "standin", "messages": HI, "stream": False}
BODY = json.dumps(CHAT).encode()
_HIDDEN = json.dumps({"model": "standin", "prompt": "smuggled", "stream": False}).encode()
SMUGGLED = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(_HIDDEN), _HIDDEN)
CHAT_PATHS = tuple(path.encode() for path in PATHS.values())
REFUSED = "agenthub.request_refused"


@pytest.fixture
def hub_settings() -> dict[str, Any]:
    """Little patience, so that a connection that waits for more is closed soon."""
    return {"protection": ProtectionSettings(header_timeout_s=1.0, body_timeout_s=0.3)}


@pytest.fixture(autouse=True)
def _no_noise(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No attack leaves a warning or a traceback of aiohttp's or asyncio's."""
    caplog.set_level(logging.WARNING)
    yield
    assert [f"{record.name}: {record.getMessage()}" for record in caplog.records] == []


async def answers(hub: RunningHub, *pieces: bytes) -> list[Message]:
    """Send, and read all answers until the hub closes the connection; the client closes its side for that."""
    async with connected(hub) as (reader, writer):
        # At the same time: what comes after the hub has closed is answered with a reset, and that takes answers away.
        reading = asyncio.ensure_future(read_all(reader))
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        return await reading


@asynccontextmanager
async def connected(hub: RunningHub) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(hub.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_all(reader: asyncio.StreamReader, quiet_s: float = 5.0) -> list[Message]:
    """Return all answers until the connection ends, or is quiet for as long as no answer takes."""
    found: list[Message] = []
    while True:
        try:
            async with asyncio.timeout(quiet_s):
                found.append(await read_message(reader))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            return found


def post(path: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST %b HTTP/1.1" % path, b"Host: localhost", *fields]) + b"\r\n\r\n" + body


def get(path: bytes, *fields: bytes) -> bytes:
    return post(path, *fields).replace(b"POST", b"GET", 1)


def chunked(body: bytes, after_size: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n0\r\n\r\n" % (len(body), after_size, body)


def asked(standin: Standin) -> list[str]:
    """The paths of all that went upstream beside lists of models."""
    return [request.path for request in standin.requests if request.method != "GET"]


def refusals(hub: RunningHub) -> list[str]:
    return [line["error"] for line in hub.lines if line["event"] == REFUSED]


def shaped(answer: Message, path: bytes) -> str:
    """The text of an error, which must have its dialect's shape."""
    assert answer.content_type == "application/json"
    body = json.loads(answer.body)
    is_openai = path.startswith(b"/v1")
    assert isinstance(body["error"], dict if is_openai else str)
    return error_of(body)


LAST = b"Connection: close"
LENGTH = b"Content-Length: %d" % len(BODY)
TE = b"Transfer-Encoding: chunked"
AMBIGUOUS = {
    "CL.TE": [b"Content-Length: 4", TE],
    "TE.CL": [TE, b"Content-Length: 4"],
    "two lengths": [LENGTH, b"Content-Length: 4"],
    "one length twice": [LENGTH, LENGTH],
    "a list of lengths": [b"Content-Length: 4, 4"],
    "a negative length": [b"Content-Length: -1"],
    "a signed length": [b"Content-Length: +4"],
    "a length in hexadecimal": [b"Content-Length: 0x4"],
    "a length with a space inside": [b"Content-Length: 4 4"],
    "a huge length": [b"Content-Length: 99999999999999999999999999"],
    "another coding last": [b"Transfer-Encoding: chunked, identity"],
    "an unknown coding": [b"Transfer-Encoding: xchunked"],
    "chunked with a parameter": [b"Transfer-Encoding: chunked;q=1"],
    "chunked in quotes": [b'Transfer-Encoding: "chunked"'],
    "chunked, then identity": [TE, b"Transfer-Encoding: identity"],
    "a space before the colon": [b"Transfer-Encoding : chunked"],
    "a tab before the colon": [b"Transfer-Encoding\t: chunked"],
    "a space before the name": [b"X: y", b" Transfer-Encoding: chunked"],
    "a tab behind it": [b"Transfer-Encoding: chunked\t"],
    "a vertical tab": [b"Transfer-Encoding: \x0bchunked"],
    "a NUL": [b"Transfer-Encoding: chunked\x00"],
    "a folded line": [b"Transfer-Encoding:", b" chunked"],
    "a bare line feed": [b"X: y\nTransfer-Encoding: chunked"],
    "a bare carriage return": [b"X: y\rTransfer-Encoding: chunked"],
    "a name of nothing": [b": chunked"],
}


@pytest.mark.parametrize("path", CHAT_PATHS)
@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_smuggling(hub: RunningHub, standin: Standin, path: bytes, fields: list[bytes]) -> None:
    """A head that two servers may read as two different lengths, with a request behind it: one 400, then the end.

    Nothing goes upstream, neither the request nor what was behind it; the log has one line.
    """
    found = await answers(hub, post(path, *fields, body=b"0\r\n\r\n" + SMUGGLED))
    assert [answer.status for answer in found] == [400]
    assert shaped(found[0], path).startswith("this is no HTTP request: ")
    assert asked(standin) == []
    assert len(refusals(hub)) == 1


async def test_the_request_that_is_hidden_is_a_good_one(hub: RunningHub, standin: Standin) -> None:
    """Sent by itself it goes upstream: the attacks above would show."""
    assert [answer.status for answer in await answers(hub, SMUGGLED + get(b"/health", LAST))] == [200, 200]
    assert asked(standin) == ["/api/generate"]


LEGAL = {
    "capitals": [b"TRANSFER-ENCODING: CHUNKED"],
    "a tab before it": [b"Transfer-Encoding:\t chunked"],
    "a space behind it": [b"Transfer-Encoding: chunked "],
}


@pytest.mark.parametrize("fields", LEGAL.values(), ids=LEGAL)
async def test_odd_spellings_that_mean_one_thing(hub: RunningHub, standin: Standin, fields: list[bytes]) -> None:
    """Chunked however HTTP lets it be spelled: two requests are two requests."""
    found = await answers(hub, post(b"/api/chat", *fields, body=chunked(BODY)) + get(b"/health", LAST))
    assert [answer.status for answer in found] == [200, 200]
    assert asked(standin) == ["/api/chat"]


BROKEN_CHUNKS = {
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size in Python's spelling": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\nhello\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "more than the size says": b"5\r\nhelloworld\r\n0\r\n\r\n",
    "a line feed alone": b"5\nhello\n0\n\n",
    "an extension with a line feed": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "an extension with a NUL": b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
    "a line feed at the end": b"5\r\nhello\r\n0\r\n\nX: y\r\n\r\n",
}


@pytest.mark.parametrize("path", CHAT_PATHS)
@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("broken", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
async def test_chunks_that_break_the_rules(
    hub: RunningHub, standin: Standin, path: bytes, broken: bytes, pieces: int
) -> None:
    """Chunks that another server may cut elsewhere, with a request behind them: one 400, then the end."""
    head = post(path, TE)
    sent = [head, broken + SMUGGLED] if pieces == 2 else [head + broken + SMUGGLED]
    found = await answers(hub, *sent)
    assert [answer.status for answer in found] == [400]
    assert shaped(found[0], path)
    assert asked(standin) == []


async def test_chunk_extensions_and_trailers(hub: RunningHub, standin: Standin) -> None:
    """What may stand beside the body is no part of it, and no header: a trailer names no client."""
    extended = post(b"/api/chat", TE, body=chunked(BODY, b";name=value" + b"x" * 50_000))
    trailed = post(b"/api/chat", TE, LAST, body=chunked(BODY)[:-2] + b"X-Client-Name: evil\r\nAuthorization: x\r\n\r\n")
    found = await answers(hub, extended + trailed)
    assert [answer.status for answer in found] == [200, 200]
    assert [line["client"] for line in hub.dispatches()] == ["", ""]
    assert all(request.body == BODY for request in standin.requests if request.method == "POST")


async def test_trailers_without_end(hub: RunningHub, standin: Standin) -> None:
    """Fields behind a body are as many as in front of it: 400 beyond."""
    sent = post(b"/api/chat", TE), chunked(BODY)[:-2] + b"".join(b"X-%d: y\r\n" % n for n in range(1000))
    found = await answers(hub, *sent)
    assert [answer.status for answer in found] == [400]
    assert asked(standin) == []


@pytest.mark.parametrize("path", CHAT_PATHS)
async def test_a_request_behind_an_error(hub: RunningHub, standin: Standin, path: bytes) -> None:
    """Each answer belongs to its own request, also behind one that fails; a body is never taken for a request."""
    bad = post(path, b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED)
    found = await answers(hub, bad + get(b"/api/version", LAST))
    assert [answer.status for answer in found] == [400, 200]
    assert json.loads(found[1].body) == {"version": "0.33.0"}
    assert asked(standin) == []


async def test_a_request_behind_one_that_is_too_large(standin: Standin) -> None:
    """The connection ends with the 413: what was behind the body is not answered, whole or cut."""
    async with running(standin) as upstream, running_hub(upstream, max_body_bytes=1000) as hub:
        large = b"x" * 2000
        for fields, body in (([b"Content-Length: 2000"], large), ([TE], chunked(large))):
            found = await answers(hub, post(b"/api/chat", *fields, body=body) + SMUGGLED)
            assert [(answer.status, answer.header("Connection")) for answer in found] == [(413, "close")]
        assert asked(standin) == []


async def test_a_request_behind_a_silent_body(hub: RunningHub, standin: Standin) -> None:
    """A body that stops, then goes on with a request after the 408: the connection is closed by then."""
    async with connected(hub) as (reader, writer):
        writer.write(post(b"/api/chat", b"Content-Length: 1000", body=b"{"))
        assert (await read_message(reader)).status == 408
        writer.write(SMUGGLED)
        assert await read_all(reader) == []
    assert asked(standin) == []


@pytest.mark.usefixtures("fast_clock")
async def test_a_length_of_all_ones(hub: RunningHub, standin: Standin) -> None:
    """aiohttp takes 2^64 - 1 for no body at all: what follows is still not read as a request."""
    found = await answers(hub, post(b"/api/chat", b"Content-Length: 18446744073709551615"), SMUGGLED)
    assert found[0].status == 400
    assert [answer.status for answer in found[1:]] in ([], [408])
    assert asked(standin) == []


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0", b"tcp"])
async def test_upgrades(hub: RunningHub, standin: Standin, protocol: bytes) -> None:
    """A wish for another protocol is not heard; the request is answered, and the last on its connection.

    What aiohttp drops or keeps of the bytes behind it cannot become another request.
    """
    fields = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"Sec-WebSocket-Version: 13"
    found = await answers(hub, post(b"/api/chat", *fields, LENGTH, body=BODY) + SMUGGLED, SMUGGLED)
    assert [(answer.status, answer.header("Connection")) for answer in found] == [(200, "close")]
    assert asked(standin) == ["/api/chat"]
    # As Java's HttpClient sends it, the body in a segment of its own.
    (found,) = await answers(hub, post(b"/api/chat", *fields, LENGTH), BODY)
    assert found.status == 200


HEADS = {
    "a long target": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
    "a long query": (b"GET /v1/models?" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
    "a long method": (b"G" * 20_000 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a long name": (get(b"/v1/models", b"X" * 20_000 + b": y"), 431),
    "a long value": (get(b"/v1/models", b"X: " + b"y" * 20_000), 431),
    "a value without end": (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 2_000_000, 431),
    "many headers": (get(b"/v1/models", *[b"X: y"] * 200), 431),
    "headers without end": (b"GET /v1/models HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, 431),
    "a NUL in a value": (get(b"/v1/models", b"Authorization: Bearer se\x00cret"), 400),
    "a NUL in a name": (get(b"/v1/models", b"Authoriz\x00ation: Bearer secret"), 400),
    "a NUL in the target": (get(b"/v1/mod\x00els"), 400),
    "a line break in the target": (get(b"/v1/models\r\nX: y"), 505),
    "two hosts": (get(b"/v1/models", b"Host: b"), 400),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "a word that is no method": (b"G@T /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a method of nobody": (b"SECRET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a space in the target": (b"GET /v1/models secret HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"secret" * 20, 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/3.7": (b"GET /v1/models HTTP/3.7\r\nHost: localhost\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 505),
    "line feeds only": (b"GET /v1/models HTTP/1.1\nHost: localhost\n\n", 400),
}


@pytest.mark.parametrize(("head", "status"), HEADS.values(), ids=HEADS)
async def test_heads_that_are_none(hub: RunningHub, head: bytes, status: int) -> None:
    """Oversized, endless or no HTTP at all: one answer, one line in the log that quotes nothing of it, then the end."""
    async with connected(hub) as (reader, writer):
        writer.write(head)
        found = await read_all(reader)
        assert [answer.status for answer in found] == [status]
        text = shaped(found[0], b"/v1" if found[0].body.startswith(b'{"error":{') else b"/api")
        assert refusals(hub) == [text]
        assert "secret" not in str(hub.lines).lower()
        assert "yyy" not in text
    assert (await hub.get("/health")).status == 200


@pytest.mark.parametrize("method", [b"TRACE", b"TRACK", b"CONNECT", b"PUT", b"PATCH", b"DELETE"])
async def test_methods_that_nobody_takes(hub: RunningHub, standin: Standin, method: bytes) -> None:
    """TRACE echoes nothing back and CONNECT opens nothing: 405, or 400 where the parser does not know the word."""
    target = b"evil.example:443" if method == b"CONNECT" else b"/v1/chat/completions"
    sent = b"%b %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: secret\r\n\r\n" % (method, target)
    found = await answers(hub, sent)
    assert [answer.status for answer in found] == [400 if method == b"TRACK" else 405]
    assert b"secret" not in found[0].body
    assert asked(standin) == []


async def test_targets_with_a_host(hub: RunningHub, standin: Standin) -> None:
    """The hub is no proxy: of a URL only the path counts, and no host that a client names is ever asked."""
    async with counting() as (connections, port):
        url = b"http://127.0.0.1:%d" % port
        found = await answers(hub, post(url + b"/api/chat", LENGTH, LAST, body=BODY))
        assert [answer.status for answer in found] == [200]
        assert asked(standin) == ["/api/chat"]
        for target in (url + b"/x", b"//127.0.0.1:%d/x" % port):
            assert [answer.status for answer in await answers(hub, get(target, LAST))] == [404]
        for target in (b"http://[::1/api/tags", b"ftp://u:p@a:99999/x", b"127.0.0.1:%d" % port, b"*", b"..", b"?x"):
            assert [answer.status for answer in await answers(hub, get(target))] == [400]
        assert connections == []


@asynccontextmanager
async def counting() -> AsyncIterator[tuple[list[object], int]]:
    """A listener on a port, and who has connected to it."""
    connections: list[object] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield connections, server.sockets[0].getsockname()[1]
    finally:
        server.close()


DIGEST = b"sha256:" + b"0" * 64
BLOBS = {
    "up": (b"sha256:../../x", 404),
    "up, encoded": (b"sha256:%2e%2e%2f%2e%2e%2fx", 400),
    "up, encoded twice": (b"%252e%252e%252fx", 400),
    "up, as Windows does": (b"..%5c..%5cx", 400),
    "only dots": (b"..", 400),
    "only dots, encoded": (b"%2e%2e", 400),
    "a slash": (DIGEST + b"/x", 404),
    "a slash, encoded": (DIGEST + b"%2fx", 400),
    "a NUL, encoded": (DIGEST + b"%00", 400),
    "a line break, encoded": (DIGEST + b"%0d%0aX-Evil:%201", 400),
    "very long": (b"sha256:" + b"a" * 10_000, 400),
    "too short": (b"sha256:abc", 400),
    "too long": (DIGEST + b"0", 400),
    "no hexadecimal": (b"sha256:" + b"g" * 64, 400),
    "full-width digits": (b"sha256:" + b"%EF%BC%90" * 64, 400),
    "another hash": (b"sha512:" + b"0" * 64, 400),
    "a file's name": (b"/etc/passwd", 404),
    "no UTF-8": (b"sha256:%ff%fe", 400),
}


@pytest.mark.parametrize("method", ["HEAD", "POST"])
@pytest.mark.parametrize(("name", "status"), BLOBS.values(), ids=BLOBS)
async def test_paths_of_blobs(hub: RunningHub, standin: Standin, name: bytes, status: int, method: str) -> None:
    """What is no digest reaches no upstream, however it is written."""
    sent = post(b"/api/blobs/" + name, b"Content-Length: 2", LAST, body=b"hi")
    async with connected(hub) as (reader, writer):
        writer.write(sent.replace(b"POST", method.encode(), 1))
        answer = await read_message(reader, head_only=method == "HEAD")
    assert answer.status == status
    assert answer.header("X-Evil") == ""
    assert [request.path for request in standin.requests if "blobs" in request.path] == []


async def test_an_upload_under_a_false_digest(hub: RunningHub, standin: Standin) -> None:
    """The upstream's own check stands: the hub passes its refusal on."""
    found = await answers(hub, post(b"/api/blobs/" + DIGEST, b"Content-Length: 2", LAST, body=b"hi"))
    assert [answer.status for answer in found] == [400]
    assert standin.blobs == {}


MODELS = [
    b"..",
    b"%2e%2e",
    b"../api/tags",
    b"..%2fapi%2ftags",
    b"%2e%2e/%2e%2e/etc/passwd",
    b"a%00b",
    b"%0d%0aX-Evil:1",
]


@pytest.mark.parametrize("name", MODELS)
async def test_paths_of_models(hub: RunningHub, standin: Standin, name: bytes) -> None:
    """A name in the path is compared with those of the models, and is no path to anybody."""
    found = await answers(hub, get(b"/v1/models/" + name, LAST))
    assert [answer.status for answer in found] == [404]
    assert found[0].header("X-Evil") == ""
    assert shaped(found[0], b"/v1")
    paths = {request.path for request in standin.requests}
    assert paths <= {"/api/tags", "/v1/models", "/api/version"}


NAMES = [
    "a\r\nX-Evil: 1",
    "a\nX-Evil: 1",
    "\x00",
    "a\u2028X-Evil: 1",
    "\ud800",
    "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "é" * 300,
]


@pytest.mark.parametrize("name", NAMES)
async def test_headers_through_names_of_models(lane: tuple[str, str], name: str) -> None:
    """A line break in a model's name stays in JSON: it makes no header, upstream or to the client, and no log line."""
    seen: list[Any] = []

    def reply(path: str, body: Any) -> Reply:
        seen.append(body["model"])
        return answering()(path, body)

    async with serving(reply) as upstream, running_hub(upstream.url, api_mode=lane[1]) as hub:
        body = json.dumps(CHAT | {"model": name}).encode()
        path = PATHS[lane[0]].encode()
        found = await answers(hub, post(path, b"Content-Length: %d" % len(body), LAST, body=body))
        assert len(found) == 1
        assert found[0].header("X-Evil") == ""
        if found[0].status == 200:
            # Half a character, which no UTF-8 can hold, may become a whole one.
            assert seen in ([name], ["\ufffd"] if name == "\ud800" else [name])
        else:
            assert found[0].status == 400
            assert seen == []
            assert shaped(found[0], path)


@pytest.mark.parametrize("field", [b"X-Request-Id", b"X-Client-Name", b"X-AgentHub-Api-Mode"])
async def test_headers_through_headers(hub: RunningHub, field: bytes) -> None:
    """What a client says in a header comes back, if at all, as a plain word."""
    for value in (b"a b", b"a\tb", b"\xff\xfe", b"<script>" * 100, b"\xe2\x80\xa8X-Evil: 1", b"\x7f"):
        (answer,) = await answers(hub, post(b"/api/chat", b"%b: %b" % (field, value), LENGTH, LAST, body=BODY))
        told = "".join(f"{name}: {text}\n" for name, text in answer.headers)
        assert value.decode("latin-1") not in told
        assert answer.header("X-Evil") == ""


@pytest.mark.parametrize("form", ["object", "text"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f000001", "2130706433"])
async def test_urls_of_images(lane: tuple[str, str], host: str, form: str) -> None:
    """The hub fetches nothing that a message names.

    To Ollama's API, which takes no URLs, it is a 400. An OpenAI-compatible upstream gets the URL of an OpenAI client as
    it was written, and decides; of a client of Ollama's it gets no URL in any case.
    """
    async with counting() as (connections, port), serving(answering()) as upstream:
        url = f"http://{host}:{port}/a.png"
        if lane[0] == "ollama":
            messages: Any = [{"role": "user", "content": "x", "images": [url]}]
        else:
            image = {"url": url} if form == "object" else url
            messages = [{"role": "user", "content": [{"type": "image_url", "image_url": image}]}]
        async with running_hub(upstream.url, api_mode=lane[1]) as hub:
            answer = await hub.post(PATHS[lane[0]], {"model": "m", "messages": messages, "stream": False})
        assert connections == []
        if lane == ("openai", "native"):
            assert (answer.status, upstream.asked) == (400, [])
            assert "image URLs" in error_of(answer.json())
        elif lane[0] == lane[1] or lane == ("ollama", "native"):
            assert (answer.status, upstream.asked[0]["messages"]) == (200, messages)
        else:
            assert all(f'"{url}"' not in json.dumps(body) for body in upstream.asked)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_deep_json(lane: tuple[str, str], opening: str) -> None:
    """A body that nests a hundred thousand times: 400 in the dialect's shape, and the hub goes on."""
    async with serving(answering()) as upstream, running_hub(upstream.url, api_mode=lane[1]) as hub:
        deep = opening * 100_000
        for body in (deep, '{"model":"m","messages":' + deep, '{"model":"m","messages":[],"x":' + deep):
            answer = await hub.post(PATHS[lane[0]], body.encode())
            assert answer.status == 400
            assert error_of(answer.json())
        assert upstream.asked == []
        assert (await hub.post(PATHS[lane[0]], CHAT)).status == 200


PACKED = {
    "no gzip": (b"gzip", b"not gzip at all", 400),
    "half of it": (b"deflate", b"\x78\x9c\xab\x56", 400),
    "packed twice": (b"gzip, gzip", b"", 415),
    "an unknown way": (b"bzip2", BODY, 415),
    "a way with a line break": (b"gz\x0bip", BODY, 400),
}


@pytest.mark.parametrize("path", CHAT_PATHS)
@pytest.mark.parametrize(("encoding", "body", "status"), PACKED.values(), ids=PACKED)
async def test_compression(
    hub: RunningHub, standin: Standin, path: bytes, encoding: bytes, body: bytes, status: int
) -> None:
    """What cannot be unpacked is refused, and the connection ends: what is behind it is no request."""
    fields = b"Content-Encoding: " + encoding, b"Content-Length: %d" % len(body)
    found = await answers(hub, post(path, *fields, body=body) + SMUGGLED)
    assert [answer.status for answer in found] == [status]
    assert shaped(found[0], path)
    assert asked(standin) == []


@pytest.mark.usefixtures("fast_clock")
async def test_many_connections_that_say_nothing(hub: RunningHub) -> None:
    """Two hundred clients that begin a head and stop: others are served meanwhile, and all are gone in time."""
    port = int(hub.url.rpartition(":")[2])
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    try:
        for _, writer in slow:
            writer.write(b"POST /api/chat HTTP/1.1\r\nX: ")
        assert (await hub.post("/api/chat", CHAT)).status == 200
        async with asyncio.timeout(20):
            for reader, _ in slow:
                # Without a word where the machine was too slow to see the head begin.
                assert (await reader.read())[:13] in (b"HTTP/1.0 408 ", b"")
    finally:
        for _, writer in slow:
            writer.transport.abort()
