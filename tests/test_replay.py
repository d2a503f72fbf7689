"""What is replayed of a kept answer: the same words under new ids and times, at once or at the pace they came in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from agenthub.settings import CachingSettings
from tests.hubs import Answered, Clock, RunningHub, running_hub
from tests.sharing import BODIES, PATHS, ask, asking, caching_of, until
from tests.tap import Tap, tapped

RECORDED = CachingSettings(replay="recorded")


@pytest.fixture
async def tap() -> AsyncIterator[Tap]:
    async with tapped() as running:
        yield running


@attrs.define
class Sleep:
    """Lets the clock's time pass at once, and tells how often it was asked to and for how long."""

    clock: Clock
    slept_s: list[float] = attrs.field(factory=list)

    async def __call__(self, seconds: float) -> None:
        self.slept_s.append(round(seconds, 6))
        self.clock.now += seconds
        # Not so fast that two batches would be read as one.
        await asyncio.sleep(0.05)


async def record(hub: RunningHub, tap: Tap, clock: Clock, dialect: str = "ollama") -> None:
    """Have an answer kept that came as a, 1.5 s later as bc, 2 s later as d, with the end 0.25 s after it."""
    async with asking(hub, dialect) as client:
        call = await tap.call()
        for after_s, text in ((0, "a"), (1.5, "bc"), (2, "d")):
            clock.now += after_s
            call.say(text)
            await client.frame()
        clock.now += 0.25
        call.finish()
        await client.rest()
    await until(lambda: not caching_of(hub).flights)


def identity(answered: Answered, dialect: str) -> tuple[set[str], set[Any]]:
    """The ids and the times in an answer, streamed or whole."""
    text = answered.text
    times = re.findall(r'"created_at":\s*"([^"]+)"' if dialect == "ollama" else r'"created":\s*(\d+)', text)
    return set(re.findall(r'"id":\s*"([^"]+)"', text)), set(times)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_ids_and_times_are_fresh(tap: Tap, lane: tuple[str, str], stream: bool) -> None:
    """Each replay has an id and times of its own, those of the moment: none is the recorded answer's."""
    dialect, adapter = lane
    async with running_hub(tap.url, api_mode=adapter) as hub:
        first = ask(hub, dialect)
        call = await tap.call()
        call.say("a", "b")
        call.finish()
        seen = [identity(await first, dialect)]
        before = datetime.now(UTC)
        for _ in range(2):
            answer = await hub.post(PATHS[dialect], BODIES[dialect] | {"stream": stream})
            assert answer.headers["X-AgentHub-Cache"] == "hit"
            seen.append(identity(answer, dialect))
        ids, times = zip(*seen, strict=True)
        assert times[1]
        if dialect == "openai":
            assert [len(found) for found in ids] == [1, 1, 1]
            assert len(set.union(*ids)) == 3
            assert all(int(before.timestamp()) <= int(time) for found in times[1:] for time in found)
        else:
            assert not set.union(*ids[1:])
            assert all(before <= datetime.fromisoformat(time) for found in times[1:] for time in found)
            assert not times[1] & times[2]


@pytest.mark.parametrize("joiner", ["ollama", "openai"])
async def test_a_stream_is_replayed_at_its_recorded_pace(tap: Tap, lane: tuple[str, str], joiner: str) -> None:
    """In either dialect, batch by batch, whatever the dialect and adapter that it came through."""
    dialect, adapter = lane
    clock = Clock()
    async with running_hub(tap.url, api_mode=adapter, clock=clock, caching=RECORDED) as hub:
        await record(hub, tap, clock, dialect)
        sleep = caching_of(hub).sleep = Sleep(clock)
        async with asking(hub, joiner) as client:
            assert await client.rest() == "abcd"
            assert client.is_finished
            assert client.cache == "hit"
        assert sleep.slept_s == [1.5, 2, 0.25]
        assert [line["outcome"] for line in hub.dispatches()] == ["ok", "cached"]
        assert len(tap.calls) == 1


async def test_a_pace_that_is_lost_is_not_made_up_twice(tap: Tap) -> None:
    """Times count from the start of the replay: a client that is late gets what is due without a wait."""
    clock = Clock()
    async with running_hub(tap.url, clock=clock, caching=RECORDED) as hub:
        await record(hub, tap, clock)
        sleep = caching_of(hub).sleep = Late(clock)
        async with asking(hub) as client:
            assert await client.rest() == "abcd"
        assert sleep.slept_s == [1.5, 0.25]


class Late(Sleep):
    """Sleeps two seconds longer than it was asked to, once."""

    async def __call__(self, seconds: float) -> None:
        if not self.slept_s:
            self.clock.now += 2
        await super().__call__(seconds)


@pytest.mark.parametrize(("replay", "stream"), [("recorded", False), ("at_once", True)])
async def test_what_is_replayed_at_once(tap: Tap, replay: str, stream: bool) -> None:
    """Any whole answer, and a stream where nothing else was set."""
    clock = Clock()
    async with running_hub(tap.url, clock=clock, caching=CachingSettings(replay=replay)) as hub:
        await record(hub, tap, clock)
        sleep = caching_of(hub).sleep = Sleep(clock)
        for dialect in PATHS:
            answer = await hub.post(PATHS[dialect], BODIES[dialect] | {"stream": stream})
            assert (answer.headers["X-AgentHub-Cache"], answer.status) == ("hit", 200)
        assert sleep.slept_s == []


async def test_a_client_that_leaves_a_replay_ends_it(tap: Tap) -> None:
    """No task waits for the time of a batch that nobody reads."""
    clock = Clock()
    async with running_hub(tap.url, clock=clock, caching=RECORDED) as hub:
        await record(hub, tap, clock)
        before = asyncio.all_tasks()
        ended = asyncio.Event()

        async def forever(seconds: float) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        caching_of(hub).sleep = forever
        async with asking(hub) as client:
            await client.until("a")
        async with asyncio.timeout(5):
            await ended.wait()
        await until(lambda: len(hub.dispatches()) == 2)
        assert hub.dispatches()[-1]["outcome"] == "abandoned"
        assert not [task for task in asyncio.all_tasks() - before if "RequestHandler" not in repr(task)]
