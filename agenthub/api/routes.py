"""One table of every path and its handler, and the one place where HTTP comes in and goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, lru_cache
from typing import TypeAlias, cast

import attrs
from aiohttp import web

from agenthub import __version__
from agenthub.api import enhancing, explaining, health, ollama, openai
from agenthub.api.admission import Admission, end_unread
from agenthub.api.asking import Asks, ask, ask_blob, show, upload_blob
from agenthub.api.context import dialect_of, make_caller
from agenthub.api.described import Described
from agenthub.api.errors import ANYWHERE, failure_response, no_route
from agenthub.api.expecting import expectation
from agenthub.api.hub import SERVING, hub_of
from agenthub.api.openapi import make_document
from agenthub.api.responses import Response, WholeResponse
from agenthub.api.streaming import cut_off
from agenthub.dialects import jsontext
from agenthub.dialects.ollama import CODECS as OLLAMA_CODECS
from agenthub.dialects.ollama import blobs, managing
from agenthub.dialects.openai import CODECS as OPENAI_CODECS
from agenthub.hops import MOST_ASKING_ALL, MOST_HUBS
from agenthub.middleware import Caller

Handler: TypeAlias = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


MANAGING_CODECS = (
    managing.PULL_CODEC,
    managing.PUSH_CODEC,
    managing.CREATE_CODEC,
    managing.COPY_CODEC,
    managing.DELETE_CODEC,
)


async def openapi(http_request: web.Request, caller: Caller) -> Response:
    """Describe this API, as OpenAPI 3.1."""
    return Response(body=_document(tuple(hub_of(http_request).plugins.adapters)), content_type="application/json")


@lru_cache(1)
def _document(api_modes: tuple[str, ...]) -> bytes:
    routes = [(method, path) for method, path, _ in ROUTES if path != ANYWHERE]
    return jsontext.dumps(make_document(routes, api_modes, __version__))


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", ollama.root),
    ("GET", "/api/version", ollama.version),
    ("GET", "/api/tags", ollama.tags),
    ("GET", "/api/ps", ollama.ps),
    ("POST", "/api/show", show),
    *(("POST", path, ask(codec)) for path, codec in OLLAMA_CODECS.items()),
    *((codec.method, codec.path, ask(codec)) for codec in MANAGING_CODECS),
    ("HEAD", f"{blobs.PATH}/{{digest}}", ask_blob),
    ("POST", f"{blobs.PATH}/{{digest}}", upload_blob),
    *(("POST", path, ask(codec)) for path, codec in OPENAI_CODECS.items()),
    ("GET", "/v1/models", openai.models),
    ("GET", r"/v1/models/{id:[\s\S]+}", openai.model),
    ("GET", "/health", health.health),
    ("GET", "/ready", health.ready),
    ("POST", "/hub/enhance", enhancing.enhance),
    ("GET", "/hub/enhancement", enhancing.rules),
    ("GET", "/openapi.json", openapi),
    ("POST", "/hub/explain", explaining.explain),
    ("*", ANYWHERE, no_route),
)
"""Every path with its method and its handler; a GET answers HEAD as well."""
_TAKES_SLASHES = r"[\s\S]"
"""In the paths whose variable takes slashes too, that at the end among them."""
OPEN: frozenset[Handler] = frozenset({health.health, health.ready})
"""What watches the process has no key."""
UNREFUSED: frozenset[Handler] = frozenset({health.health})
"""What only says that the process is up asks nobody, so that it cannot go in a circle; restarts hang on its answer."""
ASKING_ALL: frozenset[Handler] = frozenset(
    {ollama.version, ollama.tags, ollama.ps, openai.models, openai.model, health.ready}
)
"""What asks every backend."""
OPERATIONS: Mapping[Handler, str] = {
    **{handler: handler.operation for _, _, handler in ROUTES if isinstance(handler, Asks)},
    ollama.version: "version",
    ollama.tags: "list",
    ollama.ps: "ps",
    openai.models: "list",
    openai.model: "list",
    enhancing.enhance: "chat",
    enhancing.rules: "chat",
}
"""What a client must be allowed for a handler; the others are for all."""


def add_routes(app: web.Application) -> None:
    """Put every route into ``app``."""
    put_routes(app.router)


def put_routes(router: web.UrlDispatcher) -> Mapping[web.AbstractRoute, Handler]:
    """Put every route into ``router``; return the handler behind each."""
    handlers: dict[web.AbstractRoute, Handler] = {}
    for method, path, handler in ROUTES:
        most_hubs = 0 if handler in UNREFUSED else MOST_ASKING_ALL if handler in ASKING_ALL else MOST_HUBS
        admission = Admission(OPERATIONS.get(handler, ""), handler in OPEN, isinstance(handler, Asks), most_hubs)
        enter = entrance(handler, "" if path == ANYWHERE else dialect_of(path), admission)
        expect = expectation(admission, uploads=isinstance(handler, Asks) and handler.uploads)
        for spelling in _spellings(path):
            if method == "GET":
                route = router.add_get(spelling, enter, expect_handler=expect)
            else:
                route = router.add_route(method, spelling, enter, expect_handler=expect)
            for added in route.resource or ():
                handlers.setdefault(added, handler)
    return handlers


def _spellings(path: str) -> tuple[str, ...]:
    """Return the path with and without a slash at its end.

    Ollama redirects the one to the other (301, 307 for a POST), which not every client follows with its body.
    """
    return (path,) if path == "/" or _TAKES_SLASHES in path else (path, f"{path}/")


@cache
def _described_routes() -> tuple[web.UrlDispatcher, Mapping[web.AbstractRoute, Handler]]:
    router = web.UrlDispatcher()
    handlers = put_routes(router)
    router.freeze()
    return router, handlers


async def find_route(described: Described) -> tuple[web.UrlDispatcher, Handler, Described]:
    """Return the routes, the handler that a described request would come to, and the request with its variables."""
    router, handlers = _described_routes()
    match = await router.resolve(cast(web.Request, described))  # of which only method and path are read
    return router, handlers[match.route], attrs.evolve(described, match_info=match)


def entrance(
    handler: Handler, dialect: str, admission: Admission
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler as aiohttp calls it: it learns who asks, and whatever fails becomes an answer.

    ``dialect`` is that of its path, empty where the path of each request decides.

    A wrapper and no web middleware: aiohttp's chain of these costs more than all that is done here.
    """

    async def enter(http_request: web.Request) -> web.StreamResponse:
        caller = make_caller(http_request.headers, dialect or dialect_of(http_request.path))
        serving = http_request.app[SERVING]
        try:
            hub = serving.enter(http_request, caller)
            refused = await admission.check(hub, http_request, caller)
            if refused is None:
                response = await handler(http_request, caller)
            else:
                response = refused
                end_unread(http_request, response)
        except asyncio.CancelledError:
            if (cut := cut_off(caller)) is None:
                raise
            response = failure_response(caller, cut)
        except Exception as error:
            response = failure_response(caller, error)
            # A dispatch keeps the refusal that it was given, whose traceback has frames that keep the dispatch.
            error.__traceback__ = None
            end_unread(http_request, response)
        if serving.is_stopping and not response.prepared:
            response.force_close()
        if not (response.prepared or isinstance(response, WholeResponse)):
            response.headers["X-Request-Id"] = caller.request_id
            response.headers.update(caller.reply_headers)
        return response

    return enter
