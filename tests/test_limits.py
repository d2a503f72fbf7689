"""Limits of clients: how many requests a minute and at once, what a refusal looks like, and when places are free."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import ollama
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.app import make_app
from agenthub.canonical import Batch, ChatRequest, Finished, Started
from agenthub.errors import ConfigError
from agenthub.middleware import Caller, Dispatch, MiddlewareContext
from agenthub.middleware.limiting import make_limits, make_rate_headers
from agenthub.middleware.quotas import REFUSED, MemoryQuotas, Verdict
from agenthub.settings import BackendSettings, ClientSettings, Settings
from agenthub.standin import Fault, Standin, running
from tests.hubs import Clock, RunningHub, error_of, running_hub
from tests.upstreams import HI, PATHS, Reply, answering, serving

BODY: dict[str, Any] = {"model": "standin", "messages": HI, "stream": False}
COLD = BODY | {"options": {"temperature": 0}, "temperature": 0}
UPSTREAM = {"native": "/api/chat", "openai": "/v1/chat/completions"}
RATE = ("limit", "remaining", "reset")


@pytest.fixture
def clock() -> Clock:
    """The hub's clock: each of these tests has one hub, or hubs that share it."""
    return Clock(1_000_000.0)


def clients(**settings: int) -> dict[str, Any]:
    return {"clients": {"limited": ClientSettings(**settings), "free": ClientSettings()}}


@asynccontextmanager
async def limited(
    api_mode: str,
    *,
    middleware: tuple[str, ...] = Settings().middleware,
    clock: Callable[[], float] = time.monotonic,
    **limits: int,
) -> AsyncIterator[tuple[RunningHub, Standin]]:
    """A hub before a stand-in, with two clients: ``limited``, and ``free``, which is not."""
    settings = clients(**limits) | {"middleware": middleware, "api_mode": api_mode}
    async with running(standin := Standin()) as upstream, running_hub(upstream, clock=clock, **settings) as hub:
        yield hub, standin


def rate_of(answer: Any) -> dict[str, str]:
    """The headers that speak of a rate, or of when to come again."""
    names = ("ratelimit", "retry-after")
    return {
        name.lower(): value for name, value in answer.headers.items() if any(part in name.lower() for part in names)
    }


def told(dialect: str, *values: str) -> dict[str, str]:
    """The headers of a limited client."""
    name = "x-ratelimit-{}-requests" if dialect == "openai" else "ratelimit-{}"
    return {name.format(what): value for what, value in zip(RATE, values, strict=True)}


