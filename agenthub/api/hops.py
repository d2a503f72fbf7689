"""The hops of a request that comes in: who has sent it on already, and whether it has come full circle."""

from __future__ import annotations

import structlog
from aiohttp import web

from agenthub.api.hub import Hub
from agenthub.errors import LoopDetected
from agenthub.hops import HOPS, LOOPS, Hops
from agenthub.middleware import Caller

_log = structlog.get_logger("agenthub")


def read_hops(hub: Hub, http_request: web.Request, caller: Caller, most: int) -> None:
    """Keep what ``Via`` says for all that is asked on behalf of the request; raise LoopDetected.

    The first refusal of a hub is logged, the others would only repeat it.
    """
    try:
        hops = Hops.parse(http_request.headers.getall("Via"), hub.router.hub_id, most)
    except LoopDetected as error:
        if not hub.has_refused_loop:
            hub.has_refused_loop = True
            _log.warning("agenthub.loop_refused", request_id=caller.request_id, error=str(error))
        raise
    HOPS.set(hops)
    caller.hubs = hops.hubs


def tell_loops(caller: Caller) -> None:
    """Have the answer to another hub say by which backends its request would have come back."""
    hops = HOPS.get()
    if hops is not None and hops.hubs and hops.loops:
        caller.reply_headers = {**caller.reply_headers, LOOPS: hops.header}
