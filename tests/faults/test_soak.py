"""Minutes of load with random faults: nothing grows, and each request that was accepted has exactly one outcome.

FAULTS_SOAK_S says for how many seconds after the warm-up (60), FAULTS_SEED which faults and clients are drawn.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import cast

import attrs
import pytest

from tests.faults.load import GREEDY, Load, every, unaccounted, under_load
from tests.faults.programs import Program, hub_process, raise_limits, standin_process
from tests.faults.proxy import BlackHole, Cut, Delay, Drip, Fault, FaultProxy, Garbage, Reset, drawn, proxied
from tests.faults.traces import until

SOAK_S, SEED = float(os.environ.get("FAULTS_SOAK_S", "60")), int(os.environ.get("FAULTS_SEED", "1"))
CLIENTS, SHARE = 32, 0.15
LONGEST = 4000
WARM_UP_S, WARM_UP_REQUESTS = 20.0, 2000
"""The load lasts so long and asks so much before growth is judged: until then pools, caches and code are filled."""
KINDS = {
    "plain": 50,
    "asked_often": 12,
    "together": 4,
    "greedy": 6,
    "missing_model": 2,
    "leaves": 10,
    "leaves_early": 8,
    "never_reads": 2,
    "endless_body": 2,
    "unreadable": 3,
}
FAULTS: list[Callable[[random.Random], Fault]] = [
    lambda chance: Delay(chance.random() * 0.3, chance.randrange(LONGEST)),
    lambda chance: Drip(1 + chance.randrange(100), chance.random() * 0.005),
    lambda chance: Cut(chance.randrange(LONGEST)),
    lambda chance: Reset(chance.randrange(LONGEST)),
    lambda chance: Garbage(chance.randrange(LONGEST)),
    lambda chance: BlackHole(chance.randrange(LONGEST)),
]
SETTINGS = {
    "balancing__strategy": "least_busy",
    # Longer than pooled connections live: else checks keep some from before alive.
    "health__interval_s": 5,
    "health__models_refresh_s": 7,
    "health__ping_timeout_s": 1,
    "circuit_breaker__open_for_s": 0.5,
    "caching__max_bytes": 2**20,
    "max_body_bytes": 2**20,
    "sse_ping_s": 0.2,
    "drain_s": 5,
    f"clients__{GREEDY}__max_concurrency": 2,
}
BACKEND = {
    "max_concurrency": 12,
    "queue_size": 24,
    "queue_timeout_s": 2,
    "first_event_timeout_s": 1.5,
    "idle_timeout_s": 1.5,
}
CHECKING = 6
"""How many connections the checks of health may hold: two to each backend."""
PARTS = 8
MOST_GROWTH_MB = 16.0
"""What the memory of a hub may grow by in the soak, under half a KiB a request: its noise, and no more in an hour."""
MOST_STEPS_MB = 32.0
"""What the steps may come to in which an allocator takes memory for good, after the largest bursts that there are."""


@attrs.define
class Memory:
    """The hub's resident memory, looked at again and again."""

    hub: Program
    samples_mb: list[float] = attrs.field(factory=list)

    def look(self) -> None:
        self.samples_mb.append(self.hub.memory_mb())

    def parts_mb(self) -> list[float]:
        """Return the medians of equal parts of the time."""
        size = max(1, len(self.samples_mb) // PARTS)
        return [statistics.median(self.samples_mb[at * size : (at + 1) * size]) for at in range(PARTS)]

    def growth_mb(self) -> float:
        """Return the growth that a leak would be: most parts are above the one before; single steps do not count."""
        parts = self.parts_mb()
        return (PARTS - 1) * statistics.median(after - before for before, after in pairwise(parts))

    def steps_mb(self) -> float:
        """Return by how much the last part is above the first, whatever the way there."""
        parts = self.parts_mb()
        return parts[-1] - parts[0]


@asynccontextmanager
async def outages(proxy: FaultProxy) -> AsyncIterator[None]:
    """While the block runs, the backend behind the proxy goes away for a second now and then."""

    async def outage() -> None:
        await proxy.stop()
        try:
            await asyncio.sleep(1.0)
        finally:
            await proxy.start()

    going = asyncio.create_task(every(8.0, outage))
    try:
        yield
    finally:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)


