"""A hub on a real socket, for tests: against the stand-in or any other upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, cached_property
from typing import Any

import attrs
import ollama
import openai
import structlog
from aiohttp import ClientSession, web

from agenthub.api.hub import SERVING, Hub
from agenthub.api.listening import make_runner
from agenthub.app import make_app
from agenthub.hops import HUB_ID, make_hub_id
from agenthub.middleware.logging import Logging
from agenthub.plugins import Plugins, make_plugins
from agenthub.settings import BackendSettings, RetrySettings, Settings

LANES = [(dialect, adapter) for dialect in ("ollama", "openai") for adapter in ("native", "openai")]
"""Which dialect the client speaks, and through which adapter the hub asks."""

ONCE = RetrySettings(attempts=1)
"""For tests of failures: a request is sent once, so that the first failure is the answer."""

PATIENCE_S = 20.0
"""How long an SDK waits for an answer: less than a test may take, so that one that hangs says where."""


@attrs.define
class Clock:
    """Monotonic time that stands still until a test moves it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


installed_plugins = cache(make_plugins)
"""What is installed is looked for once: that takes longer than to make the rest of a hub."""


@attrs.define(slots=False, repr=False)
class RunningHub:
    """A hub that listens on ``url``, and plain HTTP calls to it."""

    url: str
    hub: Hub
    http: ClientSession
    logged: list[Mapping[str, Any]]
    stack: AsyncExitStack

    async def post(self, path: str, body: object, **headers: str) -> Answered:
        """Send ``body`` (bytes, or anything that is JSON); header names are written with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.http.post(self.url + path, headers=sent, **data) as response:  # type: ignore[arg-type]
            return Answered(response.status, response.headers, await response.read())

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answered:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, self.url + path, headers=sent) as response:
            return Answered(response.status, response.headers, await response.read())

    @cached_property
    def ollama(self) -> ollama.AsyncClient:
        client = ollama.AsyncClient(host=self.url, timeout=PATIENCE_S)
        self.stack.push_async_callback(client._client.aclose)
        return client

    @cached_property
    def openai(self) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)
        self.stack.push_async_callback(client.close)
        return client

    @property
    def lines(self) -> list[Mapping[str, Any]]:
        """The log so far, those lines included that are still to be written."""
        for layer in self.hub.dispatcher.middleware:
            if isinstance(layer, Logging):
                layer.close()
        return self.logged

    def dispatches(self) -> list[Mapping[str, Any]]:
        """Return the canonical lines of all dispatches that have ended."""
        return [line for line in self.lines if line["event"] == "agenthub.dispatch_finished"]


@attrs.define
class Answered:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def frames(self) -> list[Any]:
        """Return the JSON of each NDJSON line or SSE frame; ``[DONE]`` as text."""
        lines = [line.removeprefix("data: ") for line in self.text.splitlines() if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


def error_of(body: Any) -> str:
    """Return the text of an error in either dialect's shape."""
    error = body["error"]
    return error if isinstance(error, str) else error["message"]  # type: ignore[no-any-return]


@asynccontextmanager
async def running_hub(
    upstream: str | Mapping[str, BackendSettings],
    *,
    plugins: Plugins | None = None,
    clock: Callable[[], float] | None = None,
    **settings: Any,
) -> AsyncIterator[RunningHub]:
    """Serve a hub while the block runs; ``upstream`` is the URL of the backend ``ollama``, or all backends."""
    backends = {"ollama": BackendSettings(url=upstream)} if isinstance(upstream, str) else upstream
    configured = Settings(backends=backends, **settings)
    named = HUB_ID.set(make_hub_id())  # in one process, yet a hub of its own
    found = plugins or installed_plugins(configured.plugins)
    app = make_app(configured, plugins=found, **({"clock": clock} if clock is not None else {}))
    HUB_ID.reset(named)
    runner = make_runner(app, configured, shutdown_timeout_s=1)
    with structlog.testing.capture_logs() as lines:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with AsyncExitStack() as stack:
                yield RunningHub(url, app[SERVING].hub, await stack.enter_async_context(ClientSession()), lines, stack)
        finally:
            await runner.cleanup()


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return as soon as ``condition`` is true; TimeoutError after ``timeout_s`` seconds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.001)
