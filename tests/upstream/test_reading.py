"""Reading a response: all that has arrived at once, and nothing of it lost, whatever aiohttp looks like inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web

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
    assert reading.IS_KNOWN, "aiohttp's reader changed: see whether the short way is still right, or drop it"
    monkeypatch.setattr(reading, "IS_KNOWN", known)
    pieces = await body(in_chunks, reading.read_any)
    assert b"".join(pieces) == b"".join(CHUNKS * 5)
    if known:
        assert len(pieces) < 5 * len(CHUNKS)


@pytest.mark.parametrize("known", [True, False])
async def test_a_break_is_an_error(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """A body that ends before its last chunk raises, after what came of it."""
    monkeypatch.setattr(reading, "IS_KNOWN", known)

    async def broken(response: web.StreamResponse) -> None:
        await response.write(b"one")
        await response.write(b"two")
        assert response._req is not None
        assert response._req.transport is not None
        response._req.transport.close()

    with pytest.raises(aiohttp.ClientPayloadError):
        await body(broken, reading.read_any)
