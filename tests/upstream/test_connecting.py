"""A body that breaks HTTP's own framing ends at once for who reads it."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from agenthub.upstream.connecting import make_connector
from agenthub.upstream.reading import read_any
from tests.hubs import until

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"


async def test_a_chunk_that_is_none() -> None:
    """What came before it is read; then the reader has an error, and does not wait for what never comes."""
    first_was_read = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        await first_was_read.wait()
        writer.write(b"\xff\x00 no chunk begins so")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        aiohttp.ClientSession(connector=make_connector()) as http,
        asyncio.timeout(20),
        http.get(url) as response,
    ):
        assert await response.content.readany() == b"first"
        first_was_read.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.readany()


async def test_what_came_before_a_break() -> None:
    """A reader that was busy when the connection broke gets what had come by then, and the error after it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        aiohttp.ClientSession(connector=make_connector()) as http,
        asyncio.timeout(20),
        http.get(url) as response,
    ):
        await until(response.content.exception)
        pieces = read_any(response.content)
        assert await anext(pieces) == b"first"
        with pytest.raises(aiohttp.ClientPayloadError):
            await anext(pieces)


async def test_a_body_that_is_read_to_its_end() -> None:
    """The connection may close behind it, and serves again where it does not."""
    asked = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            writer.write(HEAD + b"0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, aiohttp.ClientSession(connector=make_connector()) as http, asyncio.timeout(20):
        for _ in range(4):
            async with http.get(url) as response:
                assert await response.read() == b"first"
    assert asked == 4
