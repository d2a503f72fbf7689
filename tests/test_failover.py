"""Failing over: what moves to the next backend, what is asked again, and what is the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest

from agenthub.errors import UpstreamStatus
from agenthub.middleware.retry_after import retry_after_s
from agenthub.settings import BackendSettings, HealthSettings, RetrySettings, Secret
from agenthub.standin import Fault, Standin, running
from tests.hubs import RunningHub, error_of, running_hub
from tests.upstreams import PATHS

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "standin", "messages": MESSAGES, "stream": False}
QUIET = HealthSettings(models_refresh_s=0, interval_s=0)


@asynccontextmanager
async def two(adapter: str = "native", **settings: Any) -> AsyncIterator[tuple[RunningHub, Standin, Standin]]:
    """A hub with the backends ``first`` and ``second``, which have the same model."""
    first, second = Standin(text="from the first"), Standin(text="from the second")
    async with running(first) as one, running(second) as other:
        backends = {
            "first": BackendSettings(url=one, api_mode=adapter),
            "second": BackendSettings(url=other, api_mode=adapter),
        }
        async with running_hub(backends, **{"health": QUIET} | settings) as hub:
            await hub.get("/api/tags")
            yield hub, first, second


def asked(standin: Standin) -> int:
    """Return how often the model was asked something."""
    return len([received for received in standin.requests if "chat" in received.path])


MOVING = {
    "500": Fault.answer(500, "the runner died"),
    "503": Fault.answer(503),
    "429": Fault.answer(429, "slow down"),
    "404": Fault.answer(404, "model 'standin' not found"),
    "reset": Fault.reset(),
    "garbage": Fault.garbage(),
    "cut before the first event": Fault.truncate(after=0),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", MOVING.values(), ids=MOVING)
async def test_a_failure_before_the_first_event_moves_on(lane: tuple[str, str], fault: Fault, streamed: bool) -> None:
    """The client sees the other backend's answer, and its name; the log has one line, and one for the move."""
    async with two(lane[1]) as (hub, first, second):
        first.script(fault)
        answer = await hub.post(PATHS[lane[0]], {**CHAT, "stream": streamed})
        assert (answer.status, answer.headers["X-AgentHub-Backend"]) == (200, "second")
        assert "second" in answer.text
        assert (asked(first), asked(second)) == (1, 1)
        assert [(line["outcome"], line["backend"]) for line in hub.dispatches()] == [("ok", "second")]
        moved = [line for line in hub.lines if line["event"] == "agenthub.request_moved"]
        assert [(line["backend"], line["to"]) for line in moved] == [("first", "second")]
        assert [backend.slots.in_flight for backend in hub.hub.router.backends.values()] == [0, 0]


async def test_a_backend_that_is_gone_is_left_alone_by_its_breaker(lane: tuple[str, str]) -> None:
    """Its failures count for it alone; from the third on it is passed over without being asked."""
    async with two(lane[1]) as (hub, first, second):
        first.script(*[Fault.answer(500)] * 9)
        for _ in range(5):
            assert (await hub.post(PATHS[lane[0]], CHAT)).status == 200
        assert (asked(first), asked(second)) == (3, 5)
        assert {line["outcome"] for line in hub.dispatches()} == {"ok"}


