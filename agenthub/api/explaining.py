"""``POST /hub/explain``: what would become of a request, and why, without asking any model."""

from __future__ import annotations

import structlog
from aiohttp import web

from agenthub.api.bodies import read_body
from agenthub.api.described import parse_description
from agenthub.api.hub import hub_of
from agenthub.api.responses import Response
from agenthub.dialects import jsontext
from agenthub.middleware import Caller
from agenthub.offload import offload

_SHOWN = 128
_log = structlog.get_logger("agenthub")


async def explain(http_request: web.Request, caller: Caller) -> Response:
    """Answer what the hub would do with the request that the body describes."""
    from agenthub.api.explained import explain_request  # which few processes need, and which knows this route

    body = await read_body(http_request)
    described = await offload(len(body), parse_description, body, http_request.headers.get("Host", "localhost"))
    told = await explain_request(hub_of(http_request), described, caller)
    asked = f"{described.method} {described.path[:_SHOWN]}"
    _log.info("agenthub.explained", request_id=caller.request_id, client=caller.client, asked=asked)
    return Response(body=jsontext.dumps(told), content_type="application/json")
