"""A thousand slow streams at once through one hub: none lost, none mixed, in order, and within bounds of memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import attrs
import pytest

from tests.faults.programs import Program, hub_process, many_connections, raise_limits, standin_process
from tests.faults.reading import PATHS, Got, ask_for, understand
from tests.faults.traces import until
from tests.hubs import LANES

STREAMS, WORDS, PACE_S = 1000, 24, 0.5
MOST_MB = 250
LIMIT_S = 150


@attrs.define
class Crowd:
    """How many streams have begun and not ended, now and at the most."""

    open: int = 0
    peak: int = 0

    def change(self, by: int) -> None:
        self.open += by
        self.peak = max(self.peak, self.open)


def prompt_of(number: int) -> str:
    """Return words that no other stream has, in an order that can be told."""
    return " ".join(f"s{number}w{word}" for word in range(WORDS))


def expected(number: int) -> Got:
    return Got(200, f"You said: {prompt_of(number)}. ☕ This is the stand-in, not a model.", "whole")


async def stream(http: aiohttp.ClientSession, url: str, number: int, crowd: Crowd) -> Got:
    """Ask for one stream and read it as it comes."""
    dialect, adapter = LANES[number % len(LANES)]
    body = ask_for(dialect, "standin", prompt_of(number), streamed=True)
    headers = {"X-Request-Id": f"stream-{number}", "X-AgentHub-Api-Mode": adapter}
    async with http.post(url + PATHS[dialect], json=body, headers=headers) as response:
        data = await response.content.readany()
        crowd.change(1)
        try:
            while more := await response.content.readany():
                data += more
        finally:
            crowd.change(-1)
        return understand(response.status, response.content_type, data.decode(), dialect)


async def run(hub: Program, crowd: Crowd) -> list[Got]:
    """Run all streams at the same time."""
    async with many_connections() as http, asyncio.timeout(LIMIT_S):
        return await asyncio.gather(*(stream(http, hub.url, number, crowd) for number in range(STREAMS)))


@pytest.mark.timeout(LIMIT_S + 60)
async def test_a_thousand_streams(tmp_path: Path, figure: Callable[..., None]) -> None:
    """Each client has its own words in their order, all at once in all four lanes, under 250 MB."""
    if raise_limits() < 2 * STREAMS + 200:
        pytest.skip("the system lets a process hold too few files (ulimit -n)")
    async with (
        standin_process(tmp_path, f"--pace={PACE_S}") as upstream,
        hub_process(tmp_path, backends__ollama__url=upstream.url) as hub,
    ):
        idle_mb, files, tasks, crowd = hub.memory_mb(), hub.descriptors(), await hub.tasks(), Crowd()
        began = time.perf_counter()
        got = await run(hub, crowd)
        took_s, peak_mb = time.perf_counter() - began, hub.memory_mb("VmHWM")
        await until(lambda: hub.descriptors() <= files, hub.descriptors)
        assert await hub.tasks() <= tasks
    wrong = [number for number in range(STREAMS) if got[number] != expected(number)]
    assert wrong == [], got[wrong[0]]
    assert hub.outcomes() == {f"stream-{number}": {"ok": 1} for number in range(STREAMS)}
    assert crowd.peak == STREAMS
    assert peak_mb < MOST_MB
    figure("a thousand streams", peak_mb=peak_mb, idle_mb=idle_mb, took_s=took_s)
