"""What a request leaves behind: nothing that only the garbage collector could find, whose runs everybody would feel."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agenthub.enhancement.rules import Rule, Rules
from agenthub.middleware import Caller, Dispatch
from agenthub.settings import EnhancementSettings
from agenthub.standin import Standin, running
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


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_enhanced_request_too(stream: bool) -> None:
    """Neither of its two dispatches, nor one at /hub/enhance."""
    rules = EnhancementSettings(rules=Rules(Rule(model="standin")))
    async with running(Standin(text="A better prompt.")) as upstream, running_hub(upstream, enhancement=rules) as hub:

        async def ask_all() -> None:
            await ask(hub, "/api/chat", {"X-Enhance": "true"}, stream=stream)
            await ask(hub, "/hub/enhance", stream=stream, prompt="hi", bypass_cache=True)

        await ask_all()
        with no_collection():
            await ask_all()
            await until(lambda: len(hub.dispatches()) == 6 * MANY)
            assert not unreachable(Dispatch, Caller)
