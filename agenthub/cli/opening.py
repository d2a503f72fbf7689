"""The hub without its HTTP server, for commands that ask the backends something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from agenthub.api.hub import Hub
from agenthub.app import build_hub
from agenthub.plugins import make_plugins
from agenthub.settings import Settings


@asynccontextmanager
async def open_hub(settings: Settings) -> AsyncIterator[Hub]:
    """Yield the hub with every adapter of every backend open; raises ConfigError and PluginError."""
    hub = build_hub(settings, make_plugins(settings.plugins))
    async with AsyncExitStack() as stack:
        for backend in hub.router.backends.values():
            for adapter in backend.adapters.values():
                await stack.enter_async_context(adapter)
        yield hub
