"""Admission: what the head of a request decides before anything of its body is read."""

from __future__ import annotations

import attrs
from aiohttp import web

from agenthub.api.body_budget import FREE_BYTES
from agenthub.api.hops import read_hops
from agenthub.api.hub import Hub
from agenthub.errors import AgentHubError
from agenthub.hops import MOST_HUBS
from agenthub.middleware import Caller
from agenthub.rights import EVERYTHING


@attrs.frozen
class Admission:
    """Who may ask for one endpoint: everybody where it ``is_open``, else clients with the right to its ``operation``.

    A refusal of an endpoint that ``is_dispatched`` goes through the middleware, as that of any dispatch does. A request
    that came through more than ``most_hubs`` hubs is refused; 0: none is.
    """

    operation: str = ""
    is_open: bool = False
    is_dispatched: bool = False
    most_hubs: int = MOST_HUBS

    async def check(self, hub: Hub, http_request: web.Request, caller: Caller) -> web.Response | None:
        """Fill in who calls; return an answer that is a bare status, raise AgentHubError for any other refusal."""
        refused = hub.access.admit(http_request, caller, is_open=self.is_open)
        if self.most_hubs and "Via" in http_request.headers:
            read_hops(hub, http_request, caller, self.most_hubs)
        # Most requests stop here: who may do everything and has sent all of the body meets the limits in a moment.
        if refused is None and (caller.rights is not EVERYTHING or not http_request.content.is_eof()):
            await self.check_operation(hub, http_request, caller)
        return refused

    async def check_operation(self, hub: Hub, http_request: web.Request, caller: Caller) -> None:
        """Raise AgentHubError for what the caller, who is known, may not ask, or not at the moment."""
        if not self.operation:
            return
        error: AgentHubError | None = caller.rights.refusal(self.operation)
        if error is None and self.is_dispatched and not http_request.content.is_eof():
            error = await hub.dispatcher.refusal(caller)
        if error is not None and self.is_dispatched:
            await hub.dispatcher.refuse(self.operation, caller, error)
        if error is not None:
            raise error


def end_unread(http_request: web.Request, response: web.StreamResponse) -> None:
    """Have a refusal be the last answer on its connection where much of the body is still to come, or nobody knows.

    aiohttp reads and drops the rest for a while, so that the client comes to read it. After a small body the connection
    goes on.
    """
    length = http_request.content_length
    if not http_request.content.is_eof() and (length is None or length > FREE_BYTES):
        response.force_close()
