"""Clients that leave in each of the three windows: their place is free at once, and it is nobody's failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import attrs
import pytest

from agenthub.standin import Fault, Standin, running
from tests.faults.proxy import FaultProxy, proxied
from tests.faults.reading import PATHS, ask_for
from tests.faults.test_matrix import in_front
from tests.faults.traces import LIMIT_S, breaker_of, in_flight, tasks, until
from tests.hubs import RunningHub

AT_MOST_S = 1.0
TIMES = 10


@attrs.frozen
class Scene:
    """A hub with one place at its backend, and all there is behind it."""

    hub: RunningHub
    proxy: FaultProxy
    standin: Standin
    dialect: str

    def ask(self, *, streamed: bool = True) -> asyncio.Task[aiohttp.ClientResponse]:
        """Begin a request; its client leaves when the task is cancelled before there is an answer."""
        body = ask_for(self.dialect, "standin", "hi", streamed=streamed)
        return asyncio.ensure_future(self.hub.http.post(self.hub.url + PATHS[self.dialect], json=body).__aenter__())

    def outcomes(self) -> list[str]:
        return [line["outcome"] for line in self.hub.dispatches()]

    async def left(self, since: float) -> float:
        """Return how long after ``since`` the upstream was closed, when all is as it was before the client came."""
        await self.proxy.until_open(0, LIMIT_S)
        took_s = time.perf_counter() - since
        await until(lambda: in_flight(self.hub) == 0, lambda: in_flight(self.hub))
        return took_s


@asynccontextmanager
async def scene(lane: tuple[str, str]) -> AsyncIterator[Scene]:
    standin = Standin()
    async with (
        running(standin) as url,
        proxied(url) as proxy,
        in_front(proxy.url, lane[1], max_concurrency=1) as hub,
    ):
        await hub.get("/api/tags")
        yield Scene(hub, proxy, standin, lane[0])


async def leave(asking: asyncio.Task[aiohttp.ClientResponse]) -> None:
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


def check(found: Scene, took_s: list[float], figure: Callable[..., None], name: str) -> None:
    """All were abandoned, none counted, and the upstream was free within a second each time."""
    assert found.outcomes() == ["abandoned"] * len(took_s)
    assert found.standin.abandoned.count == len(took_s)
    assert (breaker_of(found.hub).failures, breaker_of(found.hub).state) == (0, "closed")
    assert max(took_s) < AT_MOST_S
    figure(name, upstream_closed_after_s=took_s)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_before_the_first_event(lane: tuple[str, str], streamed: bool, figure: Callable[..., None]) -> None:
    """The upstream keeps silent, and the client goes."""
    async with scene(lane) as found:
        took_s, before = [], tasks()
        for _ in range(TIMES):
            found.standin.script(Fault.hang())
            received = found.standin.received.count
            asking = found.ask(streamed=streamed)
            await found.standin.received.reach(received + 1, LIMIT_S)
            assert found.proxy.open == 1
            since = time.perf_counter()
            await leave(asking)
            took_s.append(await found.left(since))
        await found.standin.abandoned.reach(TIMES, LIMIT_S)
        await until(lambda: tasks() <= before, lambda: tasks() - before)
        check(found, took_s, figure, "left before the first event")


async def test_in_the_middle_of_a_stream(lane: tuple[str, str], figure: Callable[..., None]) -> None:
    """The upstream talks without end, and the client goes."""
    async with scene(lane) as found:
        found.standin.endless, found.standin.pace_s = True, 0.01
        took_s, before = [], tasks()
        for _ in range(TIMES):
            response = await found.ask()
            await response.content.readany()
            assert found.proxy.open == 1
            since = time.perf_counter()
            response.close()
            took_s.append(await found.left(since))
        await found.standin.abandoned.reach(TIMES, LIMIT_S)
        await until(lambda: tasks() <= before, lambda: tasks() - before)
        check(found, took_s, figure, "left in mid-stream")


async def test_in_the_queue(lane: tuple[str, str]) -> None:
    """Who leaves the line is asked of nobody, and takes no place; who has the place goes on."""
    async with scene(lane) as found:
        found.standin.endless, found.standin.pace_s = True, 0.01
        slots = found.hub.hub.router.backends["ollama"].slots
        first = await found.ask()
        await first.content.readany()
        received, open_before = found.standin.received.count, found.proxy.open
        for number in range(1, TIMES + 1):
            waiting = found.ask()
            await until(lambda: slots.waiting == 1, lambda: slots)
            await leave(waiting)
            await until(lambda: slots.waiting == 0, lambda: slots)
            await until(lambda number=number: len(found.outcomes()) == number, found.outcomes)  # type: ignore[misc]
        assert (slots.in_flight, found.proxy.open) == (1, open_before)
        assert await first.content.readany()
        assert found.standin.received.count == received
        assert found.outcomes() == ["abandoned"] * TIMES
        first.close()
        await found.left(time.perf_counter())
        assert breaker_of(found.hub).failures == 0
        assert found.outcomes() == ["abandoned"] * (TIMES + 1)
