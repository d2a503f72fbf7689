"""Web middleware: every failure becomes the asking dialect's error body; nothing else renders a refusal."""

from __future__ import annotations

import math

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from agenthub.dialects.ollama import fields as ollama_fields
from agenthub.dialects.openai import fields as openai_fields
from agenthub.errors import AgentHubError, BackendUnavailable, RateLimited, RequestError, TooLarge, UpstreamStatus

_log = structlog.get_logger("agenthub")


class NoRoute(RequestError):
    """No such path, or not with this method."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def is_openai(http_request: web.Request) -> bool:
    """Say whether a path belongs to the OpenAI dialect; all others are answered in Ollama's."""
    return http_request.path.startswith("/v1/") or http_request.path == "/v1"


def error_response(http_request: web.Request, error: AgentHubError) -> web.Response:
    """Return the answer that says what failed, with its status, Retry-After and the asking dialect's body."""
    openai = is_openai(http_request)
    body = (openai_fields if openai else ollama_fields).render_error(error)
    response = web.Response(body=body, status=error.status)
    response.headers["Content-Type"] = openai_fields.WHOLE_TYPE if openai else ollama_fields.WHOLE_TYPE
    if isinstance(error, UpstreamStatus):
        response.headers.update(error.headers)
    if isinstance(error, BackendUnavailable | RateLimited):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, BackendUnavailable):
        # The SDKs would ask twice more at once; the breaker has already said no.
        response.headers["x-should-retry"] = "false"
    return response


@web.middleware
async def render_errors(http_request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn exceptions into answers; one that is not ours is logged with its traceback and told to nobody."""
    try:
        return await handler(http_request)
    except AgentHubError as error:
        return error_response(http_request, error)
    except web.HTTPException as error:
        return _from_aiohttp(http_request, error)
    except Exception:
        _log.exception("agenthub.request_crashed", path=http_request.path)
        return error_response(http_request, AgentHubError("internal error"))


def _from_aiohttp(http_request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    match error:
        case web.HTTPNotFound():
            return error_response(http_request, NoRoute(404, "404 page not found"))
        case web.HTTPMethodNotAllowed():
            response = error_response(http_request, NoRoute(405, "405 method not allowed"))
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return response
        case web.HTTPRequestEntityTooLarge():
            return error_response(http_request, TooLarge("http: request body too large"))
    if error.status < 400:
        raise error
    return error_response(http_request, NoRoute(error.status, error.text or error.reason))
