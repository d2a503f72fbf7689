"""An upstream that answers with bytes as a test wrote them, under any Content-Type, on a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import web

from tests.upstreams import LISTED, NDJSON, served

PLAIN, HTML = "text/plain; charset=utf-8", "text/html"
NONE = ""
"""No Content-Type at all."""


@attrs.define
class Script:
    """Answers each POST with ``parts``, a write each, and any GET with a list of one model in both dialects."""

    parts: Sequence[bytes]
    content_type: str = NDJSON
    asked: list[Any] = attrs.field(factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method in ("GET", "HEAD"):
            return web.json_response(LISTED)
        self.asked.append(json.loads(await request.read()))
        response = web.StreamResponse(headers={"Content-Type": self.content_type} if self.content_type else {})
        if not self.content_type:
            response._prepare_headers = _untyped(response)  # type: ignore[method-assign]
        await response.prepare(request)
        for part in self.parts:
            await response.write(part)
        await response.write_eof()
        return response


def _untyped(response: web.StreamResponse) -> Any:
    prepare = response._prepare_headers

    async def prepared() -> None:
        await prepare()
        response.headers.popall("Content-Type", None)

    return prepared


@asynccontextmanager
async def scripted(parts: Sequence[bytes] | bytes, content_type: str = NDJSON) -> AsyncIterator[Script]:
    """Serve while the block runs."""
    script = Script([parts] if isinstance(parts, bytes) else parts, content_type)
    async with served(script.handle) as script.url:
        yield script


def lines(*objects: Any) -> bytes:
    """Return a line of JSON for each; bytes are lines as they are."""
    return b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in objects)


def events(*objects: Any) -> bytes:
    """Return a server-sent event for each; bytes are events as they are, ``[DONE]`` is the end mark."""
    shown = [one if isinstance(one, bytes | str) else json.dumps(one) for one in objects]
    return b"".join(one if isinstance(one, bytes) else f"data: {one}\n\n".encode() for one in shown)