async def test_requests_a_minute(lane: tuple[str, str], clock: Clock) -> None:
    """Every answer tells the limit, in the dialect's headers; what is over it is 429 and goes nowhere."""
    unit = "s" if lane[0] == "openai" else ""
    minute = "1m0s" if lane[0] == "openai" else "60"
    async with limited(lane[1], requests_per_minute=2, clock=clock) as (hub, standin):

        async def ask(client: str) -> Any:
            return await hub.post(PATHS[lane[0]], BODY, X_Client_Name=client)

        first = await ask("limited")
        assert (first.status, rate_of(first)) == (200, told(lane[0], "2", "1", minute))
        clock.now += 20.5
        second = await ask("limited")
        assert (second.status, rate_of(second)) == (200, told(lane[0], "2", "0", f"40{unit}"))
        clock.now += 10
        third = await ask("limited")
        assert (third.status, rate_of(third)) == (429, told(lane[0], "2", "0", f"30{unit}") | {"retry-after": "30"})
        text = "client limited may send at most 2 requests a minute"
        assert error_of(third.json()) == text
        if lane[0] == "openai":
            kind = {"type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
            assert third.json() == {"error": {"message": text, **kind}}
        for other in ("free", "unknown", ""):
            answer = await ask(other)
            assert (answer.status, rate_of(answer)) == (200, {})
        assert [request.path for request in standin.requests].count(UPSTREAM[lane[1]]) == 2 + 3
        # The first request no longer counts, the second still does, the refused one never did.
        clock.now += 30
        assert (await ask("limited")).status == 200
        assert (await ask("limited")).status == 429
        lines = [line for line in hub.dispatches() if line["client"] == "limited"]
        assert [(line["outcome"], line["status"]) for line in lines] == [
            *[("ok", 200)] * 2,
            ("rejected", 429),
            ("ok", 200),
            ("rejected", 429),
        ]


async def test_streams_tell_the_limit_too(lane: tuple[str, str], clock: Clock) -> None:
    """In the headers before their first frame; a request for a stream that is refused is a plain 429."""
    async with limited(lane[1], requests_per_minute=1, clock=clock) as (hub, _):
        streamed = BODY | {"stream": True}
        first = await hub.post(PATHS[lane[0]], streamed, X_Client_Name="limited")
        minute = "1m0s" if lane[0] == "openai" else "60"
        assert rate_of(first) == told(lane[0], "1", "0", minute)
        assert first.frames()
        second = await hub.post(PATHS[lane[0]], streamed, X_Client_Name="limited")
        assert (second.status, second.headers["Content-Type"].split(";")[0]) == (429, "application/json")


async def test_what_the_sdks_see(clock: Clock) -> None:
    """Their own errors for it."""
    async with limited("native", requests_per_minute=1, clock=clock) as (hub, _):
        named = {"X-Client-Name": "limited"}
        await hub.post("/api/chat", BODY, X_Client_Name="limited")
        with pytest.raises(openai.RateLimitError) as refused:
            await hub.openai.chat.completions.create(model="standin", messages=HI, extra_headers=named)
        assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "60")
        client = ollama.AsyncClient(host=hub.url, headers=named)
        with pytest.raises(ollama.ResponseError, match="requests a minute") as said:
            await client.chat("standin", HI)
        await client._client.aclose()
        assert said.value.status_code == 429


async def test_all_dispatches_count(clock: Clock) -> None:
    """Those from the cache as well, and those that are refused for another reason; lists of models do not."""
    async with limited("native", requests_per_minute=4, clock=clock) as (hub, _):
        caches = []
        for body in (COLD, COLD, BODY | {"model": "no-such"}):
            answer = await hub.post("/api/chat", body, X_Client_Name="limited")
            caches.append((answer.headers.get("X-AgentHub-Cache"), rate_of(answer)["ratelimit-remaining"]))
        assert caches == [("miss", "3"), ("hit", "2"), (None, "1")]
        assert rate_of(await hub.get("/api/tags", X_Client_Name="limited")) == {}
        assert rate_of(await hub.post("/api/chat", COLD, X_Client_Name="limited"))["ratelimit-remaining"] == "0"


async def leave(hub: RunningHub, standin: Standin, response: Any) -> None:
    response.close()
    await standin.abandoned.reach(1)


async def read_out(hub: RunningHub, standin: Standin, response: Any) -> None:
    standin.endless = False
    await response.read()


async def break_off(hub: RunningHub, standin: Standin, response: Any) -> None:
    standin.stopping = True
    await response.read()
    standin.stopping = False


async def until_free(ask: Callable[[], Any]) -> Any:
    """The first answer that is no 429; what ends a request may need a few turns of the loop after its client knows."""
    async with asyncio.timeout(5):
        while (answer := await ask()).status == 429:
            pass
    return answer


