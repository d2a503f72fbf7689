"""An upstream that says what a test tells it to say, when it is told to, in either dialect, on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
from aiohttp import web

from agenthub.standin.state import Tally
from tests.upstreams import JSON, LISTED, NDJSON, SSE, USAGE, chunk, line, served


@attrs.define(eq=False)
class Call:
    """One request to the upstream, which is answered by ``say``, then ``finish`` or ``cut`` or ``refuse``."""

    path: str
    body: Any
    left: Tally = attrs.field(factory=Tally)
    """Bumped when it is over, in whatever way: then the upstream holds nothing of it."""
    written_bytes: int = 0
    frames: int = 0
    _said: asyncio.Queue[Any] = attrs.field(factory=asyncio.Queue)

    @property
    def is_native(self) -> bool:
        return self.path.startswith("/api/")

    def say(self, *texts: Any) -> None:
        """Send each text in a frame of its own; what is no text is a frame by itself."""
        for text in texts:
            self._said.put_nowait(text)

    def finish(self) -> None:
        """Send the end, with counts."""
        self._said.put_nowait(True)

    def cut(self) -> None:
        """Close the connection without an end."""
        self._said.put_nowait(False)

    @property
    def is_idle(self) -> bool:
        """True when all that was said has been written."""
        return self._said.empty()

    def drop(self) -> None:
        """Forget what was said and not yet written."""
        while not self._said.empty():
            self._said.get_nowait()

    def refuse(self, status: int, message: str = "no", **headers: str) -> None:
        """Answer a status instead of a stream; nothing may have been said before."""
        body = {"error": message if self.is_native else {"message": message, "type": "t", "param": None, "code": None}}
        self._said.put_nowait(web.Response(status=status, text=json.dumps(body), headers=headers, content_type=JSON))

    def give(self, body: Any) -> None:
        """Answer this instead of a stream."""
        self._said.put_nowait(web.json_response(body))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        first = await self._said.get()
        if isinstance(first, web.Response):
            return first
        if not self.body.get("stream", self.is_native):
            return await self._answer_whole(first)
        response = web.StreamResponse(headers={"Content-Type": NDJSON if self.is_native else SSE})
        await response.prepare(request)
        said = first
        while not isinstance(said, bool):
            await self._write(response, self._frame(said))
            self.frames += 1
            said = await self._said.get()
        if not said:
            assert request.transport is not None
            request.transport.close()
        elif self.is_native:
            await self._write(response, json.dumps(line(done=True)) + "\n")
        else:
            usage = [{"choices": [], "usage": USAGE}] if self.body.get("stream_options") else []
            frames = [*map(json.dumps, [chunk("stop"), *usage]), "[DONE]"]
            await self._write(response, "".join([f"data: {frame}\n\n" for frame in frames]))
        return response

    async def _answer_whole(self, said: Any) -> web.Response:
        text = ""
        while not isinstance(said, bool):
            text += said
            said = await self._said.get()
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = line(done=True, content=text) if self.is_native else {"id": "c1", "choices": [choice], "usage": USAGE}
        return web.json_response(body)

    def _frame(self, said: Any) -> str:
        if self.is_native:
            return json.dumps(line(content=said) if isinstance(said, str) else said) + "\n"
        return f"data: {json.dumps(chunk(content=said) if isinstance(said, str) else said)}\n\n"

    async def _write(self, response: web.StreamResponse, text: str) -> None:
        await response.write(text.encode())
        self.written_bytes += len(text)


@attrs.define(eq=False)
class Tap:
    """The upstream; ``calls`` are the requests for answers so far, the first first."""

    calls: list[Call] = attrs.field(factory=list)
    url: str = ""
    called: Tally = attrs.field(factory=Tally)

    async def call(self, number: int = 1) -> Call:
        """Return the call of that number as soon as it is there."""
        await self.called.reach(number)
        return self.calls[number - 1]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.json_response(LISTED)
        call = Call(request.path, await request.json())
        self.calls.append(call)
        self.called.bump()
        try:
            with suppress(ConnectionError):
                return await call.answer(request)
            return web.Response()
        finally:
            call.left.bump()


@asynccontextmanager
async def tapped() -> AsyncIterator[Tap]:
    """Serve while the block runs."""
    tap = Tap()
    async with served(tap.handle, handler_cancellation=True) as tap.url:
        yield tap
