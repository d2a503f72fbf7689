"""Many clients at once, of every sort, and what each of their requests came to: to be compared with the hub's log."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import attrs

from tests.faults.programs import many_connections
from tests.faults.reading import PATHS, Got, ask_for, read
from tests.hubs import LANES

SAID = "You said: {}. ☕ This is the stand-in, not a model."
MODEL, ENDLESS, MISSING = "standin", "endless", "no-such-model"
GREEDY = "greedy"
"""The client with a limit of its own."""
ASKED_OFTEN = 20
PIECE = b"x" * 65536
OUTCOMES: Mapping[str, set[str]] = {
    "answered": {"ok", "cached", "shared"},
    "failed": {"failed"},
    "rejected": {"rejected"},
    "left": {"abandoned", "ok", "cached", "shared", "failed", "rejected", ""},
    "unheard": {""},
    "lost": set(),
}
"""What the log may say of a request that its client saw end so; nothing where it never was a request for a model.

Who has left cannot know how far it came. What is lost has no answer, or one that is not what was to be said.
"""


@attrs.define
class Load:
    """Asks a hub before stand-ins; ``seen`` says of each request id what its client saw.

    ``times`` says of those that wait for their answer when they began and ended, by the wall clock.
    """

    http: aiohttp.ClientSession
    url: str
    chance: random.Random
    seen: dict[str, str] = attrs.field(factory=dict)
    times: dict[str, list[float]] = attrs.field(factory=dict)
    statuses: Counter[int] = attrs.field(factory=Counter)
    strange: list[tuple[str, Any]] = attrs.field(factory=list)
    is_over: bool = False
    _running: asyncio.Future[list[None]] | None = None

    async def run(self, kinds: Mapping[str, int], clients: int) -> None:
        """Let so many clients ask one thing after the other until ``stop``; ``kinds`` are methods with weights."""
        names, weights = list(kinds), list(kinds.values())

        async def client() -> None:
            while not self.is_over:
                (name,) = self.chance.choices(names, weights)
                await getattr(self, name)()

        self._running = asyncio.gather(*(client() for _ in range(clients)))
        await self._running

    async def stop(self) -> None:
        """Let no client ask anything more, and wait until all that was asked is answered."""
        self.is_over = True
        if self._running is not None:
            async with asyncio.timeout(60):
                await asyncio.shield(self._running)

    async def plain(self) -> None:
        """Ask something that nobody else asks."""
        await self._ask(f"number {len(self.seen)} {self.chance.getrandbits(32)}")

    async def asked_often(self) -> None:
        """Ask what is soon in the cache."""
        await self._ask(f"again {self.chance.randrange(ASKED_OFTEN)}", is_cold=True)

    async def together(self) -> None:
        """Ask the same five times at once."""
        prompt = f"together {len(self.seen)} {self.chance.getrandbits(32)}"
        await asyncio.gather(*(self._ask(prompt, is_cold=True) for _ in range(5)))

    async def greedy(self) -> None:
        """Ask in the name of a client that may not ask so much at once."""
        await self._ask(f"more {len(self.seen)}", **{"X-Client-Name": GREEDY})

    async def missing_model(self) -> None:
        """Ask a model that there is not."""
        await self._ask("hi", model=MISSING)

    async def leaves(self) -> None:
        """Leave a stream in its middle."""
        request_id, dialect, headers = self._begin()
        body = ask_for(dialect, MODEL, " ".join(f"word{number}" for number in range(40)), streamed=True)
        try:
            async with self.http.post(self.url + PATHS[dialect], json=body, headers=headers) as response:
                for _ in range(self.chance.randrange(4)):
                    await response.content.readany()
                response.close()
        except aiohttp.ClientError as error:
            self.strange.append((request_id, error))
        self.seen[request_id] = "left"

    async def leaves_early(self) -> None:
        """Leave while the answer is waited for."""
        request_id, dialect, headers = self._begin()
        body = ask_for(dialect, MODEL, f"early {request_id}", streamed=self.chance.random() < 0.5)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.chance.random() * 0.03):
                async with self.http.post(self.url + PATHS[dialect], json=body, headers=headers) as response:
                    await response.read()
        self.seen[request_id] = "left"

    async def never_reads(self) -> None:
        """Ask for an endless stream, read nothing of it for a while, and leave."""
        request_id, dialect, headers = self._begin()
        body = json.dumps(ask_for(dialect, ENDLESS, "go on", streamed=True)).encode()
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.setblocking(False)
            loop, parts = asyncio.get_running_loop(), urlsplit(self.url)
            await loop.sock_connect(plain, (parts.hostname, parts.port))
            named = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = (
                f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: {parts.netloc}\r\n{named}Content-Length: {len(body)}\r\n\r\n"
            )
            await loop.sock_sendall(plain, head.encode() + body)
            await asyncio.sleep(self.chance.random() * 2)
        self.seen[request_id] = "left"

    async def endless_body(self) -> None:
        """Send a body without end: it is cut short with a 413."""
        await self._send_unheard(self._endless(), {413})

    async def unreadable(self) -> None:
        """Send what is no JSON."""
        await self._send_unheard(b'{"model":', {400})

    async def _endless(self) -> AsyncIterator[bytes]:
        while True:
            yield PIECE
            await asyncio.sleep(0)

    async def _send_unheard(self, body: Any, expected: set[int]) -> None:
        request_id, dialect, headers = self._begin()
        self.seen[request_id] = "unheard"
        try:
            async with self.http.post(self.url + PATHS[dialect], data=body, headers=headers) as response:
                self.statuses[response.status] += 1
                if response.status not in expected:
                    self.strange.append((request_id, response.status))
        except (aiohttp.ClientError, OSError):
            pass  # the hub closes before all was sent, and its answer may be lost with the connection

    async def _ask(self, prompt: str, *, is_cold: bool = False, model: str = MODEL, **more: str) -> None:
        request_id, dialect, headers = self._begin()
        cold: dict[str, Any] = {"temperature": 0} if dialect == "openai" else {"options": {"temperature": 0}}
        streamed = self.chance.random() < 0.5
        body = ask_for(dialect, model, prompt, streamed=streamed, **(cold if is_cold else {}))
        self.times[request_id] = [time.time()]
        try:
            async with self.http.post(self.url + PATHS[dialect], json=body, headers=headers | more) as response:
                got = await read(response, dialect)
        except (aiohttp.ClientError, OSError) as error:
            got = Got(0, "", "cut", f"{type(error).__name__}: {error}")
        self.times[request_id].append(time.time())
        self.statuses[got.status] += 1
        self.seen[request_id] = self._judge(request_id, got, SAID.format(prompt))

    def _judge(self, request_id: str, got: Got, text: str) -> str:
        if got.end == "whole" and got.text == text:
            return "answered"
        if got.end == "error" and text.startswith(got.text):
            return "rejected" if 400 <= got.status < 500 else "failed"
        self.strange.append((request_id, got))
        return "lost"

    def _begin(self) -> tuple[str, str, dict[str, str]]:
        """Return a new id, the client's dialect, and the headers."""
        request_id = f"r{len(self.seen)}-{self.chance.getrandbits(64):x}"
        self.seen[request_id] = "lost"
        dialect, adapter = self.chance.choice(LANES)
        headers = {"X-Request-Id": request_id, "X-AgentHub-Api-Mode": adapter, "Content-Type": "application/json"}
        return request_id, dialect, headers


@asynccontextmanager
async def under_load(url: str, kinds: Mapping[str, int], clients: int, seed: int = 1) -> AsyncIterator[Load]:
    """Ask the hub at ``url`` while the block runs; at its end all that was asked is answered."""
    async with many_connections() as http:
        load = Load(http, url, random.Random(seed))
        running = asyncio.create_task(load.run(kinds, clients))
        try:
            yield load
            await load.stop()
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def unaccounted(seen: Mapping[str, str], logged: Mapping[str, Counter[str]]) -> dict[str, tuple[str, dict[str, int]]]:
    """Return the requests that have not exactly one outcome, or not the one that their clients saw."""
    wrong = {}
    for request_id in {*seen, *logged}:
        saw, outcomes = seen.get(request_id, "not sent"), logged.get(request_id, Counter())
        outcome = next(iter(outcomes), "")
        if outcomes.total() > 1 or outcome not in OUTCOMES.get(saw, ()):
            wrong[request_id] = (saw, dict(outcomes))
    return wrong


async def every(seconds: float, act: Callable[[], Awaitable[None] | None]) -> None:
    """Do something again and again, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        if (waiting := act()) is not None:
            await waiting
