"""Circuit breaking: the state machine by itself, and around real failures."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import pytest
from aiohttp import ClientError

from agenthub.errors import BackendUnavailable
from agenthub.middleware.circuit_breaker import Breaker, CircuitBreaker
from agenthub.settings import CircuitBreakerSettings
from agenthub.standin import Fault, Standin, running
from tests.hubs import LANES, ONCE, Clock, running_hub
from tests.ports import free_port

MESSAGES = [{"role": "user", "content": "hi"}]
PATHS = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}
BODY: dict[str, Any] = {"model": "standin", "messages": MESSAGES, "stream": False}


def make_breaker(**settings: Any) -> tuple[Breaker, Clock, list[tuple[str, str]]]:
    clock, changes = Clock(), list[tuple[str, str]]()
    breaker = Breaker("b", CircuitBreakerSettings(**settings), clock, lambda name, old, new: changes.append((old, new)))
    return breaker, clock, changes


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit())


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    """Three in a row by default."""
    breaker, _, changes = make_breaker()
    fail(breaker, 2)
    breaker.succeeded(breaker.admit())
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker, 1)
    assert changes == [("closed", "open")]
    with pytest.raises(BackendUnavailable) as refused:
        breaker.admit()
    assert refused.value.retry_after_s == 30


def test_a_probe_closes_or_reopens_it() -> None:
    """After open_for_s one probe passes; its verdict decides, and the wait begins anew when it fails."""
    breaker, clock, changes = make_breaker(open_for_s=10)
    fail(breaker, 3)
    clock.now += 10
    breaker.failed(breaker.admit())
    assert breaker.state == "open"
    clock.now += 9
    with pytest.raises(BackendUnavailable):
        breaker.admit()
    clock.now += 1
    breaker.succeeded(breaker.admit())
    assert changes[-2:] == [("open", "half_open"), ("half_open", "closed")]


def test_probes_are_bounded_and_given_back() -> None:
    """Only half_open_probes pass at a time; one that ends without a verdict makes room for the next."""
    breaker, clock, _ = make_breaker(half_open_probes=2)
    fail(breaker, 3)
    clock.now += 30
    first, _second = breaker.admit(), breaker.admit()
    with pytest.raises(BackendUnavailable):
        breaker.admit()
    breaker.released(first)
    breaker.succeeded(breaker.admit())
    assert breaker.state == "closed"


def test_late_verdicts_of_an_earlier_state_count_nothing() -> None:
    """A slow call from before the failure neither closes an open breaker nor opens a fresh one."""
    breaker, clock, _ = make_breaker()
    slow, slower = breaker.admit(), breaker.admit()
    fail(breaker, 3)
    breaker.succeeded(slow)
    assert breaker.state == "open"
    clock.now += 30
    breaker.admit()
    breaker.failed(slower)
    assert breaker.state == "half_open"


def test_reset_closes_it() -> None:
    """By hand, whatever it was."""
    breaker, _, _ = make_breaker()
    fail(breaker, 3)
    breaker.reset()
    breaker.succeeded(breaker.admit())
    assert breaker.state == "closed"


@pytest.mark.parametrize(("dialect", "adapter"), LANES)
async def test_an_upstream_that_is_gone(dialect: str, adapter: str) -> None:
    """Three calls fail in the dialect's shape, then the breaker answers; when the server is back, a probe closes it."""
    clock, standin = Clock(), Standin()
    port = free_port()
    upstream = f"http://127.0.0.1:{port}"
    async with running_hub(upstream, api_mode=adapter, clock=clock) as hub:
        answers = [await hub.post(PATHS[dialect], BODY) for _ in range(4)]
        assert [answer.status for answer in answers] == [502, 502, 502, 503]
        for answer in answers:
            error = answer.json()["error"]
            assert isinstance(error, str) if dialect == "ollama" else {"message", "type", "param", "code"} == set(error)
        assert answers[3].headers["Retry-After"] == "30"
        assert answers[3].headers["x-should-retry"] == "false"
        async with running(standin, port=port):
            assert (await hub.post(PATHS[dialect], BODY)).status == 503
            clock.now += 30
            assert (await hub.post(PATHS[dialect], BODY)).status == 200
        changes = [(line["old"], line["new"]) for line in hub.lines if line["event"] == "agenthub.breaker_changed"]
        assert changes == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


