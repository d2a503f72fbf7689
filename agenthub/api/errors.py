"""Every failure becomes the asking dialect's error body; nothing else renders a refusal."""

from __future__ import annotations

import math

import structlog
from aiohttp import web

from agenthub.api.bodies import BrokenBody
from agenthub.dialects.ollama import fields as ollama_fields
from agenthub.dialects.openai import errors as openai_errors
from agenthub.dialects.openai import fields as openai_fields
from agenthub.errors import (
    AgentHubError,
    BackendUnavailable,
    DispatchError,
    HubBusy,
    HubStopping,
    RateLimited,
    RequestError,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    UpstreamStatus,
)
from agenthub.middleware import Caller

_log = structlog.get_logger("agenthub")


ANYWHERE = r"/{anywhere:[\s\S]*}"
"""The path of the last route, which takes what no other does; to a dot a line break, as in ``%0A``, is nothing."""
_ANYWHERE = "/{anywhere}"


class NoRoute(RequestError):
    """No such path, or not with this method."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def error_response(caller: Caller, error: AgentHubError) -> web.Response:
    """Return the answer that says what failed, with its status, Retry-After and the asking dialect's body."""
    openai = caller.dialect == "openai"
    if openai and isinstance(error, UpstreamStatus) and error.callers_fault and error.status >= 500 and not error.kind:
        # Ollama's status for it, which would have OpenAI's SDKs ask twice more.
        error = UpstreamStatus(400, str(error), headers=error.headers)
    body = (openai_errors if openai else ollama_fields).render_error(error)
    response = web.Response(body=body, status=error.status)
    response.headers["Content-Type"] = openai_fields.WHOLE_TYPE if openai else ollama_fields.WHOLE_TYPE
    if isinstance(error, UpstreamStatus):
        response.headers.update(error.headers)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, BackendUnavailable | HubBusy | HubStopping | RateLimited):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, DispatchError) and error.is_final:
        # The SDKs would ask twice more at once; the breaker has already said no, or the hub has tried again itself.
        response.headers["x-should-retry"] = "false"
    return response


def failure_response(caller: Caller, error: Exception) -> web.Response:
    """Return the answer for any exception; one that is not ours is logged with its traceback and told to nobody."""
    match error:
        case BrokenBody() | HubBusy() | RequestTimeout() | TooLarge():
            # What is left of the body stands where the next request would begin.
            response = error_response(caller, error)
            response.force_close()
            return response
        case AgentHubError():
            return error_response(caller, error)
        case web.HTTPException():
            return error_response(caller, NoRoute(error.status, error.text or error.reason))
    _log.error("agenthub.request_crashed", request_id=caller.request_id, exc_info=error)
    return error_response(caller, AgentHubError("internal error"))


async def no_route(http_request: web.Request, caller: Caller) -> web.Response:
    """Answer a path that does not exist (404), or not with this method (405, and Allow says with which)."""
    return await refuse_path(http_request.app.router, http_request, caller)


async def refuse_path(router: web.UrlDispatcher, http_request: web.Request, caller: Caller) -> web.Response:
    """Return that answer, by the routes of ``router``; of the request only method and path are read."""
    allowed: set[str] = set()
    for resource in router.resources():
        if resource.canonical != _ANYWHERE:
            allowed |= (await resource.resolve(http_request))[1]
    if not allowed:
        return error_response(caller, NoRoute(404, "404 page not found"))
    response = error_response(caller, NoRoute(405, "405 method not allowed"))
    response.headers["Allow"] = ", ".join(sorted(allowed))
    return response
