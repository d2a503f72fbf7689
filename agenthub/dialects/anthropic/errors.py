"""Errors in Anthropic's shape. Source: platform.claude.com/docs, "Errors"."""

from __future__ import annotations

from collections.abc import Mapping

from agenthub.dialects import jsontext
from agenthub.errors import AgentHubError

WHOLE_TYPE = "application/json"
_KINDS: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def render_error(error: AgentHubError, request_id: str) -> bytes:
    """Return the error object, all keys always there; ``request_id`` is that of the answer's headers."""
    kind = _KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return jsontext.dumps({"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": request_id})
