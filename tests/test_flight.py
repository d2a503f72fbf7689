"""Single flight: who shares an upstream's answer, what each gets of it, and when the upstream is let go."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from agenthub.canonical import Batch
from agenthub.middleware import Dispatch, Handler, MiddlewareType
from agenthub.middleware.cache_store import BoundedMemoryCache
from agenthub.middleware.circuit_breaker import Breaker, CircuitBreaker
from agenthub.middleware.flight import AHEAD_BYTES
from agenthub.plugins import make_plugins
from agenthub.settings import BackendSettings, CachingSettings, CircuitBreakerSettings, Settings
from tests.hubs import ONCE, Answered, RunningHub, error_of, running_hub
from tests.sharing import BODIES, PATHS, PATIENCE_S, ask, asking, caching_of, until
from tests.tap import Call, Tap, tapped
from tests.upstreams import chunk


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """After each test no task runs that did not run before."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not [task for task in left if "fixture" not in repr(task)], left


@pytest.fixture
async def tap() -> AsyncIterator[Tap]:
    async with tapped() as running:
        yield running


def breaker_of(hub: RunningHub) -> Breaker:
    return next(layer for layer in hub.hub.dispatcher.middleware if isinstance(layer, CircuitBreaker)).breaker("ollama")


def readers(hub: RunningHub) -> int:
    """How many read flights now."""
    return sum(len(flight.readers) for flight in caching_of(hub).flights)


def text_of(answered: Answered, dialect: str) -> str:
    """The text of a whole answer."""
    body = answered.json()
    return str(body["message"]["content"] if dialect == "ollama" else body["choices"][0]["message"]["content"])


@asynccontextmanager
async def reading_nothing(hub: RunningHub) -> AsyncIterator[asyncio.StreamReader]:
    """Ask by hand for a stream, of which nothing is read before the test does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(hub.url.rpartition(":")[2]))
    body = json.dumps(BODIES["ollama"]).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        yield reader
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def fill(call: Call) -> None:
    """Let the upstream say as much as it is let: until none of it leaves any more."""
    written = -1
    while call.written_bytes != written:
        written = call.written_bytes
        call.say(*["x" * 50_000] * 20)
        for _ in range(20):
            await asyncio.sleep(0.005)
            if call.is_idle:
                break


async def cancelled(task: asyncio.Task[Answered]) -> None:
    """Leave in the middle of an answer."""
    task.cancel()
    await asyncio.wait([task])


class Gated(BoundedMemoryCache):
    """A cache that is slow to store: ``reached`` says that it was told to, ``gate`` lets it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reached, self.gate = asyncio.Event(), asyncio.Event()

    async def set(self, *args: Any, **kwargs: Any) -> Any:
        self.reached.set()
        await self.gate.wait()
        return await super().set(*args, **kwargs)


async def outcomes(hub: RunningHub, count: int) -> list[tuple[str, str]]:
    """The cache's part and the outcome of each dispatch, as soon as there are so many."""
    await until(lambda: len(hub.dispatches()) >= count)
    return [(line["cache"], line["outcome"]) for line in hub.dispatches()]


# --- who shares -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joiner", ["ollama", "openai"])
async def test_a_late_comer_gets_it_from_the_start_then_live(tap: Tap, lane: tuple[str, str], joiner: str) -> None:
    """In each lane, and across dialects: one request upstream, each client served in its own shape, at its own id."""
    leader, adapter = lane
    async with running_hub(tap.url, api_mode=adapter) as hub, asking(hub, leader) as first:
        call = await tap.call()
        call.say("a", "b")
        await first.until("ab")
        async with asking(hub, joiner) as second:
            await second.until("ab")
            call.say("c")
            await first.until("abc")
            await second.until("abc")
            call.finish()
            assert [await first.rest(), await second.rest()] == ["abc", "abc"]
            assert [first.cache, second.cache] == ["miss", "shared"]
            assert first.is_finished
            assert second.is_finished
            assert [first.headers[name] for name in ("X-AgentHub-Backend", "X-AgentHub-Api-Mode")] == [
                "ollama",
                adapter,
            ]
            assert second.headers["X-AgentHub-Backend"] == "ollama"
            assert second.headers["X-AgentHub-Api-Mode"] == adapter
        assert await outcomes(hub, 2) == [("miss", "ok"), ("shared", "shared")]
        assert len(tap.calls) == 1
        assert (await hub.post(PATHS[joiner], BODIES[joiner])).headers["X-AgentHub-Cache"] == "hit"


