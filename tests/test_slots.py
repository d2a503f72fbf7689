"""Places at a backend: the line of requests that wait for one, by itself and in front of a hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.canonical import Batch, ChatRequest, Started
from agenthub.errors import BackendUnavailable
from agenthub.middleware import Backend, Caller, Dispatch
from agenthub.middleware.failover import Failover
from agenthub.middleware.slots import Slots
from agenthub.settings import BackendSettings, RetrySettings
from agenthub.standin import Fault, Standin, running
from tests.hubs import running_hub, until
from tests.upstreams import PATHS

PATHS_OF = {"native": "/api/chat", "openai": "/v1/chat/completions"}
CHAT: dict[str, Any] = {"model": "standin", "messages": [{"role": "user", "content": "hi"}], "stream": False}


def make_slots(**settings: Any) -> Slots:
    return Slots("b", BackendSettings(url="http://b", **settings))


def asked(standin: Standin) -> list[str]:
    """Return the paths that the upstream was asked for."""
    return [received.path for received in standin.requests]


async def turns(count: int = 5) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_comes_first_is_served_first() -> None:
    """A place that becomes free goes to the first in line, and nobody who comes then is before it."""
    slots, served = make_slots(max_concurrency=1), list[int]()

    async def ask(number: int) -> None:
        await slots.wait()
        served.append(number)

    assert slots.take()
    tasks = [asyncio.create_task(ask(number)) for number in range(3)]
    await turns()
    for _ in range(3):
        assert not slots.take()
        slots.give_back()
        await turns()
    assert (served, slots.in_flight, slots.waiting) == ([0, 1, 2], 1, 0)
    await asyncio.gather(*tasks)


async def test_a_full_line_refuses_and_a_long_wait_ends() -> None:
    """Both are BackendUnavailable, which is 503 with Retry-After, and leave nothing behind."""
    slots = make_slots(max_concurrency=1, queue_size=1, queue_timeout_s=0.01)
    assert slots.take()
    waiting = asyncio.create_task(slots.wait())
    await turns()
    with pytest.raises(BackendUnavailable, match="queue is full"):
        await slots.wait()
    with pytest.raises(BackendUnavailable, match=r"no place in 0.01 s"):
        await waiting
    assert (slots.in_flight, slots.waiting) == (1, 0)


async def test_who_leaves_the_line_in_the_moment_of_its_turn_passes_it_on() -> None:
    """A place is never lost between the one who gives it and the one who does not take it any more."""
    slots = make_slots(max_concurrency=1)
    assert slots.take()
    first, second = (asyncio.create_task(slots.wait()) for _ in range(2))
    await turns()
    slots.give_back()  # to the first, which has not run since
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert (slots.in_flight, slots.waiting) == (1, 0)
    # And one that was cancelled, but has not run since, is passed over.
    third = asyncio.create_task(slots.wait())
    await turns()
    third.cancel()
    slots.give_back()
    await asyncio.gather(first, third, return_exceptions=True)
    assert (slots.in_flight, slots.waiting) == (0, 0)


STEPS = st.lists(st.tuples(st.sampled_from(["come", "end", "leave", "turn", "limit"]), st.integers(0, 9)), max_size=40)


@given(STEPS, st.integers(1, 3))
def test_places_are_neither_lost_nor_made(steps: list[tuple[str, int]], most: int) -> None:
    """Whoever comes, ends and leaves in whatever order: no more than the limit run, and a free place has no line.

    A limit that is lowered ends nobody, but lets nobody begin; one that is raised lets those begin that wait.
    """

    async def play() -> None:
        limit = running_most = most
        slots = make_slots(max_concurrency=limit)
        asked: list[asyncio.Task[None]] = []
        held: list[asyncio.Task[None]] = []
        for step, number in steps:
            held += [task for task in asked if task.done() and not task.cancelled() and task not in held]
            match step:
                case "come":
                    asked.append(asyncio.create_task(slots.wait()))
                case "end" if held:
                    asked.remove(task := held.pop(number % len(held)))
                    slots.give_back()
                case "leave" if asked:
                    asked[number % len(asked)].cancel()
                case "turn":
                    await turns()
                case "limit":
                    limit = 1 + number % 4
                    slots.adapt(attrs.evolve(slots.settings, max_concurrency=limit))
            running_most = max(limit, min(running_most, slots.in_flight))
            assert 0 <= slots.in_flight <= running_most
        await turns()
        running_now = [task for task in asked if task.done() and not task.cancelled()]
        assert slots.in_flight == len(running_now)
        assert slots.waiting == len([task for task in asked if not task.done()])
        assert slots.waiting == 0 or slots.in_flight >= limit
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(play())


async def test_a_backend_is_asked_by_no_more_than_its_limit(lane: tuple[str, str]) -> None:
    """The rest wait and are answered all the same; the upstream never sees more at once."""
    standin = Standin(pace_s=0.002)
    async with running(standin) as upstream:
        backends = {"one": BackendSettings(url=upstream, api_mode=lane[1], max_concurrency=2)}
        async with running_hub(backends) as hub:
            seen = list[int]()

            async def ask(number: int) -> int:
                answer = await hub.post(PATHS[lane[0]], {**CHAT, "stream": number % 2 == 0})
                seen.append(hub.hub.router.backends["one"].slots.in_flight)
                return answer.status

            assert await asyncio.gather(*(ask(number) for number in range(12))) == [200] * 12
            assert max(seen) <= 2
            assert hub.hub.router.backends["one"].slots.in_flight == 0


async def test_beyond_the_line_it_is_503(lane: tuple[str, str]) -> None:
    """With Retry-After, and a word to the SDKs not to ask twice more at once; the breaker is not told."""
    standin = Standin()
    async with running(standin) as upstream:
        backends = {"one": BackendSettings(url=upstream, api_mode=lane[1], max_concurrency=1, queue_size=0)}
        async with running_hub(backends) as hub:
            standin.script(Fault.hang())
            busy = asyncio.create_task(hub.post(PATHS[lane[0]], CHAT))
            await until(lambda: PATHS_OF[lane[1]] in asked(standin))
            for _ in range(4):
                answer = await hub.post(PATHS[lane[0]], CHAT)
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
                assert answer.headers["x-should-retry"] == "false"
                assert "backend one is busy: its queue is full" in answer.text
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
            await standin.abandoned.reach(1, timeout_s=10.0)
            assert (await hub.post(PATHS[lane[0]], CHAT)).status == 200
            assert [line["outcome"] for line in hub.dispatches()] == ["failed"] * 4 + ["abandoned", "ok"]


async def test_a_client_that_leaves_the_line_is_abandoned() -> None:
    """It frees its place in the line, the upstream never hears of it, and the breaker is not told."""
    standin = Standin()
    async with running(standin) as upstream:
        backends = {"one": BackendSettings(url=upstream, max_concurrency=1)}
        async with running_hub(backends) as hub:
            slots = hub.hub.router.backends["one"].slots
            assert slots.take()
            waiting = asyncio.create_task(hub.post("/api/chat", CHAT))
            await until(lambda: slots.waiting)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await until(hub.dispatches)
            assert [(line["outcome"], line["status"]) for line in hub.dispatches()] == [("abandoned", None)]
            assert slots.waiting == 0
            slots.give_back()
            assert "/api/chat" not in asked(standin)
            assert (await hub.post("/api/chat", CHAT)).status == 200


async def test_to_show_a_model_needs_no_place() -> None:
    """Tools ask it before each chat; it does not stand in line behind long answers."""
    standin = Standin()
    async with running(standin) as upstream:
        backends = {"one": BackendSettings(url=upstream, max_concurrency=1, queue_size=0)}
        async with running_hub(backends) as hub:
            assert hub.hub.router.backends["one"].slots.take()
            assert (await hub.post("/api/chat", CHAT)).status == 503
            assert (await hub.post("/api/show", {"model": "standin"})).status == 200
            assert hub.hub.router.backends["one"].slots.in_flight == 1


async def test_a_place_comes_back_though_the_closing_fails() -> None:
    """A client that leaves may be cancelled a second time while its upstream is being closed."""

    async def answer(dispatch: Dispatch) -> AsyncGenerator[Batch, None]:
        try:
            yield (Started(),)
        finally:
            raise asyncio.CancelledError

    slots = make_slots(max_concurrency=1)
    dispatch = Dispatch(ChatRequest(model="m"), Caller(), "m", backend=Backend("b", slots.settings, {}, slots))
    batches = Failover(RetrySettings())(dispatch, answer)
    assert await anext(batches) == (Started(),)
    assert slots.in_flight == 1
    with pytest.raises(asyncio.CancelledError):
        await batches.aclose()
    assert slots.in_flight == 0
