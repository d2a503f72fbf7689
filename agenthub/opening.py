"""Opens and closes a hub: its adapters, and what runs in the background as long as it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

import structlog

from agenthub.api.hub import Hub
from agenthub.health import Health
from agenthub.identities import identify
from agenthub.middleware import Backend
from agenthub.modes import AUTO
from agenthub.plugins import install_command
from agenthub.routing import Router

_log = structlog.get_logger("agenthub")
OWN_ADAPTERS = ("native", "openai")


@asynccontextmanager
async def open_hub(hub: Hub) -> AsyncIterator[None]:
    """Open the hub for the length of the block: its adapters, and what runs in its background.

    A process opens another one at each reload, while the one before still serves: both at once must be possible.
    """
    for kind in OWN_ADAPTERS:
        if kind not in hub.plugins.adapters:
            _log.warning("agenthub.adapter_missing", kind=kind, remedy=install_command(kind))
    async with hub.shared or nullcontext(), open_adapters(hub.router):
        await asyncio.gather(*(_announce(hub, backend) for backend in hub.router.backends.values()))
        background = [
            asyncio.create_task(_keep_fresh(hub.router, hub.settings.health.models_refresh_s)),
            asyncio.create_task(Health(hub.router).watch()),
        ]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await hub.router.close()
            hub.dispatcher.close()


@asynccontextmanager
async def open_adapters(router: Router) -> AsyncIterator[None]:
    """Open every adapter of every backend for the length of the block."""
    async with AsyncExitStack() as stack:
        for backend in router.backends.values():
            for adapter in backend.adapters.values():
                await stack.enter_async_context(adapter)
        yield


async def _announce(hub: Hub, backend: Backend) -> None:
    """Log through which API the backend is asked, and whether that is an Ollama's."""
    mode = hub.router.wished_mode(backend)
    title = "auto-detected Ollama API"
    if mode != AUTO:
        await identify(backend, mode)
        title = getattr(backend.adapters[mode], "title", hub.plugins.adapters[mode].title)
    _log.info(f"Using {title}", backend=backend.name, url=backend.settings.url, api_mode=mode)


async def _keep_fresh(router: Router, every_s: float) -> None:
    await router.refresh()
    while every_s:
        await asyncio.sleep(every_s)
        try:
            await router.refresh()
        except Exception:
            _log.exception("agenthub.refresh_failed")
