"""A TCP proxy that spoils answers on their way: before a real server, it is a network and a server that fail."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias
from urllib.parse import urlsplit

import attrs

from tests.forwarder import Ends, Forwarder, until_first

_GARBAGE = b"\xff\x00\xfe"
"""In no encoding, no HTTP and no JSON."""
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
_KEPT_BYTES = 2**20
_MOST_LINGERING = 10


@attrs.frozen
class Delay:
    """The answer begins ``pause_s`` later."""

    pause_s: float
    after: int = 0


@attrs.frozen
class Drip:
    """The answer comes in pieces of ``piece_bytes``, with ``pause_s`` between them."""

    piece_bytes: int
    pause_s: float = 0.0
    after: int = 0


@attrs.frozen
class Cut:
    """The connection ends (FIN) after so many bytes of the answer; below zero: so many before its end."""

    after: int = 0


@attrs.frozen
class Reset:
    """The connection breaks (RST) after so many bytes of the answer."""

    after: int = 0


@attrs.frozen
class BlackHole:
    """Nothing more comes after so many bytes of the answer, and the connection stays open."""

    after: int = 0


@attrs.frozen
class Garbage:
    """After so many bytes of the answer others come in place of those that were to come; then the connection ends."""

    after: int = 0


Fault: TypeAlias = Delay | Drip | Cut | Reset | BlackHole | Garbage
Choice: TypeAlias = Callable[[], Fault | None]
"""What befalls the answer to the next POST."""


@attrs.define
class _Course:
    """What befalls the answer that is under way on one connection, and how many bytes of it went by."""

    fault: Fault | None = None
    passed: int = 0


@attrs.define
class FaultProxy(Forwarder):
    """Passes everything on, but the answer to each POST as ``choose`` says; lists and health checks are spared.

    Beside these faults it can ``stop()``, which refuses connections and breaks off those that are open, and
    ``start()`` again. ``last`` is the latest answer as it came from the real server, up to a MiB of it; ``struck``
    counts the faults that were met with, by the names of their classes. With ``lingers_s`` the real server may say all
    that it has to say, until it has been silent for so long: it does not see that a client left.
    """

    lingers_s: float = 0.0
    choose: Choice = lambda: None
    last: bytearray = attrs.field(factory=bytearray)
    struck: Counter[str] = attrs.field(factory=Counter)

    def script(self, *faults: Fault | None) -> None:
        """Let the faults befall the next POSTs, one each, and nothing the others."""
        queue = deque(faults)
        self.choose = lambda: queue.popleft() if queue else None

    async def _pass_on(self, near: Ends, far: Ends) -> None:
        course = _Course()
        await until_first(self._ask(near.reader, far.writer, course), self._answer(far.reader, near.writer, course))

    async def _leave(self, far: Ends) -> None:
        if self.lingers_s:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(_MOST_LINGERING * self.lingers_s):
                    while await asyncio.wait_for(far.reader.read(65536), self.lingers_s):
                        pass

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, course: _Course) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if data.startswith((b"GET ", b"HEAD ")):
                    course.fault = None
                elif data.startswith(b"POST "):
                    course.fault, course.passed = self.choose(), 0
                    self.last.clear()
                writer.write(data)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, course: _Course) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if len(self.last) < _KEPT_BYTES:
                    self.last += data
                fault, room = course.fault, self._room(course, data)
                course.passed += len(data)
                if fault is None or room >= len(data):
                    await _send(writer, data)
                elif room < 0:  # struck already, and slow at the worst
                    await self._rest(writer, data, fault)
                else:
                    self.struck[type(fault).__name__] += 1
                    await _send(writer, data[:room])
                    if not await self._strike(writer, data[room:], fault):
                        return

    def _room(self, course: _Course, data: bytes) -> int:
        """Return how much of ``data`` comes before the fault, if there is any; below zero: it has struck already."""
        if course.fault is None:
            return 0
        after = course.fault.after
        if after >= 0:
            return after - course.passed
        return len(data) + after if _is_whole(self.last) else len(data)

    async def _strike(self, writer: asyncio.StreamWriter, rest: bytes, fault: Fault) -> bool:
        """Carry out the fault; say whether the connection goes on."""
        match fault:
            case Delay():
                await asyncio.sleep(fault.pause_s)
                await _send(writer, rest)
                return True
            case Drip():
                await self._rest(writer, rest, fault)
                return True
            case Garbage():
                await _send(writer, (_GARBAGE * len(rest))[: len(rest)])
            case Reset():
                # Without linger abort() would send a FIN.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case BlackHole():
                await asyncio.get_running_loop().create_future()  # until the other end gives up
        return False

    async def _rest(self, writer: asyncio.StreamWriter, data: bytes, fault: Fault) -> None:
        if not isinstance(fault, Drip):
            await _send(writer, data)
            return
        for start in range(0, len(data), fault.piece_bytes):
            await _send(writer, data[start : start + fault.piece_bytes])
            await asyncio.sleep(fault.pause_s)


def _is_whole(answer: bytes | bytearray) -> bool:
    """Say whether an HTTP answer has come to its end."""
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return body.endswith(b"0\r\n\r\n") if length is None else len(body) >= int(length[1])


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    if data:
        writer.write(data)
        await writer.drain()


def drawn(seed: int, share: float, faults: Sequence[Callable[[random.Random], Fault]]) -> Choice:
    """Return a choice that lets ``share`` of the answers meet one of ``faults``; the same seed draws the same."""
    chance = random.Random(seed)
    return lambda: chance.choice(faults)(chance) if chance.random() < share else None


@asynccontextmanager
async def proxied(url: str, *faults: Fault | None, lingers_s: float = 0.0) -> AsyncIterator[FaultProxy]:
    """Stand before the server at ``url`` while the block runs; at the end no connection and no task is left."""
    parts = urlsplit(url)
    proxy = FaultProxy(parts.hostname or "", parts.port or 80, lingers_s=lingers_s)
    proxy.script(*faults)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
