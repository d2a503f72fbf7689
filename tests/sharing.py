"""Clients of a hub that share its answers: bit by bit, or in the background."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import ClientResponse

from agenthub.middleware.caching import Caching
from tests.hubs import Answered, RunningHub

MESSAGES = [{"role": "user", "content": "hi"}]
PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
BODIES: dict[str, dict[str, Any]] = {
    "ollama": {"model": "m", "messages": MESSAGES, "options": {"temperature": 0}, "stream": True},
    "openai": {
        "model": "m",
        "messages": MESSAGES,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
}
PATIENCE_S = 5.0


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the hub, and rings no bell
            await asyncio.sleep(0.002)


def caching_of(hub: RunningHub) -> Caching:
    return next(layer for layer in hub.hub.dispatcher.middleware if isinstance(layer, Caching))


@attrs.define
class Client:
    """One client of the hub that reads its answer bit by bit. ``response`` is there once a frame is."""

    asked: asyncio.Task[ClientResponse]
    dialect: str
    frames: list[Any] = attrs.field(factory=list)

    @property
    def response(self) -> ClientResponse:
        return self.asked.result()

    @property
    def headers(self) -> Any:
        return self.response.headers

    @property
    def cache(self) -> str:
        return str(self.response.headers["X-AgentHub-Cache"])

    def _text_of(self, frame: Any) -> str:
        if self.dialect == "ollama":
            return str(frame.get("message", {}).get("content", ""))
        choices = frame["choices"] if isinstance(frame, dict) and "choices" in frame else []
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    @property
    def text(self) -> str:
        return "".join(self._text_of(frame) for frame in self.frames)

    @property
    def is_finished(self) -> bool:
        last = self.frames[-1]
        return last == "[DONE]" or (isinstance(last, dict) and last.get("done") is True)

    async def frame(self) -> Any:
        """Read one frame, None at the end of the body."""
        async with asyncio.timeout(PATIENCE_S):
            await self.asked
            while line := await self.response.content.readline():
                if text := line.decode().strip().removeprefix("data: "):
                    self.frames.append(text if text == "[DONE]" else json.loads(text))
                    return self.frames[-1]
        return None

    async def leave(self) -> None:
        """Hang up."""
        self.asked.cancel()
        await asyncio.wait([self.asked])
        if not self.asked.cancelled():
            self.response.close()

    async def until(self, text: str) -> None:
        """Read until this is all the text that came."""
        while self.text != text:
            assert await self.frame() is not None, (self.text, text)

    async def rest(self) -> str:
        """Read to the end; return the text."""
        while await self.frame() is not None:
            pass
        return self.text


@asynccontextmanager
async def asking(hub: RunningHub, dialect: str = "ollama", **headers: str) -> AsyncIterator[Client]:
    """Ask for a stream, and leave at the end of the block."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}

    async def post() -> ClientResponse:
        return await hub.http.post(hub.url + PATHS[dialect], json=BODIES[dialect], headers=sent)

    client = Client(asyncio.create_task(post()), dialect)
    try:
        yield client
    finally:
        await client.leave()


def ask(hub: RunningHub, dialect: str = "ollama", **body: Any) -> asyncio.Task[Answered]:
    """Ask and read to the end, in the background."""
    return asyncio.create_task(hub.post(PATHS[dialect], BODIES[dialect] | body))
