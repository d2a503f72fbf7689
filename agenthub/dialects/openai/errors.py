"""Errors in OpenAI's shape, sent and received. Source: API reference "Error codes"."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.canonical import JSON
from agenthub.dialects import jsontext, typed
from agenthub.errors import AgentHubError, RequestError, UnknownModel, UpstreamError, UpstreamStatus


def raise_error(frame: Mapping[str, JSON]) -> None:
    """Raise the error that a frame reports in place of a chunk; vLLM has sent its members without an envelope.

    One that says nothing is no error.
    """
    error = frame if frame.get("object") == "error" else frame.get("error")
    if not error or typed.is_nothing(error):
        return
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        raise UpstreamError(error if isinstance(error, str) else jsontext.dumps(error).decode())
    kind, code, param = (error.get(name) for name in ("type", "code", "param"))
    raise UpstreamStatus(
        502,
        error["message"],
        kind=kind if isinstance(kind, str) else "",
        code=None if code is None else str(code),
        param=param if isinstance(param, str) else None,
    )


_KINDS: Mapping[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    408: ("server_error", "timeout"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    501: ("invalid_request_error", "not_supported"),
    502: ("server_error", "upstream_error"),
    503: ("server_error", "overloaded"),
    504: ("server_error", "timeout"),
    508: ("server_error", "loop_detected"),
}


def render_stream_error(error: AgentHubError) -> bytes:
    """Return the last frame of a stream that broke; no ``[DONE]`` follows it."""
    return b"data: " + render_error(error) + b"\n\n"


def render_error(error: AgentHubError) -> bytes:
    """Return the error object, all four keys always there.

    An upstream's own type, param and code are kept; what it left open follows from its status.
    """
    kind, code = _KINDS.get(
        error.status, ("invalid_request_error", None) if error.status < 500 else ("server_error", None)
    )
    param = error.param if isinstance(error, RequestError | UpstreamStatus) else None
    if isinstance(error, UpstreamStatus):
        missing = error.status == 404 and "model" not in str(error)  # the path, not the model
        given = missing or (error.status < 500 and error.status not in (401, 404, 429))
        kind, code = error.kind or kind, error.code or (None if given else code)
    elif error.status == 404 and not isinstance(error, UnknownModel):
        code = None
    return jsontext.dumps({"error": {"message": str(error), "type": kind, "param": param, "code": code}})
