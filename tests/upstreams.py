"""An upstream whose answers a test makes out of the requests, on a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import web

NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream", "application/json"


@attrs.frozen
class Reply:
    """One answer: an object, or the frames of a stream."""

    body: Any = None
    frames: Iterable[Any] | None = None
    status: int = 200


@attrs.define
class Upstream:
    """Answers POSTs with what ``reply(path, body)`` gives, and any GET with a list of one model in both dialects."""

    reply: Callable[[str, Any], Reply]
    asked: list[Any] = attrs.field(factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"models": [{"name": "m"}], "data": [{"id": "m"}], "version": "0.9.3"})
        body = await request.json()
        self.asked.append(body)
        reply = self.reply(request.path, body)
        if reply.frames is None:
            return web.Response(body=json.dumps(reply.body), status=reply.status, content_type=JSON)
        if request.path.startswith("/api/"):
            lines = "".join(json.dumps(frame) + "\n" for frame in reply.frames)
            return web.Response(text=lines, content_type=NDJSON)
        shown = [frame if isinstance(frame, str) else json.dumps(frame) for frame in reply.frames]
        return web.Response(text="".join(f"data: {frame}\n\n" for frame in shown), content_type=SSE)


@asynccontextmanager
async def serving(reply: Callable[[str, Any], Reply]) -> AsyncIterator[Upstream]:
    """Serve while the block runs."""
    upstream, app = Upstream(reply), web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield upstream
    finally:
        await runner.cleanup()
