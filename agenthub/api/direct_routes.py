"""Direct routes: a request to a plain path comes to its handler without a search.

aiohttp looks up the route of each request, though a route without variables gives the same match each time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import web

RequestHandler: TypeAlias = Callable[[Any], Awaitable[web.StreamResponse]]


IS_KNOWN = "_match_info" in vars(web.Request)
"""True where aiohttp's requests keep their match as those of 3.14 do; else its application finds each handler."""


def make_direct(app: web.Application, handle: RequestHandler) -> RequestHandler:
    """Return ``handle``, except that requests for the plain paths of ``app`` go to their handlers at once.

    The rest goes to ``handle`` as before: paths with variables or a query, and what waits for ``100 Continue``.
    """
    if not IS_KNOWN or getattr(app, "_run_middlewares", True) or getattr(app, "_subapps", True):
        return handle
    matches: dict[tuple[str, str], tuple[web.UrlMappingMatchInfo, RequestHandler]] = {}
    for resource in app.router.resources():
        if type(resource) is web.PlainResource:
            for route in resource:
                match = web.UrlMappingMatchInfo({}, route)
                match.add_app(app)
                match.freeze()
                matches[route.method, resource.canonical] = (match, route.handler)

    def handle_directly(request: Any) -> Awaitable[web.StreamResponse]:
        message = request._message
        found = matches.get((message.method, message.path))
        if found is None or "Expect" in message.headers:
            return handle(request)
        request._match_info, handler = found
        return handler(request)

    return handle_directly
