"""Composition root: from settings to an application that can be served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress

import structlog
from aiohttp import web

from agenthub.api import add_routes
from agenthub.api.access import check_exposure
from agenthub.api.hub import SERVING, Hub, Serving
from agenthub.dispatch import Dispatcher
from agenthub.errors import ConfigError
from agenthub.middleware import Backend, Middleware, MiddlewareContext
from agenthub.plugins import Plugins, make_plugins
from agenthub.routing import Router
from agenthub.settings import Settings

_log = structlog.get_logger("agenthub")
OWN_ADAPTERS = ("native", "openai")


def make_app(
    settings: Settings, *, plugins: Plugins | None = None, clock: Callable[[], float] = time.monotonic
) -> web.Application:
    """Return the application; raises ConfigError or PluginError. ``clock`` is monotonic time in seconds.

    Serve it with ``handler_cancellation=True``, so that a client that leaves stops its request.
    """
    app = web.Application(client_max_size=settings.max_body_bytes)
    app[SERVING] = Serving(make_hub(settings, plugins or make_plugins(settings.plugins), clock))
    add_routes(app)
    app.cleanup_ctx.append(_open_backends)
    return app


def make_hub(settings: Settings, plugins: Plugins, clock: Callable[[], float] = time.monotonic) -> Hub:
    """Return a hub to be served, its backends not yet open; raises ConfigError."""
    check_exposure(settings)
    return build_hub(settings, plugins, clock)


def build_hub(settings: Settings, plugins: Plugins, clock: Callable[[], float] = time.monotonic) -> Hub:
    """Return the hub for use in this process alone; raises ConfigError."""
    check_modes(settings, plugins)
    context = MiddlewareContext(settings, clock, plugins.notify)
    middleware = make_middleware(settings, plugins, context)
    backends = {
        name: Backend(name, backend, {kind: found.make(name, backend) for kind, found in plugins.adapters.items()})
        for name, backend in settings.backends.items()
    }
    router = Router(settings, backends)
    dispatcher = Dispatcher(router, plugins, middleware)
    return Hub(settings, plugins, router, dispatcher)


def make_middleware(settings: Settings, plugins: Plugins, context: MiddlewareContext) -> list[Middleware]:
    """Return the middleware in the order of the setting; raises ConfigError for one that no plugin brings."""
    known = ", ".join(plugins.middleware)
    for name in settings.middleware:
        if name not in plugins.middleware:
            source = settings.sources.get("middleware", "default")
            raise ConfigError(f"{source}: middleware: {name!r} is not brought by any plugin: use some of {known}")
    return [plugins.middleware[name].make(context) for name in settings.middleware]


def check_modes(settings: Settings, plugins: Plugins) -> None:
    """Raise ConfigError for an api mode that no installed adapter has."""
    if not plugins.adapters:
        raise ConfigError("no adapter is installed: pip install agenthub-adapter-native agenthub-adapter-openai")
    wishes = {"api_mode": settings.api_mode}
    for table in ("backends", "models", "clients"):
        for name, entry in getattr(settings, table).items():
            wishes[f"{table}.{name}.api_mode"] = entry.api_mode
    for key, mode in wishes.items():
        if mode and mode not in plugins.adapters:
            known = ", ".join(plugins.adapters)
            remedy = f", or pip install agenthub-adapter-{mode}" if mode in OWN_ADAPTERS else ""
            source = settings.sources.get(key, "default")
            raise ConfigError(f"{source}: {key}: {mode!r} is no installed adapter: use one of {known}{remedy}")


async def _open_backends(app: web.Application) -> AsyncIterator[None]:
    hub = app[SERVING].hub
    for kind in OWN_ADAPTERS:
        if kind not in hub.plugins.adapters:
            _log.warning("agenthub.adapter_missing", kind=kind, remedy=f"pip install agenthub-adapter-{kind}")
    async with AsyncExitStack() as stack:
        for backend in hub.router.backends.values():
            for adapter in backend.adapters.values():
                await stack.enter_async_context(adapter)
            mode = hub.router.api_mode(backend)
            title = hub.plugins.adapters[mode].title
            _log.info(f"Using {title}", backend=backend.name, url=backend.settings.url, api_mode=mode)
        refreshing = asyncio.create_task(_keep_fresh(hub.router, hub.settings.health.models_refresh_s))
        yield
        refreshing.cancel()
        with suppress(asyncio.CancelledError):
            await refreshing
        await hub.router.close()
        hub.dispatcher.close()


async def _keep_fresh(router: Router, every_s: float) -> None:
    await router.refresh()
    while every_s:
        await asyncio.sleep(every_s)
        try:
            await router.refresh()
        except Exception:
            _log.exception("agenthub.refresh_failed")
