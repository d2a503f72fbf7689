"""The hubs that other people's clients talk to: in a thread of its own, since most of these clients block."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Literal

import attrs
import pytest

from agenthub.standin import Standin, running
from tests.hubs import ONCE, RunningHub, running_hub
from tests.real import real_ollama_url

Upstream = Literal["standin", "endless", "real"]
AGENT = "standin-agent"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MODELS = {"tiny:latest", "tiny-loop:latest", "tiny-tools:latest", "tiny-think:latest", "tiny-embed:latest"}

SENTENCE = (
    "Hello there this is a tiny model that was made on one small machine to test gateways."
    " It speaks naïve café ☕ text and stops here!"
)


@attrs.define
class Serving:
    """A hub for each upstream and adapter; ``missing`` says why the real Ollama is not among the upstreams."""

    loop: asyncio.AbstractEventLoop
    standins: Mapping[str, Standin]
    missing: str = ""
    hubs: dict[tuple[str, str], RunningHub] = attrs.field(factory=dict)

    def url(self, upstream: Upstream, adapter: str) -> str:
        """Return a hub's URL; skips the test where that upstream is missing."""
        if upstream == "real" and self.missing:
            pytest.skip(self.missing)
        return self.hubs[upstream, adapter].url

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what ``work`` returns, done in the hubs' thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def crashes(self) -> list[Mapping[str, Any]]:
        """Return the log lines that tell of a bug of the hub's."""
        lines = [line for hub in self.hubs.values() for line in hub.logged]
        return [line for line in lines if line["log_level"] in ("error", "critical")]

    async def start(self, stack: AsyncExitStack) -> None:
        """Start every stand-in and hub; ``stack`` ends them."""
        urls = {name: await stack.enter_async_context(running(one)) for name, one in self.standins.items()}
        try:
            urls["real"] = real_ollama_url(MODELS)
        except LookupError as error:
            self.missing = str(error)
        for upstream, url in urls.items():
            for adapter in ("native", "openai"):
                hub = await stack.enter_async_context(running_hub(url, api_mode=adapter, retries=ONCE))
                self.hubs[upstream, adapter] = hub


current: Serving | None = None
"""What serves during the run: the standard suites take their settings from properties, which no fixture reaches."""


def serving() -> Serving:
    """Return what serves now."""
    assert current is not None
    return current


@contextmanager
def served() -> Iterator[Serving]:
    """Serve while the block runs."""
    global current
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="hubs", daemon=True)
    thread.start()
    standins = {
        "standin": Standin(models=(AGENT, "standin", "standin-embed")),
        "endless": Standin(models=(AGENT,), endless=True, pace_s=0.005),
    }
    current = Serving(loop, standins)
    stack = AsyncExitStack()
    try:
        current.wait(current.start(stack))
        yield current
    finally:
        current.wait(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        current = None
