"""``/v1/*``: what the OpenAI API offers beside asking a model something."""

from __future__ import annotations

from aiohttp import web

from agenthub.absence import absence, may_have
from agenthub.api.hub import Hub, hub_of
from agenthub.api.listing import known_models, listed_models
from agenthub.api.responses import Response
from agenthub.canonical import ModelInfo
from agenthub.dialects.openai import fields, listing
from agenthub.errors import UnknownModel
from agenthub.middleware import Caller


async def models(http_request: web.Request, caller: Caller) -> Response:
    """List the models of all backends."""
    return _json(listing.render_models(await listed_models(hub_of(http_request), caller)))


async def model(http_request: web.Request, caller: Caller) -> Response:
    """Describe one model; its id may hold slashes, encoded or not, and is echoed as it was asked for."""
    name = http_request.match_info["id"].rstrip("/")
    await listed_models(hub_of(http_request), caller)
    return _json(listing.render_model(find_model(hub_of(http_request), caller, name), name))


def find_model(hub: Hub, caller: Caller, name: str) -> ModelInfo:
    """Return a model by what is known of it now; raises UnknownModel for one that the caller may not see as well.

    Raises BackendUnavailable where a backend that is down may have it.
    """
    known_models(hub, caller)
    if not caller.rights.may_use(name):
        raise UnknownModel(name)
    found, route = hub.router.find(name), hub.router.route(name)
    if found is None:
        raise absence(hub.router, route, name, may_have(hub.router, route))
    return found


def _json(body: bytes) -> Response:
    return Response(body=body, headers={"Content-Type": fields.WHOLE_TYPE})
