"""The floor of the stack: aiohttp's server and its parser, with connections of our own in place of a ClientSession."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import orjson
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from yarl import URL

_JSON = {"Content-Type": "application/json"}


@attrs.define
class Connections:
    """Connections to the upstream; those that are idle serve again. What fails is not handled."""

    url: URL
    idle: list[ResponseHandler] = attrs.field(factory=list)

    async def ask(self, path: str, body: bytes) -> bytes:
        """Return the body of the answer to a POST."""
        handler = self.idle.pop() if self.idle else await self._connect()
        head = f"POST {path} HTTP/1.1\r\nHost: {self.url.authority}\r\nContent-Type: application/json\r\n"
        assert handler.transport is not None, "the upstream keeps its connections"
        handler.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        _, content = await handler.read()
        data = content.read_nowait() if content.is_eof() else await content.read()
        self.idle.append(handler)
        return data

    async def _connect(self) -> ResponseHandler:
        loop = asyncio.get_running_loop()
        host, port = self.url.host or "", self.url.port or 80
        _, handler = await loop.create_connection(lambda: ResponseHandler(loop), host, port)
        handler.set_response_params(read_until_eof=True)
        return handler


def make_proxy(upstream: str) -> Any:
    """Return a handler that does what the bare proxy does: it parses and renders the JSON on both ways."""
    connections = Connections(URL(upstream))

    async def proxy(http_request: web.Request) -> web.StreamResponse:
        asked = orjson.dumps(orjson.loads(await http_request.read()))
        value = orjson.loads(await connections.ask("/api/chat", asked))
        return web.Response(body=orjson.dumps(value), headers=_JSON)

    return proxy