async def test_after_the_first_event_nothing_moves(lane: tuple[str, str]) -> None:
    """The client has a part of the answer: it gets an error behind it, and no second answer."""
    async with two(lane[1]) as (hub, first, second):
        first.script(Fault.reset(after=2))
        answer = await hub.post(PATHS[lane[0]], {**CHAT, "stream": True})
        assert "error" in answer.text
        assert "second" not in answer.text
        assert (asked(first), asked(second)) == (1, 0)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_clients_mistake_is_the_answer(status: int) -> None:
    """It would be the same everywhere."""
    async with two() as (hub, first, second):
        first.script(Fault.answer(status, "no"))
        assert (await hub.post("/api/chat", CHAT)).status == status
        assert asked(second) == 0


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("key", ["", "sk-of-the-hub"])
async def test_a_key_of_the_hub_that_is_refused(lane: tuple[str, str], status: int, key: str) -> None:
    """Another backend answers; alone it is a 502 that names the backend and the setting, not a client's 401."""
    standin = Standin()
    async with two(lane[1]) as (hub, first, second):
        first.script(Fault.answer(status, "bad key"))
        assert (await hub.post(PATHS[lane[0]], CHAT)).status == 200
        assert (asked(first), asked(second)) == (1, 1)
    async with running(standin) as upstream:
        backends = {"a": BackendSettings(url=upstream, api_key=Secret(key))}
        async with running_hub(backends, health=QUIET, api_mode=lane[1]) as hub:
            standin.script(Fault.answer(status, f"bad key {key}"))
            answer = await hub.post(PATHS[lane[0]], CHAT)
    assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
    words = "refused the hub's API key" if key else "wants an API key of the hub, which has none"
    text = error_of(answer.json())
    assert text.startswith(f"backend a {words} ({status}): bad key")
    assert text.endswith("set backends.a.api_key")
    assert not key or key not in text


async def test_a_key_of_the_client_that_is_refused() -> None:
    """Where the client's own Authorization is passed on, the refusal is the client's."""
    standin = Standin()
    async with running(standin) as upstream:
        backends = {"a": BackendSettings(url=upstream, forward_authorization=True)}
        async with running_hub(backends, health=QUIET) as hub:
            standin.script(Fault.answer(401, "bad key"), Fault.answer(401, "bad key"))
            assert (await hub.post("/api/chat", CHAT, Authorization="Bearer mine")).status == 401
            assert (await hub.post("/api/chat", CHAT)).status == 502


async def test_all_fail(lane: tuple[str, str]) -> None:
    """The last failure is the answer, and the SDKs are told not to ask again at once."""
    async with two(lane[1]) as (hub, first, second):
        first.script(Fault.answer(500, "the first broke"))
        second.script(Fault.answer(500, "the second broke"))
        answer = await hub.post(PATHS[lane[0]], CHAT)
        assert (answer.status, answer.headers["x-should-retry"]) == (500, "false")
        assert "the second broke" in answer.text
        assert [(line["outcome"], line["backend"]) for line in hub.dispatches()] == [("failed", "second")]


async def test_attempts_are_bounded() -> None:
    """A third backend is not asked with two attempts; with one, there is no second."""
    for attempts, count in ((1, 1), (2, 2), (3, 3)):
        standins = [Standin() for _ in range(4)]
        async with running(standins[0]) as a, running(standins[1]) as b, running(standins[2]) as c:
            backends = {name: BackendSettings(url=url) for name, url in zip("abc", (a, b, c), strict=True)}
            async with running_hub(backends, health=QUIET, retries=RetrySettings(attempts=attempts)) as hub:
                for standin in standins:
                    standin.script(Fault.answer(500).at("/api/chat"))
                assert (await hub.post("/api/chat", CHAT)).status == 500
                assert [asked(standin) for standin in standins] == [1] * count + [0] * (4 - count)


async def test_a_busy_backend_without_another_is_asked_again() -> None:
    """After Retry-After where it says so, else after a moment; a 500 is not."""
    standin = Standin()
    async with running(standin) as upstream, running_hub(upstream, health=QUIET) as hub:
        for fault in (
            Fault.answer(503),
            Fault.answer(429, "slow down", headers={"Retry-After": "0"}),
            Fault.answer(503, headers={"retry-after-ms": "20"}),
        ):
            standin.script(fault)
            assert (await hub.post("/api/chat", CHAT)).status == 200
        assert asked(standin) == 6
        standin.script(Fault.answer(500))
        assert (await hub.post("/api/chat", CHAT)).status == 500
        assert asked(standin) == 7