async def test_each_has_ids_and_times_of_its_own(tap: Tap) -> None:
    """The leader has the upstream's, byte for byte; one who joins never has those of another client's answer."""
    async with running_hub(tap.url, api_mode="openai") as hub, asking(hub, "openai") as first:
        call = await tap.call()
        call.say("a")
        await first.until("a")
        async with asking(hub, "openai") as second, asking(hub, "openai") as third, asking(hub, "ollama") as fourth:
            for client in (second, third, fourth):
                await client.until("a")
            call.finish()
            for client in (first, second, third, fourth):
                assert await client.rest() == "a"
    ids = [
        {frame["id"] for frame in client.frames if isinstance(frame, dict) and "id" in frame}
        for client in (first, second, third)
    ]
    assert ids[0] == {"c1"}
    assert [len(found) for found in ids] == [1, 1, 1]
    assert len(set.union(*ids)) == 3
    assert {frame["created"] for frame in first.frames if isinstance(frame, dict) and "id" in frame} == {1}
    assert all(frame["created"] > 1 for frame in second.frames if isinstance(frame, dict))
    assert all(frame["created_at"] > "2026-01-02" for frame in fourth.frames)


async def test_fifty_clients_are_one_request(tap: Tap) -> None:
    """Whoever comes while it is under way shares it, before its first event and after, streamed and whole."""
    async with running_hub(tap.url) as hub:
        early = [ask(hub, dialect) for dialect in ["ollama", "openai"] * 12]
        call = await tap.call()
        await until(lambda: readers(hub) == 24)
        texts = [f"word {number} " for number in range(100)]
        call.say(*texts[:60])
        late = [ask(hub, dialect) for dialect in ["ollama", "openai"] * 12]
        whole = [ask(hub, dialect, stream=False) for dialect in PATHS]
        await until(lambda: readers(hub) == 50)
        call.say(*texts[60:])
        call.finish()
        answers = await asyncio.gather(*early, *late, *whole)
        assert len(tap.calls) == 1
        for answer, dialect in zip(answers[-2:], PATHS, strict=True):
            assert text_of(answer, dialect) == "".join(texts)
        for answer in answers[:-2]:
            said = [word for frame in answer.frames() for word in re.findall(r"word \d+ ", json.dumps(frame))]
            assert said == texts
        assert sorted(outcome for _, outcome in await outcomes(hub, 50)) == ["ok"] + ["shared"] * 49


@pytest.mark.parametrize("directive", ["no-cache", "no-store"])
async def test_who_wants_an_answer_of_its_own_gets_one(tap: Tap, directive: str) -> None:
    """A request with Cache-Control neither joins nor is joined."""
    async with running_hub(tap.url) as hub, asking(hub, Cache_Control=directive) as alone:
        (await tap.call(1)).say("a")
        await alone.until("a")
        async with asking(hub) as leader:
            (await tap.call(2)).say("b")
            await leader.until("b")
            async with asking(hub, Cache_Control=directive) as other:
                (await tap.call(3)).say("c")
                await other.until("c")
                for call in tap.calls:
                    call.finish()
                assert [await client.rest() for client in (alone, leader, other)] == ["a", "b", "c"]
                assert [client.cache for client in (alone, leader, other)] == ["bypass", "miss", "bypass"]


async def test_what_is_not_cacheable_is_not_shared(tap: Tap) -> None:
    """Two clients that ask for a random answer get two."""
    async with running_hub(tap.url) as hub:
        asked = [ask(hub, options={"temperature": 1}) for _ in range(2)]
        await tap.call(2)
        for call, text in zip(tap.calls, "ab", strict=True):
            call.say(text)
            call.finish()
        answers = await asyncio.gather(*asked)
        assert {answer.frames()[0]["message"]["content"] for answer in answers} == {"a", "b"}
        assert [answer.headers["X-AgentHub-Cache"] for answer in answers] == ["bypass", "bypass"]


async def test_a_stream_does_not_wait_for_a_whole_answer(tap: Tap) -> None:
    """A whole answer under way serves those who want it whole; a stream is asked for anew, and serves both."""
    async with running_hub(tap.url) as hub:
        whole = ask(hub, stream=False)
        await tap.call(1)
        other = ask(hub, "openai", stream=False)
        await until(lambda: readers(hub) == 2)
        async with asking(hub) as client:
            (await tap.call(2)).say("live")
            await client.until("live")
            for call in tap.calls:
                call.say("!")
                call.finish()
            assert await client.rest() == "live!"
        answers = await asyncio.gather(whole, other)
        assert [text_of(*pair) for pair in zip(answers, PATHS, strict=True)] == ["!", "!"]
        assert [answer.headers["X-AgentHub-Cache"] for answer in answers] == ["miss", "shared"]