@pytest.mark.usefixtures("fast_clock")
@pytest.mark.parametrize("end", [leave, break_off], ids=lambda end: end.__name__)
async def test_places_are_given_back(lane: tuple[str, str], end: Callable[..., Any]) -> None:
    """A request beyond the places is 429 at once; one that ends, however it does, makes room for the next."""
    async with limited(lane[1], max_concurrency=1) as (hub, standin):
        standin.endless, standin.pace_s = True, 0.005
        named = {"X-Client-Name": "limited"}
        streamed = BODY | {"stream": True}
        async with hub.http.post(hub.url + PATHS[lane[0]], json=streamed, headers=named) as response:
            await response.content.readany()
            standin.endless = False

            async def ask() -> Any:
                return await hub.post(PATHS[lane[0]], BODY, X_Client_Name="limited")

            refused = await ask()
            assert (refused.status, rate_of(refused)) == (429, {"retry-after": "1"})
            assert error_of(refused.json()) == "client limited may have at most 1 of its requests running"
            assert (await hub.post(PATHS[lane[0]], BODY, X_Client_Name="free")).status == 200
            await end(hub, standin, response)
        assert (await until_free(ask)).status == 200
        assert (await ask()).status == 200


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.answer(503), 503), (Fault.reset(), 502), (Fault.garbage(), 502), (Fault.truncate(1), 502)],
    ids=["status", "reset", "garbage", "truncated"],
)
async def test_a_failure_gives_its_place_back(lane: tuple[str, str], fault: Fault, status: int) -> None:
    """Before the first event and after it, whole and streamed; a refusal of the hub's own as well."""
    async with limited(lane[1], max_concurrency=1, middleware=("logging", "limits")) as (hub, standin):
        for stream in (False, True):
            standin.script(fault)
            failed = await hub.post(PATHS[lane[0]], BODY | {"stream": stream}, X_Client_Name="limited")
            assert failed.status in (status, 200)
            standin.faults.clear()
            unknown = BODY | {"model": "no-such"}
            assert (await hub.post(PATHS[lane[0]], unknown, X_Client_Name="limited")).status == 404
            assert (await hub.post(PATHS[lane[0]], BODY, X_Client_Name="limited")).status == 200


async def test_a_request_over_its_rate_gives_its_place_back(clock: Clock) -> None:
    """And one that finds no place uses up nothing of its minute."""
    async with limited("native", requests_per_minute=1, max_concurrency=1, clock=clock) as (hub, _):
        statuses = []
        for _ in range(3):
            statuses.append((await hub.post("/api/chat", BODY, X_Client_Name="limited")).status)
            clock.now += 25
        assert statuses == [200, 429, 429]
        clock.now += 10
        assert (await hub.post("/api/chat", BODY, X_Client_Name="limited")).status == 200


@pytest.mark.usefixtures("fast_clock")
@pytest.mark.parametrize("status", [200, 429])
async def test_the_hubs_limit_hides_the_upstreams(lane: tuple[str, str], clock: Clock, status: int) -> None:
    """Of two counts of requests a limited client sees the hub's, others the upstream's; tokens are the upstream's."""
    theirs = {"X-RateLimit-Limit-Requests": "99", "x-ratelimit-remaining-requests": "98"}
    tokens = {"x-ratelimit-remaining-tokens": "7"}
    good = answering()

    def reply(path: str, body: Any) -> Reply:
        answer = good(path, body) if status == 200 else Reply({"error": {"message": "slow down"}}, status=429)
        return Reply(answer.body, answer.frames, answer.status, theirs | tokens)

    settings = clients(requests_per_minute=5)
    async with serving(reply) as upstream, running_hub(upstream.url, api_mode=lane[1], clock=clock, **settings) as hub:
        body = {"model": "m", "messages": HI}
        for stream in (False, True):
            limited = await hub.post(PATHS[lane[0]], body | {"stream": stream}, X_Client_Name="limited")
            assert limited.status == status
            left = "3" if stream else "4"
            minute = "1m0s" if lane[0] == "openai" else "60"
            assert rate_of(limited) == told(lane[0], "5", left, minute) | tokens
            free = await hub.post(PATHS[lane[0]], body | {"stream": stream}, X_Client_Name="free")
            assert rate_of(free) == {name.lower(): value for name, value in (theirs | tokens).items()}


def test_resets_as_each_dialect_writes_them() -> None:
    """OpenAI's durations are those of Go, the draft's are whole seconds; what is begun counts as a whole second."""
    resets = {reset: make_rate_headers("openai", Verdict(True, 1, 0, reset)) for reset in (0.0, 0.2, 59.0, 59.1, 90)}
    assert [headers["x-ratelimit-reset-requests"] for headers in resets.values()] == [
        "0s",
        "1s",
        "59s",
        "1m0s",
        "1m30s",
    ]
    assert make_rate_headers("ollama", Verdict(True, 1, 0, 59.1))["RateLimit-Reset"] == "60"


