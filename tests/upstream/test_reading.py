"""Reading a response: all that has arrived at once, and nothing of it lost, whatever aiohttp looks like inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD

from agenthub import stream_reader
from agenthub.upstream import reading
from tests.upstreams import served

CHUNKS = [b"x" * size for size in (1, 5, 100, 70_000, 3, 300_000, 1)]


async def body(write: Callable[[web.StreamResponse], object], read: Callable[..., AsyncIterator[bytes]]) -> list[bytes]:
    async def answer(http_request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http_request)
        await write(response)  # type: ignore[misc]
        return response

    async with served(answer) as url, aiohttp.ClientSession() as http, http.get(url) as response:
        pieces = []
        async for data in read(response.content):
            pieces.append(data)
            await asyncio.sleep(0.002)  # so that more than one chunk is there at the next look
        return pieces


async def in_chunks(response: web.StreamResponse) -> None:
    for _ in range(5):
        for chunk in CHUNKS:
            await response.write(chunk)


@pytest.mark.parametrize("known", [True, False])
async def test_every_byte_arrives_in_order(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """Small and large chunks, more than the buffer holds; in the same way without the knowledge of aiohttp's reader."""
    assert stream_reader.IS_KNOWN, "aiohttp's reader changed: see whether the short way is still right, or drop it"
    monkeypatch.setattr(stream_reader, "IS_KNOWN", known)
    pieces = await body(in_chunks, reading.read_any)
    assert b"".join(pieces) == b"".join(CHUNKS * 5)
    if known:
        assert len(pieces) < 5 * len(CHUNKS)


@pytest.mark.parametrize("known", [True, False])
async def test_a_break_is_an_error(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """A body that ends before its last chunk raises, after what came of it."""
    monkeypatch.setattr(stream_reader, "IS_KNOWN", known)

    async def broken(response: web.StreamResponse) -> None:
        await response.write(b"one")
        await response.write(b"two")
        assert response._req is not None
        assert response._req.transport is not None
        response._req.transport.close()

    with pytest.raises(aiohttp.ClientPayloadError):
        await body(broken, reading.read_any)


class Held:
    """A connection that may be held up."""

    _reading_paused = False

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self, resume_parser: bool = True) -> None:
        self._reading_paused = False


def reader_of(*pieces: bytes, protocol: Any) -> aiohttp.StreamReader:
    content = aiohttp.StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
    for piece in pieces:
        content.feed_data(piece)
    content.feed_eof()
    return content


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("pieces", [(), (b"one",), (b"one", b"two"), (b"x" * 300_000,)])
async def test_a_whole_body(monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...], known: bool) -> None:
    """Is taken at once, however it came; a connection that was held up goes on."""
    monkeypatch.setattr(stream_reader, "IS_KNOWN", known)
    protocol = Held()
    content = reader_of(*pieces, protocol=protocol)
    protocol._reading_paused = bool(pieces)
    assert stream_reader.take_whole(content) == b"".join(pieces)
    assert content.at_eof()
    assert not protocol._reading_paused


async def test_what_is_left_of_a_body() -> None:
    """Is all that is taken, where the first bytes are read already; an error stays one."""
    protocol = Held()
    content = reader_of(b"one two", protocol=protocol)
    assert content.read_nowait(4) == b"one "
    assert stream_reader.take_whole(content) == b"two"
    broken = reader_of(b"one", protocol=protocol)
    broken.set_exception(aiohttp.ClientPayloadError("broken"))
    with pytest.raises(aiohttp.ClientPayloadError):
        stream_reader.take_whole(broken)


async def test_no_body() -> None:
    """Is taken for an empty one."""
    assert stream_reader.take_whole(EMPTY_PAYLOAD) == b""