async def test_who_wants_counts_does_not_join_a_stream_without(tap: Tap) -> None:
    """An OpenAI stream without include_usage has no counts: it serves only such; one with counts serves both."""
    async with running_hub(tap.url, api_mode="openai") as hub:
        bare = ask(hub, "openai", stream_options=None)
        await tap.call(1)
        counted = ask(hub, "openai")
        await tap.call(2)
        joined = [ask(hub, "openai", stream_options=None), ask(hub, "ollama")]
        await until(lambda: readers(hub) == 4)
        for call in tap.calls:
            call.say("a")
            call.finish()
        answers = await asyncio.gather(bare, counted, *joined)
        assert [answer.headers["X-AgentHub-Cache"] for answer in answers] == ["miss", "miss", "shared", "shared"]
        assert answers[1].frames()[-2]["usage"]["completion_tokens"] == 2
        assert answers[3].frames()[-1]["eval_count"] == 2
        assert not any(frame.get("usage") for answer in (answers[0], answers[2]) for frame in answer.frames()[:-1])


async def test_each_adapter_has_flights_of_its_own(tap: Tap) -> None:
    """Who asks for another api mode, or is strict, is not served by a stream that was asked for otherwise."""
    async with running_hub(tap.url, api_mode="native") as hub:
        headers: list[dict[str, str]] = [{}, {"X_AgentHub_Api_Mode": "openai"}, {"X_AgentHub_Strict": "true"}]
        asked = [asyncio.create_task(hub.post("/api/chat", BODIES["ollama"], **one)) for one in headers]
        await tap.call(3)
        for call in tap.calls:
            call.say("a")
            call.finish()
        assert [answer.headers["X-AgentHub-Cache"] for answer in await asyncio.gather(*asked)] == ["miss"] * 3


async def test_embeddings_are_shared(tap: Tap) -> None:
    """Whatever can be kept can be shared."""
    async with running_hub(tap.url) as hub:
        body = {"model": "m", "input": "hi"}
        asked = [asyncio.create_task(hub.post(path, body)) for path in ("/api/embed", "/v1/embeddings")]
        call = await tap.call()
        await until(lambda: readers(hub) == 2)
        call.give({"model": "m", "embeddings": [[0.6, 0.8]], "prompt_eval_count": 1})
        answers = await asyncio.gather(*asked)
        assert answers[0].json()["embeddings"] == [[0.6, 0.8]]
        assert answers[1].json()["data"][0]["embedding"] == [0.6, 0.8]
        assert sorted(answer.headers["X-AgentHub-Cache"] for answer in answers) == ["miss", "shared"]


# --- who leaves -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["", "a"], ids=["before-the-first-event", "mid-stream"])
async def test_a_leader_who_leaves_stops_nothing(tap: Tap, lane: tuple[str, str], said: str) -> None:
    """Those who joined read on to the end, and the whole answer is kept."""
    dialect, adapter = lane
    async with running_hub(tap.url, api_mode=adapter) as hub, asking(hub, dialect) as first:
        call = await tap.call()
        async with asking(hub, "openai") as second:
            await until(lambda: readers(hub) == 2)
            if said:
                call.say(said)
                await first.until(said)
                await second.until(said)
            await first.leave()
            await until(lambda: readers(hub) == 1)
            call.say("b")
            call.finish()
            assert await second.rest() == f"{said}b"
            assert second.is_finished
        assert sorted(await outcomes(hub, 2)) == [("miss", "abandoned"), ("shared", "shared")]
        again = await hub.post(PATHS[dialect], BODIES[dialect] | {"stream": False})
        assert again.headers["X-AgentHub-Cache"] == "hit"
        assert text_of(again, dialect) == f"{said}b"
        assert len(tap.calls) == 1


