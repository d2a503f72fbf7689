"""The end of serving: what runs may finish for a while, then it is cut off with an answer that says so."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from contextlib import suppress

from aiohttp import web

from agenthub.errors import HubStopping
from agenthub.lives import Lives

_QUIET_S = 0.5
_LAST_WORDS_S = 2.0
_ACCEPTING_TURNS = 3


async def accept_waiting(listening: Iterable[socket.socket]) -> None:
    """Let the event loop accept the connections that the system has open already: closing the port would reset them.

    Then it accepts no more, and the port can be closed. asyncio gives a connection to its protocol a turn after it was
    accepted; where the port is closed between the two, it keeps the connection open and never answers.
    """
    await _turns(_ACCEPTING_TURNS)
    for opened in listening:
        with suppress(NotImplementedError):  # other loops than asyncio's accept and give in one
            asyncio.get_running_loop().remove_reader(opened)
    await _turns(_ACCEPTING_TURNS)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def drain(lives: Lives, server: web.Server, limit_s: float) -> None:
    """Return when all requests are answered; those that run for longer than ``limit_s`` are broken off.

    Requests that come meanwhile on connections that are open are answered too. Of a stream that is broken off the last
    frame is an error; whoever has no answer yet gets one that says that the hub is stopping.
    """
    await _finish(lives, server, limit_s)
    lives.serving.is_closed = True
    await _cut(lives)


async def _finish(lives: Lives, server: web.Server, limit_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while (left_s := deadline - loop.time()) > 0:
        if running := list(lives.running):
            await asyncio.wait(running, timeout=left_s)
            continue
        if not server.connections:
            return
        # A client that has just got an answer without "Connection: close" may be sending its next request.
        count = server.requests_count
        await asyncio.sleep(min(left_s, _QUIET_S))
        if server.requests_count == count and not lives.running:
            return


async def _cut(lives: Lives) -> None:
    running = lives.running
    for task, caller in running.items():
        caller.cut = HubStopping()
        task.cancel()
    if running:
        # A client that does not read keeps its last frame from leaving.
        await asyncio.wait(list(running), timeout=_LAST_WORDS_S)
