"""A TCP forwarder: a real server behind it can be stopped and started again as far as its clients can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import attrs


@attrs.frozen
class Ends:
    """The two directions of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@attrs.define
class Forwarder:
    """Passes connections on to ``host:port`` from a port of its own; ``open`` are those that clients hold now."""

    host: str
    port: int
    open: int = 0
    listens_on: int = 0
    _server: asyncio.Server | None = None
    _pipes: set[asyncio.Task[None]] = attrs.field(factory=set)
    _changed: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listens_on}"

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.listens_on)
        self.listens_on = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and break off those that are open."""
        if self._server is not None:
            # What asyncio has accepted it gives to _accept a turn later, unless the server is closed by then: never.
            for opened in self._server.sockets:
                asyncio.get_running_loop().remove_reader(opened.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        for task in list(self._pipes):
            task.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def until_open(self, count: int, timeout_s: float) -> None:
        """Return as soon as clients hold ``count`` connections; TimeoutError after ``timeout_s`` seconds."""
        async with asyncio.timeout(timeout_s):
            while self.open != count:
                self._changed.clear()
                await self._changed.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._pipes.add(task)
        task.add_done_callback(self._pipes.discard)
        # Also where it is cancelled before it has begun; and without waiting, as stop() may cancel it a second time.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count(1)
        async with AsyncExitStack() as far_end:
            try:
                with suppress(ConnectionError):  # the real server may be gone
                    far = Ends(*await asyncio.open_connection(self.host, self.port))
                    far_end.callback(far.writer.transport.abort)
                    for end in (writer, far.writer):
                        # So that what drain() has let through is with the system, and abort() takes nothing away.
                        end.transport.set_write_buffer_limits(0)
                    far_end.push_async_callback(self._leave, far)
                    await self._pass_on(Ends(reader, writer), far)
            finally:
                self._count(-1)

    async def _leave(self, far: Ends) -> None:
        """Be done with the real server, before the connection to it closes."""

    async def _pass_on(self, near: Ends, far: Ends) -> None:
        """Pass bytes on, both ways, until either end has no more."""
        await until_first(pipe(near.reader, far.writer), pipe(far.reader, near.writer))

    def _count(self, change: int) -> None:
        self.open += change
        self._changed.set()


async def until_first(*running: Coroutine[Any, Any, None]) -> None:
    """Run all until the first of them ends, and cancel the others."""
    tasks = [asyncio.create_task(one) for one in running]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, until nothing does."""
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