@pytest.mark.parametrize("said", ["", "a"], ids=["before-the-first-event", "mid-stream"])
@pytest.mark.parametrize("joiners", [0, 1, 3])
async def test_the_last_who_leaves_stops_the_upstream(tap: Tap, lane: tuple[str, str], said: str, joiners: int) -> None:
    """Within a second; a half-open breaker gets a probe without a verdict back, and the next one asks anew."""
    dialect, adapter = lane
    settings = CircuitBreakerSettings(failure_threshold=1, half_open_probes=1)
    async with running_hub(tap.url, api_mode=adapter, circuit_breaker=settings) as hub:
        breaker = breaker_of(hub)
        breaker.state = "half_open"
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(asking(hub, dialect))]
            call = await tap.call()
            clients += [await stack.enter_async_context(asking(hub)) for _ in range(joiners)]
            await until(lambda: readers(hub) == 1 + joiners)
            if said:
                call.say(said)
            for client in clients:
                await client.until(said)
            for left, client in enumerate(clients, 1):
                # The first event has shown that the backend is up.
                assert (call.left.count, breaker.probes) == (0, 0 if said else 1)
                await client.leave()
                await until(lambda left=left: readers(hub) == 1 + joiners - left)
            await call.left.reach(1, timeout_s=1)
            await until(lambda: not caching_of(hub).flights)
            assert (breaker.state, breaker.probes) == ("closed" if said else "half_open", 0)
        assert sorted(await outcomes(hub, 1 + joiners)) == [("miss", "abandoned")] + [("shared", "abandoned")] * joiners
        async with asking(hub, dialect) as client:
            (await tap.call(2)).say("b")
            await client.until("b")
            assert client.cache == "miss"


async def test_who_leaves_while_the_answer_is_stored_takes_nothing_away(tap: Tap) -> None:
    """The end has come: it is kept, though nobody waits for it any more."""
    async with running_hub(tap.url) as hub, asking(hub) as client:
        store = caching_of(hub).store = Gated(max_bytes=10**6)
        call = await tap.call()
        call.say("a")
        await client.until("a")
        call.finish()
        await store.reached.wait()
        await client.leave()
        await until(lambda: readers(hub) == 0)
        store.gate.set()
        await until(lambda: not caching_of(hub).flights)
        assert await outcomes(hub, 1) == [("miss", "abandoned")]
        assert (await hub.post("/api/chat", BODIES["ollama"])).headers["X-AgentHub-Cache"] == "hit"


@pytest.mark.usefixtures("fast_clock")
async def test_a_hub_that_stops_leaves_nothing_behind(tap: Tap) -> None:
    """With clients in mid-stream and before it, and with an answer that is being stored for nobody."""
    async with running_hub(tap.url) as hub, asking(hub) as streaming:
        store = caching_of(hub).store = Gated(max_bytes=10**6)
        (await tap.call(1)).say("a")
        await streaming.until("a")
        waiting = ask(hub, options={"temperature": 0, "num_ctx": 1})
        await tap.call(2)
        keeping = ask(hub, options={"temperature": 0, "num_ctx": 2})
        (await tap.call(3)).say("b")
        (await tap.call(3)).finish()
        await store.reached.wait()
        await asyncio.gather(cancelled(keeping), cancelled(waiting))
    for call in tap.calls:
        await call.left.reach(1, timeout_s=1)


