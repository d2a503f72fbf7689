"""Plain paths come to their handlers without a search, and all others as before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from agenthub.api import direct_routes
from agenthub.api.direct_routes import make_direct
from agenthub.api.routes import ROUTES, add_routes
from agenthub.standin import Standin, running
from tests.hubs import running_hub


async def _searched(request: Any) -> web.StreamResponse:
    raise AssertionError("was searched for")


def test_this_aiohttp_is_known() -> None:
    """Else each request is searched for, which works and takes longer."""
    assert direct_routes.IS_KNOWN
    app = web.Application()
    add_routes(app)
    app.freeze()
    assert make_direct(app, _searched) is not _searched


@pytest.mark.parametrize("obstacle", ["unknown", "middleware", "application within it"])
def test_what_must_be_searched_for(obstacle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where aiohttp does more than to call a handler, it keeps doing that."""
    monkeypatch.setattr(direct_routes, "IS_KNOWN", obstacle != "unknown")

    @web.middleware
    async def middleware(request: web.Request, handler: Any) -> web.StreamResponse:
        raise AssertionError("is not called here")

    app = web.Application(middlewares=[middleware] if obstacle == "middleware" else [])
    add_routes(app)
    if obstacle == "application within it":
        app.add_subapp("/sub", web.Application())
    app.freeze()
    assert make_direct(app, _searched) is _searched


@pytest.mark.parametrize("is_known", [True, False], ids=["direct", "searched for"])
async def test_each_spelling_of_a_path(is_known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the same answer, whichever way it comes to its handler."""
    monkeypatch.setattr(direct_routes, "IS_KNOWN", is_known)
    async with running(Standin()) as upstream, running_hub(upstream) as hub:
        for path in ("/api/version", "/api/version/", "/api/version?a=1", "/api/%76ersion"):
            for method, status in (("GET", 200), ("HEAD", 200), ("POST", 405)):
                async with hub.http.request(method, hub.url + path) as response:
                    assert response.status == status, (method, path)


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in ROUTES if "{" not in path])
async def test_every_plain_route_is_direct(method: str, path: str) -> None:
    """None of them is left to a search."""
    app = web.Application()
    add_routes(app)
    app.freeze()
    handle = make_direct(app, _searched)
    matched: list[Any] = []

    class Request:
        _message = SimpleNamespace(method=method, path=path, headers={})

        @property
        def headers(self) -> Any:
            matched.append(self)
            raise KeyboardInterrupt  # the handler has it; what it does is for other tests

    with pytest.raises(KeyboardInterrupt):
        await handle(Request())
    assert matched[0]._match_info.route.method == method
