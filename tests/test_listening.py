"""How the hub listens: clients that send slowly or fall silent, and what aiohttp's server is asked to do besides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiohttp import web

from agenthub.api import listening
from agenthub.settings import ProtectionSettings, Settings
from agenthub.standin import Standin, running
from tests.hubs import RunningHub, error_of, running_hub
from tests.replay.wire import Message, read_message
from tests.upstreams import HI, PATHS

pytestmark = pytest.mark.usefixtures("fast_clock")

BODY = json.dumps({"model": "standin", "messages": HI, "stream": False}).encode()
HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
SHORT_S, HEAD_S, LONG_S = 0.05, 0.5, 30.0
DIGEST = "sha256:" + "0" * 64


def post(path: str, length: int = len(BODY)) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), length)


def chunked_head(method: bytes, path: bytes) -> bytes:
    """A head that is answered 100 when its handler is about to start."""
    fields = b"Host: localhost\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n"
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, fields)


@asynccontextmanager
async def hub_with(standin: Standin | None = None, **protection: Any) -> AsyncIterator[RunningHub]:
    settings = ProtectionSettings(**protection)
    async with running(standin or Standin()) as upstream, running_hub(upstream, protection=settings) as hub:
        yield hub


class Wire:
    """A connection on which a test sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes, gap_s: float = 0.0) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(gap_s)

    async def answer(self) -> Message:
        return await read_message(self.reader)

    async def is_closed(self) -> bool:
        """Wait for the end of the connection, which must come without another byte."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def wire_to(hub: RunningHub) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(hub.url.rpartition(":")[2]))
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def refusals(hub: RunningHub) -> list[tuple[int | None, str]]:
    events = [line for line in hub.lines if line["event"] == "agenthub.request_refused"]
    return [(line.get("status"), line["error"]) for line in events]


async def test_a_connection_without_a_request_is_closed() -> None:
    """Without a word: there is nobody to answer."""
    async with hub_with(header_timeout_s=SHORT_S) as hub, wire_to(hub) as wire:
        assert await wire.is_closed()
        assert refusals(hub) == []


@pytest.mark.parametrize("begun", [b"G", HEAD[:-1], HEAD[:-2] + b"X-Slow: 1\r\n"])
async def test_a_head_that_is_not_finished(begun: bytes) -> None:
    """408 when its time is over, and the connection is closed; one line in the log."""
    async with hub_with(header_timeout_s=HEAD_S) as hub, wire_to(hub) as wire:
        await wire.send(begun)
        answer = await wire.answer()
        text = "the head of the request did not come in time"
        assert (answer.status, json.loads(answer.body)) == (408, {"error": text})
        assert await wire.is_closed()
        assert refusals(hub) == [(408, text)]


async def test_a_head_that_drips() -> None:
    """Time runs from the first byte, not from the last."""
    async with hub_with(header_timeout_s=HEAD_S) as hub, wire_to(hub) as wire:

        async def drip() -> None:
            await wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", *[b"x"] * 10_000, gap_s=0.01)

        dripping = asyncio.create_task(drip())
        assert (await wire.answer()).status == 408
        dripping.cancel()
        await asyncio.wait([dripping])


async def test_a_head_in_pieces_that_is_in_time() -> None:
    """However small they are."""
    async with hub_with(header_timeout_s=LONG_S) as hub, wire_to(hub) as wire:
        await wire.send(*[bytes([byte]) for byte in HEAD])
        assert (await wire.answer()).status == 200


async def test_an_idle_connection_is_not_a_slow_one() -> None:
    """Between two requests nobody hurries the client; a head that begins then has its own time."""
    async with hub_with(header_timeout_s=HEAD_S) as hub, wire_to(hub) as wire:
        for _ in range(2):
            await wire.send(HEAD)
            assert (await wire.answer()).status == 200
            await asyncio.sleep(2 * HEAD_S)
        await wire.send(post("/api/chat") + BODY)
        assert (await wire.answer()).status == 200
        await asyncio.sleep(2 * HEAD_S)
        await wire.send(b"GET /")
        assert (await wire.answer()).status == 408
        assert await wire.is_closed()


async def test_a_head_behind_a_request_that_runs() -> None:
    """The answer that is under way is not disturbed; the late head is 408 after it."""
    standin = Standin(endless=True, pace_s=0.005)
    async with hub_with(standin, header_timeout_s=HEAD_S) as hub, wire_to(hub) as wire:
        body = json.dumps({"model": "standin", "messages": HI, "stream": True}).encode()
        await wire.send(post("/api/chat", len(body)) + body, b"GET /hea")
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        until = asyncio.get_running_loop().time() + 3 * HEAD_S
        while asyncio.get_running_loop().time() < until:
            assert b'"done":false' in await wire.reader.readuntil(b"}\n")
        standin.endless = False


async def test_zero_is_no_limit() -> None:
    """For heads and for bodies."""
    async with hub_with(header_timeout_s=0, body_timeout_s=0) as hub, wire_to(hub) as wire:
        await wire.send(HEAD[:5], HEAD[5:], gap_s=4 * SHORT_S)
        assert (await wire.answer()).status == 200
        await wire.send(post("/api/chat"), BODY[:5], BODY[5:], gap_s=4 * SHORT_S)
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("sent", [0, 5])
@pytest.mark.parametrize("dialect", ["ollama", "openai"])
async def test_a_client_that_falls_silent_in_its_body(dialect: str, sent: int) -> None:
    """408 in its dialect, the connection is closed, and nothing goes upstream."""
    async with hub_with(standin := Standin(), body_timeout_s=SHORT_S) as hub, wire_to(hub) as wire:
        await wire.send(post(PATHS[dialect]), BODY[:sent])
        answer = await wire.answer()
        assert (answer.status, answer.header("Connection")) == (408, "close")
        body = json.loads(answer.body)
        assert error_of(body) == "the request's body did not go on for 0.05 s"
        if dialect == "openai":
            assert {name: body["error"][name] for name in ("type", "code")} == {
                "type": "server_error",
                "code": "timeout",
            }
        assert await wire.is_closed()
        assert [request.method for request in standin.requests if request.method == "POST"] == []
        assert (await hub.post(PATHS[dialect], BODY)).status == 200


async def test_a_slow_body_is_no_silent_one() -> None:
    """Each piece has the time anew: the whole may take longer."""
    async with hub_with(body_timeout_s=2.0) as hub, wire_to(hub) as wire:
        size = len(BODY) // 8 + 1
        await wire.send(post("/api/chat"), *[BODY[at : at + size] for at in range(0, len(BODY), size)], gap_s=0.3)
        assert (await wire.answer()).status == 200


async def test_an_upload_that_falls_silent() -> None:
    """408 as well, however much has come; the upstream is left, and the dispatch is rejected, not failed."""
    async with hub_with(standin := Standin(), body_timeout_s=0.2) as hub, wire_to(hub) as wire:
        await wire.send(post(f"/api/blobs/{DIGEST}", 10_000_000), b"x" * 100_000)
        answer = await wire.answer()
        assert (answer.status, json.loads(answer.body)) == (
            408,
            {"error": "the request's body did not go on for 0.2 s"},
        )
        assert await wire.is_closed()
        await standin.abandoned.reach(1)
        lines = [(line["operation"], line["outcome"], line["status"]) for line in hub.dispatches()]
        assert lines == [("blobs", "rejected", 408)]
        assert standin.blobs == {}


@pytest.mark.parametrize("dialect", ["ollama", "openai"])
@pytest.mark.parametrize("broken", [b"zz\r\n", b"5\r\nhelloXX", b"-1\r\n", b"5 \r\nhello\r\n"])
async def test_a_body_whose_chunks_break_the_rules(dialect: str, broken: bytes) -> None:
    """400 at once, where aiohttp alone would have its handler wait for as long as the client stays."""
    async with hub_with(standin := Standin(), body_timeout_s=LONG_S) as hub, wire_to(hub) as wire:
        await wire.send(chunked_head(b"POST", PATHS[dialect].encode()))
        assert (await wire.answer()).status == 100
        await wire.send(b"3\r\n" + BODY[:3] + b"\r\n", broken)
        async with asyncio.timeout(10):
            answer = await wire.answer()
            assert (answer.status, answer.header("Connection")) == (400, "close")
            assert error_of(json.loads(answer.body)) == "the body cannot be decoded"
            assert await wire.is_closed()
        assert [request.path for request in standin.requests if request.method == "POST"] == []


async def test_a_good_body_before_a_broken_head() -> None:
    """The end of the one and the beginning of the other in one read: the request is answered, what follows is 400."""
    async with hub_with(standin := Standin(), body_timeout_s=LONG_S) as hub, wire_to(hub) as wire:
        await wire.send(chunked_head(b"POST", b"/api/chat"))
        assert (await wire.answer()).status == 100
        await wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + b"garbage\r\n\r\n")
        assert (await wire.answer()).status == 200
        assert (await wire.answer()).status == 400
        assert await wire.is_closed()
        assert [request.body for request in standin.requests if request.method == "POST"] == [BODY]


async def test_a_broken_body_that_nobody_reads() -> None:
    """The answer is the last on its connection, whatever was sent behind the body."""
    async with hub_with(body_timeout_s=LONG_S) as hub, wire_to(hub) as wire:
        await wire.send(chunked_head(b"GET", b"/health"))
        assert (await wire.answer()).status == 100
        await wire.send(b"zz\r\n" + HEAD)
        assert (await wire.answer()).status == 200
        assert await wire.is_closed()


async def test_heads_are_as_large_as_the_setting_says() -> None:
    """A field of so many bytes passes, a longer one is 431; so is a longer target, and the 129th field."""
    async with hub_with(max_header_bytes=2000) as hub:
        heads = {
            200: [b"X-Long: " + b"a" * 1990, *[b"X: 1"] * 100],
            431: [b"X-Long: " + b"a" * 2001],
        }
        for status, fields in heads.items():
            async with wire_to(hub) as wire:
                await wire.send(b"\r\n".join([HEAD[:-4], *fields]) + b"\r\n\r\n")
                assert (await wire.answer()).status == status
        for target, status in ((b"/" + b"a" * 1999, 404), (b"/" + b"a" * 2000, 431)):
            async with wire_to(hub) as wire:
                await wire.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)
                assert (await wire.answer()).status == status
        async with wire_to(hub) as wire:
            await wire.send(HEAD[:-2] + b"X: 1\r\n" * 128 + b"\r\n")
            assert (await wire.answer()).status == 431


def test_aiohttp_is_the_one_that_is_known() -> None:
    """Should this fail after an update of aiohttp: look at web_protocol.py before the sets of names are changed."""
    assert listening.is_known()


async def test_another_aiohttp_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It still serves; the log says what is lost."""
    monkeypatch.setattr(listening, "_USED", {"_no_such_slot"})
    with structlog.testing.capture_logs() as lines:
        runner = listening.make_runner(web.Application(), Settings(), shutdown_timeout_s=1)
    assert type(runner) is web.AppRunner
    assert [(line["event"], line["lost"]) for line in lines] == [("agenthub.protection_off", "header_timeout_s")]
    async with hub_with(header_timeout_s=SHORT_S) as hub:
        assert (await hub.get("/health")).status == 200


async def test_what_a_client_expects(lane: tuple[str, str]) -> None:
    """A body that is asked for first is let come, or refused before it is sent; other wishes are 417."""
    async with running(Standin()) as upstream, running_hub(upstream, api_mode=lane[1], max_body_bytes=1000) as hub:
        path = PATHS[lane[0]]
        async with wire_to(hub) as wire:
            await wire.send(post(path).replace(b"Host", b"Expect: 100-continue\r\nHost"))
            assert (await wire.answer()).status == 100
            await wire.send(BODY)
            assert (await wire.answer()).status == 200
        for wish, length, status in ((b"100-Continue", 1001, 413), (b"more", 5, 417)):
            async with wire_to(hub) as wire:
                await wire.send(post(path, length).replace(b"Host", b"Expect: %b\r\nHost" % wish))
                answer = await wire.answer()
                assert (answer.status, answer.content_type) == (status, "application/json")
                assert error_of(json.loads(answer.body))
                assert await wire.is_closed()
