"""The hub as the handlers see it: what the composition root put together."""

from __future__ import annotations

import asyncio

import attrs
from aiohttp import web

from agenthub.api.access import Access
from agenthub.api.body_budget import BodyBudget, Share
from agenthub.dispatch import Dispatcher
from agenthub.enhancement.enhancer import Enhancer
from agenthub.errors import HubStopping
from agenthub.kept import Kept
from agenthub.middleware import Caller
from agenthub.plugins import Plugins
from agenthub.routing import Router
from agenthub.settings import Settings
from agenthub.shared import Shared


@attrs.define(eq=False)
class Hub:
    """Everything that is made of one configuration."""

    settings: Settings
    plugins: Plugins
    router: Router
    dispatcher: Dispatcher
    kept: Kept = attrs.field(factory=Kept, repr=False)
    shared: Shared | None = None
    has_refused_loop: bool = attrs.field(default=False, init=False)
    running: dict[asyncio.Task[object], Caller] = attrs.field(factory=dict, init=False, repr=False)
    """The requests that it answers, each by its task, until the last byte is with the connection."""

    access: Access = attrs.field(init=False)
    body_budget: BodyBudget = attrs.field(init=False, repr=False)
    forwards_authorization: bool = attrs.field(init=False)
    """True where any backend is to see the client's own Authorization header."""
    enhancer: Enhancer = attrs.field(init=False)
    auto_enhanced: frozenset[str] = attrs.field(init=False)
    """The clients whose prompts are put better unless they say no."""

    def __attrs_post_init__(self) -> None:
        self.access = Access.of(self.settings)
        protection = self.settings.protection
        self.body_budget = self.kept.keep("body budget", None, lambda: BodyBudget(protection))
        self.forwards_authorization = any(backend.forward_authorization for backend in self.settings.backends.values())
        enhancement = self.settings.enhancement
        self.enhancer = Enhancer(self.dispatcher, self.plugins, enhancement.rules, enhancement.model)
        clients = self.settings.clients.items()
        self.auto_enhanced = frozenset([name for name, client in clients if client.auto_enhance])

    def take_over(self) -> None:
        """Have what was kept of the hub before go by the settings of this one, which answers all new requests now."""
        for backend in self.router.backends.values():
            backend.slots.adapt(backend.settings)
        self.body_budget.adapt(self.settings.protection)


@attrs.define
class Serving:
    """What an application serves with. A reload puts another hub in its place; requests on their way keep theirs.

    While it ``is_stopping`` each answer is the last on its connection; when it ``is_closed``, each is a refusal.
    """

    hub: Hub
    is_stopping: bool = False
    is_closed: bool = False
    _loop: asyncio.AbstractEventLoop | None = None

    def enter(self, http_request: web.Request, caller: Caller) -> Hub:
        """Have the request answered by the hub of the moment, to its end; raises HubStopping."""
        # The application lives in one loop; to ask for the running one is a system call before Python 3.12.
        self._loop = self._loop or asyncio.get_running_loop()
        task = asyncio.current_task(self._loop)
        assert task is not None
        hub = http_request[HUB] = self.hub
        hub.running[task] = caller
        task.add_done_callback(hub.running.pop)
        if self.is_closed:
            raise HubStopping
        return hub


SERVING: web.AppKey[Serving] = web.AppKey("serving", Serving)


HUB: web.RequestKey[Hub] = web.RequestKey("hub", Hub)
SHARE: web.RequestKey[Share] = web.RequestKey("share", Share)
"""What the body of the request takes of the budget, where it takes any."""


def hub_of(http_request: web.Request) -> Hub:
    """Return the hub that answers the request: the one that served when it came in."""
    return http_request[HUB]
