"""The hub without its HTTP server, for commands that ask the backends something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agenthub.api.hub import Hub
from agenthub.app import build_hub
from agenthub.opening import open_adapters
from agenthub.plugins import make_plugins
from agenthub.settings import Settings


@asynccontextmanager
async def open_hub(settings: Settings) -> AsyncIterator[Hub]:
    """Yield the hub with every adapter of every backend open; raises ConfigError and PluginError."""
    hub = build_hub(settings, make_plugins(settings.plugins))
    async with open_adapters(hub.router):
        yield hub