@pytest.mark.parametrize(
    ("fault", "counts"),
    [
        (Fault.answer(500, "runner crashed"), True),
        (Fault.answer(503), True),
        (Fault.reset(), True),
        (Fault.close(), True),
        (Fault.garbage(), True),
        (Fault.truncate(), True),
        (Fault.answer(400, "bad"), False),
        (Fault.answer(404, "no such model"), False),
        (Fault.answer(429, "slow down"), False),
        (Fault.answer(500, 'option "num_predict" must be of type integer'), False),
    ],
    ids=str,
)
async def test_what_counts_as_a_failure(fault: Fault, counts: bool) -> None:
    """The upstream's failures do; its refusals of a client's mistake do not."""
    standin = Standin()
    async with running(standin) as upstream, running_hub(upstream, retries=ONCE) as hub:
        for _ in range(3):
            standin.script(fault)
            assert (await hub.post("/api/chat", BODY)).status >= 400
        assert ((await hub.post("/api/chat", BODY)).status == 503) is counts


async def test_clients_that_leave_are_no_failure() -> None:
    """However many abandon their streams, the backend stays available."""
    standin = Standin(endless=True, pace_s=0.01)
    async with running(standin) as upstream, running_hub(upstream) as hub:
        for number in range(4):
            async with hub.http.post(hub.url + "/api/chat", json=BODY | {"stream": True}) as response:
                await response.content.readany()
                response.close()
            await standin.abandoned.reach(number + 1)
        standin.endless = False
        assert (await hub.post("/api/chat", BODY)).status == 200


def test_what_is_no_probe_passes_without_a_verdict() -> None:
    """An upload may take its time: it neither holds the place of a probe nor decides anything."""
    breaker, clock, changes = make_breaker(open_for_s=10)
    fail(breaker, 3)
    with pytest.raises(BackendUnavailable):
        breaker.admit(is_probe=False)
    clock.now += 10
    upload = breaker.admit(is_probe=False)
    probe = breaker.admit()
    breaker.failed(upload)
    assert breaker.state == "half_open"
    breaker.succeeded(probe)
    breaker.failed(upload)
    assert (breaker.state, breaker.failures) == ("closed", 0)
    assert changes == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


async def test_a_pull_that_answers_closes_it() -> None:
    """Others need not wait for the end of a pull, which may be hours away."""
    clock, standin = Clock(), Standin()
    async with running(standin) as upstream, running_hub(upstream, clock=clock) as hub:
        standin.script(*[Fault.answer(503) for _ in range(3)])
        for _ in range(3):
            assert (await hub.post("/api/chat", BODY)).status == 503
        clock.now += 30
        standin.script(attrs.evolve(Fault.stall(after=1), path="/api/pull"))
        async with hub.http.post(f"{hub.url}/api/pull", json={"model": "another"}) as pulling:
            await pulling.content.readline()
            assert (await hub.post("/api/chat", BODY)).status == 200
            pulling.close()


async def test_a_long_answer_that_begins_closes_it(lane: tuple[str, str]) -> None:
    """Others need not wait for the end of a chat; should it fail after all, that is one failure like any other."""
    dialect, adapter = lane
    clock, standin = Clock(), Standin()
    async with running(standin) as upstream, running_hub(upstream, api_mode=adapter, clock=clock) as hub:
        (breakers,) = [layer for layer in hub.hub.dispatcher.middleware if isinstance(layer, CircuitBreaker)]
        breaker = breakers.breaker("ollama")
        fail(breaker, 3)
        clock.now += 30
        standin.script(Fault.stall(after=2))
        async with hub.http.post(hub.url + PATHS[dialect], json=BODY | {"stream": True}) as probe:
            await probe.content.readany()
            assert (await hub.post(PATHS[dialect], BODY)).status == 200
            assert (breaker.state, breaker.failures) == ("closed", 0)
        await standin.abandoned.reach(1)
        fail(breaker, 3)
        clock.now += 30
        standin.script(Fault.reset(after=2))
        async with hub.http.post(hub.url + PATHS[dialect], json=BODY | {"stream": True}) as probe:
            with suppress(ClientError):
                await probe.read()
        assert (breaker.state, breaker.failures) == ("closed", 1)
