"""The hub as the handlers see it: what the composition root put together."""

from __future__ import annotations

import attrs
from aiohttp import web

from agenthub.dispatch import Dispatcher
from agenthub.kept import Kept
from agenthub.plugins import Plugins
from agenthub.routing import Router
from agenthub.settings import Settings


@attrs.define
class Hub:
    """Everything that is made of one configuration."""

    settings: Settings
    plugins: Plugins
    router: Router
    dispatcher: Dispatcher
    kept: Kept = attrs.field(factory=Kept, repr=False)

    forwards_authorization: bool = attrs.field(init=False)
    """True where any backend is to see the client's own Authorization header."""

    def __attrs_post_init__(self) -> None:
        self.forwards_authorization = any(backend.forward_authorization for backend in self.settings.backends.values())


@attrs.define
class Serving:
    """What an application serves with. A reload puts another hub in its place; requests on their way keep theirs."""

    hub: Hub
    is_stopping: bool = False


SERVING: web.AppKey[Serving] = web.AppKey("serving", Serving)


def hub_of(http_request: web.Request) -> Hub:
    """Return the hub that a request which comes in now is served by."""
    return http_request.app[SERVING].hub
