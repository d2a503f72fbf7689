"""Web middleware: who asks, under which id, and with which wishes in the headers."""

from __future__ import annotations

import os
import re

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from agenthub.api.errors import is_openai
from agenthub.middleware import Caller

CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRUE = frozenset({"true", "1", "yes", "on"})


@web.middleware
async def bind_context(http_request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the Caller on the request, bind its id to every log line, and send the id back."""
    caller = make_caller(http_request)
    http_request[CALLER] = caller
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=caller.request_id)
    response = await handler(http_request)
    if not response.prepared:
        response.headers["X-Request-Id"] = caller.request_id
    return response


def make_caller(http_request: web.Request) -> Caller:
    """Return what the headers say. An X-Request-Id that is no plain word is not echoed: it gets a fresh one."""
    headers = http_request.headers
    given = headers.get("X-Request-Id", "")
    directives = headers.get("Cache-Control", "").lower()
    return Caller(
        request_id=given if _ID.fullmatch(given) else os.urandom(12).hex(),
        client=headers.get("X-Client-Name", "")[:128],
        dialect="openai" if is_openai(http_request) else "ollama",
        api_mode=headers.get("X-AgentHub-Api-Mode", ""),
        strict=headers.get("X-AgentHub-Strict", "").lower() in _TRUE,
        no_cache="no-cache" in directives,
        no_store="no-store" in directives,
    )