async def test_who_cannot_be_shown_an_answer_takes_it_from_nobody(tap: Tap) -> None:
    """Ollama's dialect has no place for a call whose arguments are no JSON; an OpenAI client gets it all the same."""
    async with running_hub(tap.url, api_mode="openai") as hub:
        first = ask(hub, "ollama")
        call = await tap.call()
        others = [ask(hub, "openai"), ask(hub, "ollama")]
        await until(lambda: readers(hub) == 3)
        call.say(chunk(tool_calls=[{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{not JSON"}}]))
        call.finish()
        answers = await asyncio.gather(first, *others)
        assert [list(answer.frames()[-1]) for answer in (answers[0], answers[2])] == [["error"], ["error"]]
        assert "{not JSON" in answers[1].text
        assert answers[1].frames()[-1] == "[DONE]"
        assert sorted(await outcomes(hub, 3)) == [("miss", "failed"), ("shared", "failed"), ("shared", "shared")]


# --- what fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "headers"), [(503, {}), (429, {"Retry-After": "7"}), (400, {}), (500, {})])
async def test_a_refusal_reaches_all_with_its_status(
    tap: Tap, lane: tuple[str, str], status: int, headers: dict[str, str]
) -> None:
    """Each in its dialect's shape, leader and joiners alike, whole and streamed; nothing is kept."""
    dialect, adapter = lane
    async with running_hub(tap.url, api_mode=adapter, retries=ONCE) as hub:
        asked = [ask(hub, dialect)]
        call = await tap.call()
        asked += [ask(hub, *one) for one in (("ollama",), ("openai",))] + [ask(hub, dialect, stream=False)]
        await until(lambda: readers(hub) == 4)
        call.refuse(status, "not today", **headers)
        answers = await asyncio.gather(*asked)
        assert [answer.status for answer in answers] == [status] * 4
        assert ["not today" in error_of(answer.json()) for answer in answers] == [True] * 4
        assert [answer.headers.get("Retry-After") for answer in answers] == [headers.get("Retry-After")] * 4
        name = "rejected" if status < 500 else "failed"
        assert sorted(await outcomes(hub, 4)) == [("miss", name), *[("shared", name)] * 3]
        assert breaker_of(hub).failures == (1 if status >= 500 else 0)
        again = ask(hub, dialect)
        (await tap.call(2)).finish()
        assert (await again).headers["X-AgentHub-Cache"] == "miss"


async def test_those_who_share_are_told_who_answered(tap: Tap) -> None:
    """Where the request moved to another backend before its first event, all of them read that one's answer."""
    async with tapped() as other:
        backends = {"one": BackendSettings(url=tap.url), "two": BackendSettings(url=other.url)}
        async with running_hub(backends) as hub:
            asked = [ask(hub), ask(hub, "openai")]
            call = await tap.call()
            await until(lambda: readers(hub) == 2)
            call.refuse(503)
            call = await other.call()
            call.say("a")
            call.finish()
            answers = await asyncio.gather(*asked)
            assert [answer.headers["X-AgentHub-Backend"] for answer in answers] == ["two", "two"]
            assert [answer.headers["X-AgentHub-Cache"] for answer in answers] == ["miss", "shared"]
            assert [line["backend"] for line in hub.dispatches()] == ["two", "two"]


async def test_a_break_reaches_all_behind_what_came(tap: Tap, lane: tuple[str, str]) -> None:
    """Each gets the text so far, then the error as its dialect frames it; a whole answer fails with its status."""
    dialect, adapter = lane
    async with running_hub(tap.url, api_mode=adapter) as hub, asking(hub, dialect) as first:
        call = await tap.call()
        whole = ask(hub, dialect, stream=False)
        await until(lambda: readers(hub) == 2)
        call.say("a", "b")
        await first.until("ab")
        async with asking(hub, "ollama") as second, asking(hub, "openai") as third:
            for client in (second, third):
                await client.until("ab")
            call.cut()
            for client in (first, second, third):
                assert await client.rest() == "ab"
                assert "broke off" in error_of(client.frames[-1])
        answer = await whole
        assert (answer.status, answer.headers.get("X-AgentHub-Cache")) == (502, None)
        assert breaker_of(hub).failures == 1
        assert sorted(await outcomes(hub, 4)) == [("miss", "failed"), *[("shared", "failed")] * 3]


async def test_a_bug_in_the_chain_is_an_internal_error_to_each(tap: Tap) -> None:
    """What nobody expected is logged for each request and told to none of them; no task is lost over it."""

    def broken(dispatch: Dispatch, handler: Handler) -> AsyncGenerator[Batch, None]:
        async def batches() -> AsyncGenerator[Batch, None]:
            await until(lambda: readers(hub) == 2)
            raise ZeroDivisionError("secret")
            yield ()

        return batches()

    plugins = make_plugins(Settings().plugins)
    plugins.middleware["broken"] = MiddlewareType("broken", lambda context: broken)
    order = ("logging", "caching", "broken")
    async with running_hub(tap.url, plugins=plugins, middleware=order) as hub:
        answers = await asyncio.gather(ask(hub), ask(hub, "openai"))
        assert [answer.status for answer in answers] == [500, 500]
        assert ["secret" in answer.text for answer in answers] == [False, False]
        crashed = [line for line in hub.lines if line["event"] == "agenthub.request_crashed"]
        assert [type(line["exc_info"]) for line in crashed] == [ZeroDivisionError] * 2
        assert sorted(await outcomes(hub, 2)) == [("miss", "failed"), ("shared", "failed")]


async def test_a_cache_that_fails_takes_no_answer_away(tap: Tap) -> None:
    """Those who share get it all the same; the log says once that it could not be kept."""

    class Broken(BoundedMemoryCache):
        async def set(self, *args: Any, **kwargs: Any) -> Any:
            raise ConnectionError("the cache is gone")

    async with running_hub(tap.url) as hub:
        caching_of(hub).store = Broken(max_bytes=1)
        asked = [ask(hub), ask(hub)]
        call = await tap.call()
        await until(lambda: readers(hub) == 2)
        call.say("a")
        call.finish()
        assert [answer.frames()[-1]["done"] for answer in await asyncio.gather(*asked)] == [True, True]
        failed = [line["operation"] for line in hub.lines if line["event"] == "agenthub.cache_failed"]
        assert failed == ["write"]


# --- bounds ---------------------------------------------------------------------------------------------------------


async def test_what_is_too_large_is_no_longer_joined_nor_kept(tap: Tap) -> None:
    """Beyond the bound nobody can get it from the start; those who read it read on."""
    async with running_hub(tap.url, caching=CachingSettings(max_bytes=10_000)) as hub, asking(hub) as first:
        call = await tap.call(1)
        call.say("a")
        await first.until("a")
        async with asking(hub) as second:
            await second.until("a")
            call.say("b" * 9_000)
            await first.until("a" + "b" * 9_000)
            (flight,) = caching_of(hub).flights
            assert (flight.is_joinable, flight.recording.batches) == (False, [])
            async with asking(hub) as third:
                (await tap.call(2)).say("c")
                await third.until("c")
                call.say("d")
                call.finish()
                assert await first.rest() == await second.rest() == "a" + "b" * 9_000 + "d"
                assert [client.cache for client in (first, second, third)] == ["miss", "shared", "miss"]
        assert not caching_of(hub).store._cache


async def test_answers_under_way_have_room_for_so_much_together(tap: Tap) -> None:
    """Where the room is used up one is neither joined nor kept, but read to its end; the room comes back in the end."""
    async with running_hub(tap.url, caching=CachingSettings(max_bytes=10_000)) as hub, asking(hub) as first:
        (await tap.call(1)).say("a" * 6_000)
        await first.until("a" * 6_000)
        other = ask(hub, messages=[{"role": "user", "content": "ho"}])
        call = await tap.call(2)
        call.say("b" * 6_000)
        call.finish()
        assert "b" * 6_000 in (await other).text
        tap.calls[0].finish()
        assert await first.rest() == "a" * 6_000
        await until(lambda: not caching_of(hub).flights)
        assert caching_of(hub).room.used_bytes == 0
        again = ask(hub, messages=[{"role": "user", "content": "ho"}])
        (await tap.call(3)).finish()
        assert (await again).headers["X-AgentHub-Cache"] == "miss"
        assert (await ask(hub)).headers["X-AgentHub-Cache"] == "hit"


async def test_a_lone_slow_client_slows_its_upstream(tap: Tap) -> None:
    """Nobody holds what it does not read but a few buffers, and it is never given up."""
    async with running_hub(tap.url) as hub, reading_nothing(hub) as reader:
        call = await tap.call()
        await fill(call)
        (flight,) = caching_of(hub).flights
        # And one batch more: all that aiohttp had read of the upstream's socket, beside its raw frames.
        assert flight.readers[0].pending_bytes < AHEAD_BYTES + 2 * 2**20
        assert readers(hub) == 1
        call.drop()
        call.finish()
        read = b""
        while not read.endswith(b"\r\n0\r\n\r\n"):
            read += (data := await asyncio.wait_for(reader.read(2**20), PATIENCE_S))
            assert data
        assert read.partition(b"\r\n\r\n")[2].count(b"x") == call.frames * 50_000
        assert await outcomes(hub, 1) == [("miss", "ok")]


async def test_a_slow_reader_holds_up_nobody_and_is_given_up_in_the_end(
    tap: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others read at their own pace; it gets the error in the place of what it missed, never a clean end."""
    monkeypatch.setattr("agenthub.middleware.flight.LAG_BYTES", 2**20)
    async with running_hub(tap.url) as hub, reading_nothing(hub) as slow:
        call = await tap.call()
        async with asking(hub, "openai") as fast:
            await until(lambda: readers(hub) == 2)
            call.say("a")
            count = 0
            while readers(hub) == 2:
                call.say("b" * 60_000)
                count += 1
                await fast.until("a" + count * 60_000 * "b")
                assert count < 1000
            call.say("c")
            call.finish()
            assert (await fast.rest()).endswith("bc")
            assert fast.is_finished
        data = await asyncio.wait_for(slow.read(), PATIENCE_S)
        frames = [line for line in data.split(b"\n") if line.startswith(b"{")]
        assert "behind" in error_of(json.loads(frames[-1]))
        assert sorted(await outcomes(hub, 2)) == [("miss", "failed"), ("shared", "shared")]
