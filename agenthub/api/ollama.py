"""``/`` and ``/api/*``: what Ollama's API offers beside asking a model something."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from agenthub.api.hops import tell_loops
from agenthub.api.hub import Hub, hub_of
from agenthub.api.listing import listed_models
from agenthub.api.responses import Response
from agenthub.canonical import JSON
from agenthub.dialects.ollama import fields, listing
from agenthub.errors import AgentHubError, UpstreamStatus
from agenthub.middleware import Backend, Caller
from agenthub.verbs import ask_verb, list_running

COMPATIBLE_VERSION = "0.9.3"
"""The version of Ollama that the hub claims to be where no upstream tells one; editors refuse a server without."""


async def root(http_request: web.Request, caller: Caller) -> Response:
    """Say what Ollama says; clients and health checks look for these words."""
    return Response(text="Ollama is running")


async def version(http_request: web.Request, caller: Caller) -> Response:
    """Answer with the version of the default backend, or of the first that tells one, best one that is up.

    Another hub, whose health check this may be, is told of a loop.
    """
    hub = hub_of(http_request)
    loop: AgentHubError | None = None
    for backend in by_default(hub):
        try:
            return _json(listing.render_version(listing.parse_version(await ask_verb(hub.router, backend, "version"))))
        except AgentHubError as error:
            loop = error if isinstance(error, UpstreamStatus) and error.is_loop else loop
    if loop is not None and caller.hubs:
        tell_loops(caller)
        raise loop
    return _json(listing.render_version(COMPATIBLE_VERSION))


def by_default(hub: Hub) -> list[Backend]:
    """Return all backends, those that are up first, of these the default one."""
    default = hub.router.default
    return sorted(hub.router.backends.values(), key=lambda backend: (not backend.is_up, backend is not default))


async def tags(http_request: web.Request, caller: Caller) -> Response:
    """List the models of all backends."""
    return _json(listing.render_tags(await listed_models(hub_of(http_request), caller)))


async def ps(http_request: web.Request, caller: Caller) -> Response:
    """List what the backends hold in memory; those that do not answer are left out, unless none does."""
    hub = hub_of(http_request)
    backends = list(hub.router.backends.values())
    results = await asyncio.gather(*(list_running(hub.router, backend) for backend in backends), return_exceptions=True)
    entries = [entry for result in results if isinstance(result, list) for entry in result]
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures and len(failures) == len(results):
        raise failures[0]
    return _json(listing.render_running([entry for entry in entries if _may_see(hub, caller, entry)]))


def _may_see(hub: Hub, caller: Caller, entry: Mapping[str, JSON]) -> bool:
    """Say whether the caller may use the model of an entry, under its own name or an alias's."""
    name = str(entry.get("name") or entry.get("model") or "")
    return any(map(caller.rights.may_use, (name, *hub.router.aliases_of(name))))


def _json(body: bytes) -> Response:
    return Response(body=body, headers={"Content-Type": fields.WHOLE_TYPE})
