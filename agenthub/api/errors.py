"""Every failure becomes the asking dialect's error body; nothing else renders a refusal."""

from __future__ import annotations

import math
import re
from typing import cast

import structlog
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from agenthub.api.bodies import BrokenBody
from agenthub.api.described import Described
from agenthub.api.responses import Response
from agenthub.dialects import anthropic
from agenthub.dialects.ollama import fields as ollama_fields
from agenthub.dialects.openai import errors as openai_errors
from agenthub.dialects.openai import fields as openai_fields
from agenthub.errors import (
    AgentHubError,
    DispatchError,
    HubBusy,
    Later,
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


_LONGEST_PATH = 128
_SLASHES = re.compile("/+")
_NOT_YET = {"/v1/messages": "Anthropic's Messages API", "/v1/responses": "OpenAI's Responses API"}
"""APIs whose clients are told so, since their users cannot know it from a path."""


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
    response = _in_dialect(caller, error)
    if isinstance(error, UpstreamStatus):
        response.headers.update(error.headers)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Later | RateLimited):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, DispatchError) and error.is_final:
        # The SDKs would ask twice more at once; the breaker has already said no, or the hub has tried again itself.
        response.headers["x-should-retry"] = "false"
    return response


def _in_dialect(caller: Caller, error: AgentHubError) -> web.Response:
    if caller.dialect == "anthropic":
        response = Response(body=anthropic.render_error(error, caller.request_id), status=error.status)
        # The one header by which Anthropic's SDKs know an id.
        response.headers["request-id"] = caller.request_id
        whole_type = anthropic.WHOLE_TYPE
    elif caller.dialect == "openai":
        response, whole_type = (
            Response(body=openai_errors.render_error(error), status=error.status),
            openai_fields.WHOLE_TYPE,
        )
    else:
        response, whole_type = (
            Response(body=ollama_fields.render_error(error), status=error.status),
            ollama_fields.WHOLE_TYPE,
        )
    response.headers["Content-Type"] = whole_type
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
    """Answer a path that does not exist (404), or not with this method (405, and Allow says with which), and log it."""
    response = await refuse_path(http_request.app.router, http_request, caller)
    if response.status >= 400:
        who = {"request_id": caller.request_id, "client": caller.client, "peer": http_request.remote or ""}
        asked = f"{http_request.method} {http_request.path[:_LONGEST_PATH]}"
        _log.info("agenthub.request_rejected", **who, asked=asked, status=response.status)
    return response


async def refuse_path(router: web.UrlDispatcher, http_request: web.Request, caller: Caller) -> web.Response:
    """Return that answer, by the routes of ``router``; of the request only method and path are read.

    A known path with too many slashes is redirected, as Ollama does: 301, or 307 where a body has to be sent again.
    """
    method, path = http_request.method, http_request.path
    if plain := await _without_slashes(router, method, path):
        return Response(status=301 if method in ("GET", "HEAD") else 307, headers={"Location": plain})
    allowed = await _allowed_methods(router, method, path)
    asked = f"{method} {path[:_LONGEST_PATH]}"
    if not allowed:
        return error_response(caller, NoRoute(404, f"404 page not found: {asked}{_why_not(path)}"))
    methods = ", ".join(sorted(allowed))
    response = error_response(caller, NoRoute(405, f"405 method not allowed: {asked}, allowed: {methods}"))
    response.headers["Allow"] = methods
    return response


async def _without_slashes(router: web.UrlDispatcher, method: str, path: str) -> str:
    """Return the served path that was meant where one slash would do for several; else empty."""
    plain = _SLASHES.sub("/", path)
    is_served = plain != path and method in await _allowed_methods(router, method, plain)
    # As a request line has it: a model's name may have to be escaped.
    return URL.build(path=plain).raw_path if is_served else ""


async def _allowed_methods(router: web.UrlDispatcher, method: str, path: str) -> set[str]:
    asked = cast(web.Request, Described(method, URL.build(path=path), CIMultiDictProxy(CIMultiDict())))
    allowed: set[str] = set()
    for resource in router.resources():
        if resource.canonical != _ANYWHERE:
            allowed |= (await resource.resolve(asked))[1]
    return allowed


def _why_not(path: str) -> str:
    for root, api in _NOT_YET.items():
        if path == root or path.startswith(f"{root}/"):
            return f" (AgentHub does not serve {api} yet)"
    return ""
