"""An upstream on a raw socket, which may break off at any byte, and knows its connections apart."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs

from tests.upstreams import answering

LISTED = {"models": [{"name": "m", "model": "m"}], "data": [{"id": "m"}], "version": "0.9.3"}


@attrs.frozen
class Asked:
    """One request: the number of its connection, and the how-manieth it is there, both from 1."""

    method: str
    path: str
    body: bytes
    connection: int
    number: int

    @property
    def is_reused(self) -> bool:
        return self.number > 1


@attrs.frozen
class Act:
    """Writes ``data`` and keeps the connection, or ends it with FIN or RST."""

    data: bytes = b""
    end: str = ""


CLOSE, RESET, SILENCE = Act(end="FIN"), Act(end="RST"), Act()


def message(body: bytes, kind: str = "application/json", status: str = "200 OK", head: str = "") -> bytes:
    """Return an HTTP answer with a length."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: bytes, kind: str = "application/x-ndjson") -> bytes:
    """Return the head of a stream and its first chunk."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + (f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b"")


def proper(asked: Asked) -> Act:
    """Answer as a model server does, and to a verb with an empty object."""
    if asked.method != "POST" or asked.path in ("/api/show", "/api/copy"):
        return Act(message(json.dumps(LISTED).encode()))
    try:
        body = json.loads(asked.body)
        reply = answering("from the raw one")(asked.path, body | {"stream": False})
    except (ValueError, TypeError):
        return Act(message(b"{}"))
    return Act(message(json.dumps(reply.body).encode()))


@attrs.define
class RawUpstream:
    """Does with each request what ``act`` says of it; ``asked`` are all requests that it has read whole."""

    act: Callable[[Asked], Act] = proper
    asked: list[Asked] = attrs.field(factory=list)
    writers: list[asyncio.StreamWriter] = attrs.field(factory=list)
    url: str = ""

    def of(self, *paths: str) -> list[Asked]:
        """Return the requests to paths that begin so."""
        return [asked for asked in self.asked if asked.path.startswith(paths)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        connection, number = len(self.writers), 0
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _ = head.split(" ", 2)
                number += 1
                asked = Asked(method, path, await _read_body(reader, head.lower()), connection, number)
                self.asked.append(asked)
                act = self.act(asked)
                writer.write(act.data)
                if act.end == "RST":
                    made: Any = writer.get_extra_info("socket")
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if act.end:
                    break
        writer.close()


async def _read_body(reader: asyncio.StreamReader, head: str) -> bytes:
    if "transfer-encoding: chunked" in head:
        return await reader.readuntil(b"0\r\n\r\n")
    length = head.partition("content-length: ")[2].partition("\r\n")[0]
    return await reader.readexactly(int(length or 0))


@asynccontextmanager
async def raw_upstream(act: Callable[[Asked], Act] = proper) -> AsyncIterator[RawUpstream]:
    """Serve while the block runs."""
    upstream = RawUpstream(act)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        for writer in upstream.writers:
            writer.close()
        await asyncio.sleep(0)