@asynccontextmanager
async def set_up(directory: Path) -> AsyncIterator[tuple[Program, list[FaultProxy]]]:
    """A hub before two faulty ways to one stand-in, and before one that never ends its answers."""
    words = "x" * 8192
    async with (
        standin_process(directory, "--pace=0.002", "--burst=4") as upstream,
        standin_process(directory, "--pace=0", "--endless", f"--text={words}", "--model=endless") as endless,
        proxied(upstream.url) as one,
        proxied(upstream.url) as other,
    ):
        one.choose, other.choose = drawn(SEED, SHARE, FAULTS), drawn(SEED + 1, SHARE, FAULTS)
        urls = {"one": one.url, "other": other.url, "endless": endless.url}
        settings = {f"backends__{name}__{key}": value for name in urls for key, value in BACKEND.items()}
        settings |= {f"backends__{name}__url": url for name, url in urls.items()}
        async with hub_process(directory, **SETTINGS, **settings) as hub:
            yield hub, [one, other]


async def run(hub: Program, memory: Memory, proxy: FaultProxy) -> Load:
    """Run the clients for the warm-up and the length of the soak."""
    async with outages(proxy), under_load(hub.url, KINDS, CLIENTS, SEED) as load:
        await asyncio.sleep(WARM_UP_S)
        await until(lambda: len(load.seen) >= WARM_UP_REQUESTS, lambda: len(load.seen), 120)
        looking = asyncio.create_task(every(0.1, memory.look))
        try:
            await asyncio.sleep(SOAK_S)
        finally:
            looking.cancel()
        return load


@pytest.mark.timeout(SOAK_S + 300)
async def test_a_soak(tmp_path: Path, figure: Callable[..., None]) -> None:
    """Clients of every sort before backends that fail at random: one outcome each, and all is as before at the end."""
    raise_limits()
    async with set_up(tmp_path) as (hub, proxies):
        files, tasks, memory = hub.descriptors(), await hub.tasks(), Memory(hub)
        clients = await run(hub, memory, proxies[0])
        for proxy in proxies:
            proxy.choose = lambda: None
        # Pooled connections live a few seconds longer, and checks of health run on.
        await until(lambda: hub.descriptors() <= files + CHECKING, lambda: (hub.descriptors(), files))
        await until(lambda: sum(proxy.open for proxy in proxies) <= CHECKING, lambda: [proxy.open for proxy in proxies])
        async with asyncio.timeout(20):
            while (running := await hub.tasks()) > tasks:
                print(f"{running} tasks, {tasks} at the beginning")
    logged = hub.outcomes()
    assert not clients.strange, clients.strange[:5]
    assert not (wrong := unaccounted(clients.seen, logged)), (len(wrong), list(wrong.items())[:5])
    assert memory.growth_mb() < MOST_GROWTH_MB, memory.parts_mb()
    assert memory.steps_mb() < MOST_STEPS_MB, memory.parts_mb()
    assert not [line for line in hub.lines() if line["event"] == "agenthub.request_crashed"]
    figure(
        "soak",
        seconds=SOAK_S,
        requests=len(clients.seen),
        seen=dict(Counter(clients.seen.values())),
        logged=dict(sum(logged.values(), Counter())),
        faults=dict(proxies[0].struck + proxies[1].struck),
        memory_mb=statistics.median(memory.samples_mb),
        growth_mb=memory.growth_mb(),
        steps_mb=memory.steps_mb(),
    )


@pytest.mark.parametrize(
    ("samples_mb", "growth_mb"),
    [
        ([80.0] * 80, 0.0),
        ([80.0] * 30 + [91.0] * 50, 0.0),
        ([80.0 + 10 * (number % 5) for number in range(80)], 0.0),
        ([80.0 + 0.1 * number for number in range(80)], 7.0),
        ([80.0 + 0.1 * number + 5 * (number > 50) for number in range(80)], 7.0),
    ],
    ids=["even", "a step", "a saw", "a leak", "a leak and a step"],
)
def test_what_counts_as_growth(samples_mb: list[float], growth_mb: float) -> None:
    """A leak grows throughout; an allocator that takes more once, or gives back and takes again, is none."""
    memory = Memory(cast("Program", None), samples_mb)
    assert memory.growth_mb() == pytest.approx(growth_mb, abs=1.0)
