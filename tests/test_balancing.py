"""Balancing: which of several backends is asked first."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthub.balancing import Balancer
from agenthub.canonical import ChatRequest, EmbedRequest, GenerateRequest, Message, Request
from agenthub.middleware import Backend
from agenthub.settings import BackendSettings, BalancingSettings, HealthSettings
from agenthub.standin import Standin, running
from tests.hubs import running_hub

ROUNDS = 600


def make_backend(name: str, **settings: Any) -> Backend:
    return Backend(name, BackendSettings(url=f"http://{name}", **settings))


def make_balancer(strategy: str, *, prefer_loaded: bool = True, **more: Any) -> Balancer:
    return Balancer(BalancingSettings(strategy=strategy, prefer_loaded=prefer_loaded), **more)


def chat(*texts: str, model: str = "m", system: str = "") -> ChatRequest:
    """A conversation of turns, the user's first."""
    roles = cycle(("user", "assistant"))
    opening = (Message(role="system", content=system),) if system else ()
    turns = tuple(Message(role=role, content=text) for role, text in zip(roles, texts, strict=False))
    return ChatRequest(model=model, messages=opening + turns)


def names(balancer: Balancer, backends: list[Backend], request: Request | None = None, client: str = "") -> str:
    return "".join(backend.name for backend in balancer.order(backends, request or chat("hi"), client))


STRATEGIES = ["priority", "least_busy", "weighted", "sticky"]


def test_priority() -> None:
    """Higher first; of equals one that holds the model, then as they are configured."""
    backends = [make_backend("a"), make_backend("b", priority=5), make_backend("c"), make_backend("d", priority=5)]
    assert names(make_balancer("priority"), backends) == "bdac"
    backends[3].loaded = frozenset({"m"})
    backends[2].loaded = frozenset({"m"})
    assert names(make_balancer("priority"), backends) == "dbca"
    assert names(make_balancer("priority"), backends, chat("hi", model="M:latest")) == "dbca"
    assert names(make_balancer("priority"), backends, chat("hi", model="other")) == "bdac"
    assert names(make_balancer("priority", prefer_loaded=False), backends) == "bdac"


def test_least_busy() -> None:
    """Fewest running and waiting; equals take turns; a model that must be loaded first counts as two requests."""
    backends = [make_backend(name) for name in "abc"]
    balancer = make_balancer("least_busy")
    assert Counter(names(balancer, backends)[0] for _ in range(30)) == {"a": 10, "b": 10, "c": 10}
    for backend, count in zip(backends, (3, 1, 2), strict=True):
        backend.slots.in_flight = count
    assert names(balancer, backends) == "bca"
    backends[0].loaded = frozenset({"m"})
    assert names(balancer, backends)[:2] == "ba" or names(balancer, backends)[:2] == "ab"
    backends[0].slots.in_flight = 2
    assert names(balancer, backends) == "abc"


def test_weighted() -> None:
    """Each as often as its weight says; to hold the model counts four times."""
    backends = [make_backend("a"), make_backend("b", weight=3)]
    balancer = make_balancer("weighted", chance=Random(7).random)
    first = Counter(names(balancer, backends)[0] for _ in range(ROUNDS))
    assert 0.68 < first["b"] / ROUNDS < 0.82
    backends[0].loaded = frozenset({"m"})
    first = Counter(names(balancer, backends)[0] for _ in range(ROUNDS))
    assert 0.5 < first["a"] / ROUNDS < 0.64


@given(st.text(), st.text(), st.text(), st.lists(st.text(), max_size=4))
def test_a_conversation_stays(client: str, system: str, opening: str, more: list[str]) -> None:
    """Whatever is said later, each turn goes where the first went, and the order of the rest stays as well."""
    backends, balancer = [make_backend(name) for name in "abcd"], make_balancer("sticky")
    first = names(balancer, backends, chat(opening, system=system), client)
    assert names(balancer, backends, chat(opening, *more, system=system), client) == first
    backends[1].loaded = frozenset({"m"})
    assert names(balancer, backends, chat(opening, *more, system=system), client) == first
    # One that goes away moves only those that were there.
    home = next(backend for backend in backends if backend.name == first[0])
    home.is_up = False
    assert names(balancer, backends, chat(opening, system=system), client) == first[1:] + first[0]


def test_conversations_spread() -> None:
    """Other words, another client or another model may go elsewhere: each backend gets its share, by its weight."""
    backends, balancer = [make_backend("a"), make_backend("b", weight=3)], make_balancer("sticky")
    for ask in (
        lambda number: (chat(f"question {number}"), ""),
        lambda number: (chat("hi"), f"client {number}"),
        lambda number: (chat("hi", model=f"m{number}"), ""),
        lambda number: (GenerateRequest(model="m", prompt=f"question {number}"), ""),
        lambda number: (EmbedRequest(model="m", inputs=(f"text {number}",)), ""),
    ):
        first = Counter(names(balancer, backends, *ask(number))[0] for number in range(ROUNDS))
        assert 0.6 < first["b"] / ROUNDS < 0.9


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_dead_the_resting_and_the_full_come_last(strategy: str) -> None:
    """In any strategy, and whatever they hold; where all are, they are asked all the same."""
    now = 1000.0
    balancer = make_balancer(strategy, clock=lambda: now)
    dead, resting, full, good = (make_backend(name, priority=9, max_concurrency=1) for name in "drfg")
    dead.is_up, resting.rests_until, full.slots.in_flight = False, now + 1, 1
    for backend in (dead, resting, full):
        backend.loaded = frozenset({"m"})
    assert names(balancer, [dead, resting, full, good]) == "gfrd"
    now += 1
    assert names(balancer, [dead, resting, full])[-1] == "d"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("adapter", ["native", "openai"])
async def test_a_hub_balances(strategy: str, adapter: str) -> None:
    """Each strategy through a real hub: all answers are good, and each backend that should have a share has one."""
    standins = [Standin(), Standin()]
    async with running(standins[0]) as one, running(standins[1]) as other:
        backends = {name: BackendSettings(url=url, api_mode=adapter) for name, url in (("a", one), ("b", other))}
        async with running_hub(
            backends, balancing=BalancingSettings(strategy=strategy), health=HealthSettings(interval_s=0)
        ) as hub:
            await hub.get("/api/tags")
            used = Counter[str]()
            for number in range(40):
                body = {"model": "standin", "messages": [{"role": "user", "content": f"question {number}"}]}
                answer = await hub.post("/v1/chat/completions", body)
                assert answer.status == 200
                used[answer.headers["X-AgentHub-Backend"]] += 1
            assert set(used) == ({"a"} if strategy == "priority" else {"a", "b"})
