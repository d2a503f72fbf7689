"""An upstream whose answers a test makes out of the requests, on a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import web

NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream", "application/json"
LISTED: dict[str, Any] = {"models": [{"name": "m"}], "data": [{"id": "m"}], "version": "0.9.3"}
"""One model, as either dialect lists it."""


@attrs.frozen
class Reply:
    """One answer: an object, or the frames of a stream."""

    body: Any = None
    frames: Iterable[Any] | None = None
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.define
class Upstream:
    """Answers POSTs with what ``reply(path, body)`` gives, and any GET with ``listed``, one model in both dialects."""

    reply: Callable[[str, Any], Reply]
    asked: list[Any] = attrs.field(factory=list)
    missing: tuple[str, ...] = ()
    """The beginnings of the paths that it does not have."""
    paths: list[str] = attrs.field(factory=list)
    """Those of the POSTs, in order; ``looked_up`` are those of the GETs."""
    looked_up: list[str] = attrs.field(factory=list)
    listed: Any = attrs.field(factory=lambda: dict(LISTED))
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        if request.method in ("GET", "HEAD"):
            self.looked_up.append(request.path)
        if request.path.startswith(self.missing):
            return web.json_response({"error": {"message": "File Not Found", "code": 404}}, status=404)
        if request.method in ("GET", "HEAD"):
            return web.json_response(self.listed)
        self.paths.append(request.path)
        text = await request.text()
        # As Ollama does, it reads the first value and leaves the rest.
        body = json.JSONDecoder().raw_decode(text)[0] if text else None
        self.asked.append(body)
        reply = self.reply(request.path, body)
        if reply.frames is None:
            return web.Response(
                body=json.dumps(reply.body), status=reply.status, content_type=JSON, headers=reply.headers
            )
        if request.path.startswith("/api/"):
            lines = "".join(json.dumps(frame) + "\n" for frame in reply.frames)
            return web.Response(text=lines, content_type=NDJSON, headers=reply.headers)
        shown = [frame if isinstance(frame, str) else json.dumps(frame) for frame in reply.frames]
        return web.Response(
            text="".join(f"data: {frame}\n\n" for frame in shown), content_type=SSE, headers=reply.headers
        )


@asynccontextmanager
async def served(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    handler_cancellation: bool = False,
    max_body_bytes: int = 2**20,
) -> AsyncIterator[str]:
    """Answer every request by ``handler`` while the block runs; yield the URL."""
    app = web.Application(client_max_size=max_body_bytes)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=handler_cancellation, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serving(reply: Callable[[str, Any], Reply]) -> AsyncIterator[Upstream]:
    """Serve while the block runs."""
    upstream = Upstream(reply)
    async with served(upstream.handle) as upstream.url:
        yield upstream


HI: list[Any] = [{"role": "user", "content": "hi"}]
PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
END = {"done": True, "done_reason": "stop", "total_duration": 9, "prompt_eval_count": 3, "eval_count": 2}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def line(done: bool = False, **message: Any) -> dict[str, Any]:
    """Return a line of /api/chat."""
    body = {
        "model": "m",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": ""} | message,
    }
    return body | (END if done else {"done": False})


def chunk(reason: str | None = None, *, index: int = 0, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    """Return a chunk of /v1/chat/completions."""
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def answering(text: str = "hey") -> Callable[[str, Any], Reply]:
    """Answer each endpoint that asks a model something in its own shape, whole or streamed as it was asked."""

    def reply(path: str, body: Any) -> Reply:
        if body is None:
            return Reply({})
        if path == "/api/chat":
            lines = [line(content=text), line(done=True)]
            return Reply(frames=lines) if body.get("stream", True) else Reply(line(done=True, content=text))
        if path == "/api/generate":
            said = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "response": text}
            return Reply(frames=[said | END]) if body.get("stream", True) else Reply(said | END)
        if path.startswith("/api/embed"):
            return Reply({"model": "m", "embeddings": [[0.6, 0.8]], "embedding": [0.6, 0.8]})
        if path == "/v1/embeddings":
            return Reply({"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": USAGE})
        if body.get("stream"):
            return Reply(frames=[chunk(content=text), chunk("stop"), {"choices": [], "usage": USAGE}, "[DONE]"])
        said = {"index": 0, "message": {"role": "assistant", "content": text}, "text": text, "finish_reason": "stop"}
        return Reply({"id": "c1", "choices": [said], "usage": USAGE})

    return reply