async def test_a_wait_beyond_the_budget_is_not_waited() -> None:
    """The client gets the refusal and its Retry-After at once."""
    standin = Standin()
    async with running(standin) as upstream, running_hub(upstream, health=QUIET) as hub:
        standin.script(Fault.answer(503, headers={"Retry-After": "60"}))
        answer = await asyncio.wait_for(hub.post("/api/chat", CHAT), 5)
        assert (answer.status, answer.headers["Retry-After"], asked(standin)) == (503, "60", 1)


async def test_a_backend_that_asks_for_rest_gets_it() -> None:
    """For as long as its Retry-After says, others are asked first."""
    clock_now = [1000.0]
    async with two(clock=lambda: clock_now[0]) as (hub, first, second):
        first.script(Fault.answer(429, "slow down", headers={"Retry-After": "30"}))
        for _ in range(3):
            assert (await hub.post("/api/chat", CHAT)).headers["X-AgentHub-Backend"] == "second"
        assert (asked(first), asked(second)) == (1, 3)
        clock_now[0] += 30
        assert (await hub.post("/api/chat", CHAT)).headers["X-AgentHub-Backend"] == "first"


async def test_a_full_backend_is_passed_over() -> None:
    """Where another has a free place, nobody waits in line."""
    first, second = Standin(), Standin()
    async with running(first) as one, running(second) as other:
        backends = {"first": BackendSettings(url=one, max_concurrency=1), "second": BackendSettings(url=other)}
        async with running_hub(backends, health=QUIET) as hub:
            await hub.get("/api/tags")
            slots = hub.hub.router.backends["first"].slots
            assert slots.take()
            assert (await hub.post("/api/chat", CHAT)).headers["X-AgentHub-Backend"] == "second"
            slots.give_back()
            assert (await hub.post("/api/chat", CHAT)).headers["X-AgentHub-Backend"] == "first"


async def test_what_the_next_backend_cannot_carry_goes_to_no_other() -> None:
    """A strict client's field that the next adapter would drop: the first failure is the answer."""
    first, second = Standin(), Standin()
    async with running(first) as one, running(second) as other:
        backends = {
            "first": BackendSettings(url=one, api_mode="native"),
            "second": BackendSettings(url=other, api_mode="openai"),
        }
        async with running_hub(backends, health=QUIET) as hub:
            await hub.get("/api/tags")
            for strict, status in (("true", 500), ("false", 200)):
                first.script(Fault.answer(500, "the first broke"))
                body = {**CHAT, "options": {"num_ctx": 4096}}
                answer = await hub.post("/api/chat", body, X_AgentHub_Strict=strict)
                assert answer.status == status, answer.text
            assert answer.headers["X-AgentHub-Dropped"] == "options.num_ctx"
            assert answer.headers["X-AgentHub-Api-Mode"] == "openai"


async def test_managing_models_is_asked_once() -> None:
    """A delete or a copy may have been done before the connection broke; show may be asked elsewhere."""
    async with two() as (hub, first, second):
        for standin in (first, second):
            standin.script(Fault.answer(503).at("/api/copy"), Fault.answer(503).at("/api/show"))
        assert (await hub.post("/api/copy", {"source": "standin", "destination": "other"})).status == 503
        second.faults.clear()
        assert (await hub.post("/api/show", {"model": "standin"})).status == 200
        assert [received.path for received in second.requests if "tags" not in received.path] == ["/api/show"]


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (503, {"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        (503, {"Retry-After": formatdate(0, usegmt=True)}, 0.0),
        (503, {}, None),
        (503, {"Retry-After": "soon"}, None),
        (503, {"Retry-After": "-3"}, None),
        (500, {"Retry-After": "7"}, None),
    ],
)
def test_retry_after(status: int, headers: dict[str, str], wait_s: float | None) -> None:
    """Seconds, milliseconds or a date, of the statuses that mean later; what is none of these is not waited for."""
    assert retry_after_s(UpstreamStatus(status, "no", headers=headers)) == wait_s
