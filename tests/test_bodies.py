"""Bodies on their way through every lane: large ones, compressed ones, ones in chunks, and ones that are too large."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agenthub.standin import Received, Standin, running
from tests.hubs import RunningHub, running_hub
from tests.replay.wire import Message, send

PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
LIMIT = 50_000
BODY: dict[str, Any] = {"model": "standin", "messages": [{"role": "user", "content": "hi"}], "stream": False}


@pytest.fixture
def hub_settings(lane: tuple[str, str]) -> dict[str, Any]:
    return {"api_mode": lane[1]}


@pytest.fixture
async def tight(lane: tuple[str, str], standin: Standin) -> AsyncIterator[RunningHub]:
    """A hub that takes bodies of 50,000 bytes."""
    async with (
        running(standin) as upstream,
        running_hub(upstream, api_mode=lane[1], max_body_bytes=LIMIT) as running_one,
    ):
        yield running_one


def asked(standin: Standin) -> Received:
    """The one request for a chat that came to the upstream."""
    (request,) = [request for request in standin.requests if request.method == "POST"]
    return request


def refused(answer: Message, dialect: str) -> str:
    """The text of a refusal, which must have exactly its dialect's shape."""
    body = json.loads(answer.body)
    assert list(body) == ["error"]
    assert answer.content_type == "application/json"
    if dialect == "ollama":
        return str(body["error"])
    assert list(body["error"]) == ["message", "type", "param", "code"]
    return str(body["error"]["message"])


def request(path: str, body: bytes, *headers: str) -> bytes:
    """A request with these headers, and a Content-Length if it has no chunks."""
    fields = list(headers)
    if "Transfer-Encoding: chunked" not in fields:
        fields.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *fields])
    return head.encode() + b"\r\n\r\n" + body


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks of this size."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def test_an_image_of_twelve_megabytes(hub: RunningHub, lane: tuple[str, str], standin: Standin) -> None:
    """It arrives upstream as it was sent, in the words of the upstream's API."""
    image = "iVBORw0KGgo" + "A" * (12_000_000 - 12) + "="
    if lane[0] == "ollama":
        message: dict[str, Any] = {"role": "user", "content": "What is it?", "images": [image]}
    else:
        url = {"url": f"data:image/png;base64,{image}"}
        parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]
        message = {"role": "user", "content": parts}
    body = json.dumps(BODY | {"messages": [message]}).encode()
    assert (await send(hub.url, request(PATHS[lane[0]], body))).status == 200
    (sent,) = asked(standin).json()["messages"]
    if lane[1] == "native":
        # A prefix of the comparison only, so that a failure does not print the image.
        assert (sent["content"], sent["images"] == [image]) == ("What is it?", True)
    else:
        text, picture = sent["content"]
        assert text == {"type": "text", "text": "What is it?"}
        assert picture["image_url"]["url"] == f"data:image/png;base64,{image}"


@pytest.mark.parametrize("framing", ["length", "chunks", "gzip", "deflate"])
async def test_a_body_beyond_the_limit(
    tight: RunningHub, lane: tuple[str, str], standin: Standin, framing: str
) -> None:
    """413 in the dialect's shape, however it comes: what counts is what is read of it. Nothing goes upstream."""
    body = json.dumps(BODY | {"messages": [{"role": "user", "content": "x" * LIMIT}]}).encode()
    path = PATHS[lane[0]]
    sent = {
        "length": request(path, body),
        "chunks": request(path, chunked(body, 1000), "Transfer-Encoding: chunked"),
        "gzip": request(path, gzip.compress(body), "Content-Encoding: gzip"),
        "deflate": request(path, zlib.compress(body), "Content-Encoding: deflate"),
    }
    answer = await send(tight.url, sent[framing])
    assert answer.status == 413
    assert refused(answer, lane[0]) == "http: request body too large"
    assert not [one for one in standin.requests if one.method == "POST"]
    assert tight.dispatches() == []
    # The hub goes on.
    assert (await tight.post(path, BODY)).status == 200


@pytest.mark.parametrize("spaces", [0, 1])
async def test_the_limit_is_exact(tight: RunningHub, lane: tuple[str, str], spaces: int) -> None:
    """A body of just so many bytes passes, one of one more does not."""
    body = json.dumps(BODY).encode()
    body += b" " * (LIMIT + spaces - len(body))
    assert (await send(tight.url, request(PATHS[lane[0]], body))).status == (413 if spaces else 200)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br", "identity"])
async def test_a_compressed_body(hub: RunningHub, lane: tuple[str, str], standin: Standin, encoding: str) -> None:
    """It is read like any other, and goes upstream plain; an encoding that is not known here is a 400 or a 415."""
    body = json.dumps(BODY).encode()
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}.get(encoding, bytes)(body)
    answer = await send(hub.url, request(PATHS[lane[0]], packed, f"Content-Encoding: {encoding}"))
    if encoding in ("zstd", "br"):  # the bytes are no such thing either
        assert answer.status in (400, 415)
        assert refused(answer, lane[0])
        return
    assert answer.status == 200
    received = asked(standin)
    assert "Content-Encoding" not in received.headers
    assert received.json()["messages"] == BODY["messages"]
    if lane in (("ollama", "native"), ("openai", "openai")):
        assert received.body == body


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_body_in_chunks(hub: RunningHub, lane: tuple[str, str], standin: Standin, size: int) -> None:
    """However small they are; upstream it goes with its length."""
    body = json.dumps(BODY | {"messages": [{"role": "user", "content": "naïve ☕"}]}, ensure_ascii=False).encode()
    answer = await send(hub.url, request(PATHS[lane[0]], chunked(body, size), "Transfer-Encoding: chunked"))
    assert answer.status == 200
    received = asked(standin)
    assert "Transfer-Encoding" not in received.headers
    assert received.headers["Content-Length"] == str(len(received.body))
    assert received.json()["messages"] == [{"role": "user", "content": "naïve ☕"}]