@given(
    st.integers(1, 4),
    st.lists(st.floats(0, 40, allow_nan=False).map(lambda gap: round(gap, 1)), min_size=1, max_size=25),
)
def test_no_minute_holds_more_than_the_limit(limit: int, gaps: list[float]) -> None:
    """A request is refused just when the minute before it was full; reset_s is when its oldest request is out of it."""

    async def run() -> None:
        clock = Clock(1_000_000.0)
        quotas, passed = MemoryQuotas(clock), list[float]()
        for gap in gaps:
            clock.now += gap
            recent = [when for when in passed if clock.now - when < 60]
            on_the_edge = any(abs(clock.now - when - 60) < 1e-6 for when in passed)
            verdict = await quotas.hit("client", limit)
            if not on_the_edge:
                assert verdict.is_allowed is (len(recent) < limit)
            if verdict.is_allowed:
                passed.append(clock.now)
                recent.append(clock.now)
            if not on_the_edge:
                assert verdict.remaining == limit - len(recent)
                assert verdict.reset_s == pytest.approx(recent[0] + 60 - clock.now)
        quotas.close()

    asyncio.run(run())


@given(st.integers(1, 3), st.lists(st.tuples(st.booleans(), st.sampled_from("ab"))))
def test_places_are_counted_for_each_client(places: int, steps: list[tuple[bool, str]]) -> None:
    """As many are inside as entered and did not leave, and never more than there are places."""

    async def run() -> None:
        quotas, inside = MemoryQuotas(), Counter[str]()
        for enters, client in steps:
            if enters:
                ticket = await quotas.enter(client, places)
                assert (ticket != REFUSED) is (inside[client] < places)
                inside[client] += ticket != REFUSED
            elif inside[client]:
                quotas.leave(client, client)
                inside[client] -= 1

    asyncio.run(run())


@pytest.mark.parametrize("limit", ["requests_per_minute", "max_concurrency"])
def test_a_limit_that_nothing_holds_stops_the_start(limit: str) -> None:
    """A client has one, but "limits" is not in ``middleware``."""
    settings = Settings(
        backends={"ollama": BackendSettings(url="http://127.0.0.1:1")},
        middleware=("logging", "caching"),
        clients={"ci": ClientSettings(**{limit: 5})},
    )
    said = rf'^default: clients\.ci\.{limit}: no limit holds without "limits" in middleware: add it there$'
    with pytest.raises(ConfigError, match=said):
        make_app(settings)


async def test_without_a_limit_there_is_no_layer() -> None:
    """A client without one gets the very iterator of the handler; where no client has one there is no middleware."""

    async def answer(dispatch: Dispatch) -> AsyncGenerator[Batch, None]:
        yield (Started(), Finished())

    dispatch = Dispatch(ChatRequest(model="m"), Caller(client="free"), "m")
    made = answer(dispatch)
    limits = make_limits(MiddlewareContext(Settings(**clients(max_concurrency=1))))
    assert limits is not None
    assert limits(dispatch, lambda _: made) is made
    dispatch.caller.client = "limited"
    assert limits(dispatch, lambda _: made) is not made
    assert make_limits(MiddlewareContext(Settings())) is None


def test_the_library_is_loaded_for_limits_only() -> None:
    """A hub without any starts without it."""
    code = (
        "import sys; from agenthub.app import make_app; from agenthub.settings import *;"
        "make_app(Settings(backends={'o': BackendSettings(url='http://127.0.0.1:1')}));"
        "print('limits' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_cost_of_a_request_in_a_full_window() -> None:
    """Is that of one in an empty window, whatever the limit is."""
    quotas, calls = MemoryQuotas(Clock(0.0)), 0

    async def fill() -> None:
        for _ in range(100_000):
            await quotas.hit("client", 100_000)

    asyncio.run(fill())
    hit = quotas.hit("client", 200_000)

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with suppress(StopIteration):
            hit.send(None)
    finally:
        sys.setprofile(None)
    assert calls < 20
    assert asyncio.run(quotas.look("client", 200_000)).remaining == 99_999
