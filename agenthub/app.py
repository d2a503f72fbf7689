"""Composition root: from settings to an application that can be served."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from functools import partial

from aiohttp import web

from agenthub.api import add_routes
from agenthub.api.access import check_exposure
from agenthub.api.hub import SERVING, Hub, Serving
from agenthub.balancing import Balancer
from agenthub.dispatch import Dispatcher
from agenthub.errors import ConfigError
from agenthub.kept import Kept
from agenthub.lives import LIVES, Lives
from agenthub.middleware import Backend, Middleware, MiddlewareContext
from agenthub.middleware.limiting import check_limits
from agenthub.middleware.slots import Slots
from agenthub.modes import AUTO
from agenthub.opening import OWN_ADAPTERS
from agenthub.plugins import Plugins, install_command, make_plugins
from agenthub.routing import Router
from agenthub.settings import Settings
from agenthub.settings.sources import dotted
from agenthub.shared import make_shared


def make_app(
    settings: Settings, *, plugins: Plugins | None = None, clock: Callable[[], float] = time.monotonic
) -> web.Application:
    """Return the application; raises ConfigError or PluginError. ``clock`` is monotonic time in seconds.

    Serve it with ``handler_cancellation=True``, so that a client that leaves stops its request.
    """
    app = web.Application(client_max_size=settings.max_body_bytes)
    app[SERVING] = Serving(make_hub(settings, plugins or make_plugins(settings.plugins), clock))
    app[LIVES] = Lives(app[SERVING])
    add_routes(app)
    app.cleanup_ctx.append(_open)
    return app


def make_hub(
    settings: Settings, plugins: Plugins, clock: Callable[[], float] = time.monotonic, kept: Kept | None = None
) -> Hub:
    """Return a hub to be served, not yet open; raises ConfigError. ``kept`` is what the hub before it hands on."""
    check_exposure(settings)
    return build_hub(settings, plugins, clock, kept)


def build_hub(
    settings: Settings, plugins: Plugins, clock: Callable[[], float] = time.monotonic, kept: Kept | None = None
) -> Hub:
    """Return the hub, not yet open, for this process alone; raises ConfigError."""
    check_modes(settings, plugins)
    check_limits(settings)
    kept = kept or Kept()
    caching = settings.caching
    shared = kept.keep("shared", (caching.backend, caching.url), partial(make_shared, caching))
    context = MiddlewareContext(settings, clock, plugins.notify, kept, shared)
    middleware = make_middleware(settings, plugins, context)
    router = Router(settings, make_backends(settings, plugins, kept))
    dispatcher = Dispatcher(router, plugins, Balancer(settings.balancing, clock), middleware)
    return Hub(settings, plugins, router, dispatcher, kept, shared)


def make_backends(settings: Settings, plugins: Plugins, kept: Kept) -> dict[str, Backend]:
    """Return each backend with an adapter of every kind, none of them open."""
    return {
        name: Backend(
            name,
            backend,
            {kind: found.make(name, backend) for kind, found in plugins.adapters.items()},
            kept.keep(f"slots of {name}", backend.url, partial(Slots, name, backend)),
        )
        for name, backend in settings.backends.items()
    }


def make_middleware(settings: Settings, plugins: Plugins, context: MiddlewareContext) -> list[Middleware]:
    """Return the middleware in the order of the setting; raises ConfigError for one that no plugin brings."""
    known = ", ".join(plugins.middleware)
    for name in settings.middleware:
        if name not in plugins.middleware:
            source = settings.sources.get("middleware", "default")
            raise ConfigError(f"{source}: middleware: {name!r} is not brought by any plugin: use some of {known}")
    made = [plugins.middleware[name].make(context) for name in settings.middleware]
    return [layer for layer in made if layer is not None]


def check_modes(settings: Settings, plugins: Plugins) -> None:
    """Raise ConfigError for an api mode that no installed adapter has."""
    if not plugins.adapters:
        raise ConfigError(f"no adapter is installed: {' or '.join(map(install_command, OWN_ADAPTERS))}")
    wishes = {"api_mode": settings.api_mode}
    for table in ("backends", "models", "clients"):
        for name, entry in getattr(settings, table).items():
            wishes[dotted((table, name, "api_mode"))] = entry.api_mode
    for key, mode in wishes.items():
        if mode and mode != AUTO and mode not in plugins.adapters:
            known = ", ".join((*plugins.adapters, AUTO))
            remedy = f", or {install_command(mode)}" if mode in OWN_ADAPTERS else ""
            source = settings.sources.get(key, "default")
            raise ConfigError(f"{source}: {key}: {mode!r} is no installed adapter: use one of {known}{remedy}")


async def _open(app: web.Application) -> AsyncIterator[None]:
    await app[LIVES].open()
    yield
    await app[LIVES].close()
