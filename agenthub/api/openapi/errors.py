"""How requests fail: one response for each status and dialect, in that dialect's shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agenthub.api.openapi.headers import ENHANCED, RATES, header_refs
from agenthub.api.openapi.schema import Schema, given, or_null, ref, text

_SHAPES: Mapping[str, str] = {"ollama": "OllamaError", "openai": "OpenAIError"}

SCHEMAS: Mapping[str, Schema] = {
    "OllamaError": given(
        {"error": text("What went wrong.")},
        {"signin_url": text("Where to sign in, if an Ollama in front of its cloud says so.")},
        "An error in Ollama's shape; in the middle of a stream, its last line.",
    ),
    "OpenAIError": given(
        {
            "error": given(
                {
                    "message": text("What went wrong."),
                    "type": text(examples=["invalid_request_error", "server_error"]),
                    "param": or_null(text("The field at fault, if it is one.")),
                    "code": or_null(text(examples=["model_not_found", "not_supported"])),
                },
                {},
            )
        },
        {},
        "An error in OpenAI's shape; in the middle of a stream, the data of its last event, which no `[DONE]` follows.",
    ),
}

STATUSES: Mapping[int, str] = {
    400: "The request is not what the endpoint takes, or the backend's API cannot do all that it asks for.",
    401: "The hub wants a key, and the one that was shown is none of its clients'.",
    403: "The client may not use this operation or this model. Without a body: the page that asks (Origin) may not "
    "call, or the hub is not known by this name (Host).",
    404: "No backend has the model, or the client may not see it.",
    408: "The client fell silent in the middle of its body; or so said the upstream.",
    413: "The body is larger than `max_body_bytes`.",
    429: "Too many requests: of the client at the hub, or of the hub at the upstream.",
    500: "The upstream failed. Ollama also answers 500 to an option of the wrong type and to an unknown format.",
    501: "The backend's API does not have this operation.",
    502: "The upstream cannot be reached, or its answer is none that its API allows.",
    503: "The hub does not ask the backend at present, since it failed time and again, or has no memory for the body; "
    "the model may be on a backend that is down; or the upstream is busy.",
    504: "The upstream kept silent for too long.",
    508: "The request goes in a circle: by its `Via` it has come back to a hub that sent it, or through too many.",
}
"""The errors that are described by themselves. Any other status of an upstream is kept too."""

GUARDED = (401, 403, 508)
"""How a request fails that the hub does not let in."""
ASKING = (400, 404, 408, 413, 429, 500, 501, 502, 503, 504)
"""How a request fails that is dispatched to a backend."""
_OTHER = "Any other error of the upstream, its status kept."


def error_refs(dialect: str, statuses: Iterable[int], *, any_other: bool) -> dict[str, Any]:
    """Return the error responses of an operation; ``any_other`` adds the one for statuses that only an upstream has."""
    names = [str(status) for status in sorted(statuses)] + (["default"] if any_other else [])
    return {name: {"$ref": f"#/components/responses/{_name(dialect, name)}"} for name in names}


def make_responses() -> dict[str, Any]:
    """Return the error responses of the document's components."""
    return {
        _name(dialect, status): _response(dialect, status, about)
        for dialect in _SHAPES
        for status, about in {**{str(status): about for status, about in STATUSES.items()}, "default": _OTHER}.items()
    }


def _name(dialect: str, status: str) -> str:
    return f"{_SHAPES[dialect]}.{status}"


def _response(dialect: str, status: str, about: str) -> dict[str, Any]:
    waits = ("X-Request-Id", "Retry-After")
    headers = {
        "401": ("X-Request-Id", "WWW-Authenticate"),
        "429": (*waits, *RATES[dialect]),
        "503": (*waits, "x-should-retry"),
        "508": ("X-Request-Id", "x-should-retry"),
        "default": waits,
    }
    return {
        "description": about,
        "headers": header_refs((*headers.get(status, ("X-Request-Id",)), *ENHANCED)),
        "content": {"application/json": {"schema": ref(_SHAPES[dialect])}},
    }
