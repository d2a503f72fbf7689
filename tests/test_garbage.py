"""What a request leaves behind: nothing that only the garbage collector could find, whose runs everybody would feel."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agenthub.enhancement.rules import Rule, Rules
from agenthub.middleware import Caller, Dispatch
from agenthub.settings import CircuitBreakerSettings, EnhancementSettings
from agenthub.standin import Fault, Standin, running
from tests.hubs import RunningHub, running_hub, until

CHAT = {"model": "standin", "messages": [{"role": "user", "content": "Hello"}]}
MANY = 5


@contextmanager
def no_collection() -> Iterator[None]:
    """Let the collector run at no other time than when it is called."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def unreachable(*kinds: type) -> list[Any]:
    """Return the objects of these kinds that nothing refers to but what is garbage itself, and free them."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [found for found in gc.garbage if type(found) in kinds]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()


async def ask(hub: RunningHub, path: str, headers: Any = None, **wishes: Any) -> None:
    for _ in range(MANY):
        async with hub.http.post(hub.url + path, json=CHAT | wishes, headers=headers) as response:
            assert response.status == 200
            await response.read()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("wishes", [{}, {"temperature": 0, "options": {"temperature": 0}}], ids=["bypass", "hit"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_request_is_freed_as_soon_as_it_is_over(path: str, wishes: dict[str, Any], stream: bool) -> None:
    """Nothing of a dispatch stands in a circle of references."""
    async with running(Standin()) as upstream, running_hub(upstream) as hub:
        await ask(hub, path, stream=stream)
        with no_collection():
            if "options" in wishes and path == "/v1/chat/completions":
                wishes = {"temperature": 0}
            await ask(hub, path, stream=stream, **wishes)
            await until(lambda: len(hub.dispatches()) == 2 * MANY)
            assert not unreachable(Dispatch, Caller)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("status", [404, 500])
@pytest.mark.parametrize("wishes", [{}, {"temperature": 0, "seed": 1}], ids=["alone", "shared"])
async def test_so_is_one_that_fails(path: str, status: int, wishes: dict[str, Any]) -> None:
    """An error refers to the frames that it went through, so that none of these may keep it."""
    standin = Standin()
    breaker = CircuitBreakerSettings(failure_threshold=1000)
    async with running(standin) as upstream, running_hub(upstream, circuit_breaker=breaker) as hub:
        await ask(hub, path)
        with no_collection():
            for _ in range(MANY):
                standin.script(Fault.answer(status), Fault.answer(status))
                options = {"options": wishes} if path == "/api/chat" else wishes
                async with hub.http.post(hub.url + path, json=CHAT | options) as response:
                    assert response.status == status
                    await response.read()
            await until(lambda: len(hub.dispatches()) == 2 * MANY)
            assert not unreachable(Dispatch, Caller)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_so_is_one_that_is_refused(path: str) -> None:
    """By the hub itself, whose refusal the dispatch keeps."""
    async with running(Standin()) as upstream, running_hub(upstream) as hub:
        await ask(hub, path)
        with no_collection():
            for _ in range(MANY):
                wish = {"X-AgentHub-Api-Mode": "nope"}
                async with hub.http.post(hub.url + path, json=CHAT, headers=wish) as response:
                    assert response.status == 400
                    await response.read()
            await until(lambda: len(hub.dispatches()) == 2 * MANY)
            assert not unreachable(Dispatch, Caller)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_so_is_one_whose_client_leaves(path: str) -> None:
    """In the middle of its stream."""
    standin = Standin(endless=True, pace_s=0.001)
    async with running(standin) as upstream, running_hub(upstream) as hub:
        await hub.get("/api/tags")
        with no_collection():
            for number in range(MANY):
                async with hub.http.post(hub.url + path, json=CHAT | {"stream": True}) as response:
                    await response.content.readany()
                    response.close()
                await standin.abandoned.reach(number + 1)
            await until(lambda: len(hub.dispatches()) == MANY)
            assert not unreachable(Dispatch, Caller)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", ["standin", "nope"])
async def test_so_is_an_enhanced_one(stream: bool, model: str) -> None:
    """Both its dispatches, and one at /hub/enhance, whether the prompt is put better or not."""
    rules = EnhancementSettings(rules=Rules(Rule(model=model, fallback_models=("nope2",))))
    async with running(Standin(text="A better prompt.")) as upstream, running_hub(upstream, enhancement=rules) as hub:

        async def ask_all() -> None:
            await ask(hub, "/api/chat", {"X-Enhance": "true"}, stream=stream)
            await ask(hub, "/hub/enhance", stream=stream, prompt="hi", model=model, bypass_cache=True)

        await ask_all()
        with no_collection():
            await ask_all()
            # In line two models are asked in vain, and then the one that answers.
            each = 3 if model == "standin" else 4
            await until(lambda: len(hub.dispatches()) == 2 * each * MANY)
            assert not unreachable(Dispatch, Caller)
