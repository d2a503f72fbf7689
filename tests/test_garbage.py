"""What a request leaves behind: nothing that only the garbage collector could find, whose runs everybody would feel."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agenthub.middleware import Caller, Dispatch
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


async def ask(hub: RunningHub, path: str, **wishes: Any) -> None:
    for _ in range(MANY):
        async with hub.http.post(hub.url + path, json=CHAT | wishes) as response:
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
