"""The hub's own headers, of requests and of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agenthub.api.openapi.schema import Schema, choice, text
from agenthub.modes import AUTO

REQUEST_ID: Mapping[str, Schema] = {
    "X-Request-Id": text(
        "An id for this request, of up to 128 printable ASCII characters without spaces, which the answer and the log "
        "repeat. Any other text is replaced by a fresh id.",
    ),
}

_WISHES: Mapping[str, Schema] = {
    "X-Client-Name": text(
        "Who asks: a name under `clients` in the settings, which may set what holds for it. Where any client has a "
        "key, the key says it."
    ),
    "X-AgentHub-Strict": text("`true` refuses whatever would else be dropped and noted.", examples=["true"]),
    "Cache-Control": text(
        "`no-cache` skips the look-up in the cache, `no-store` the storing as well.", examples=["no-cache"]
    ),
}

_ENHANCE: Mapping[str, Schema] = {
    "X-Enhance": text(
        "`true` has the prompt put better before it is used, `false` leaves it as it is for a client with "
        "`auto_enhance` in the settings.",
        examples=["true"],
    ),
}

_TOLD: Mapping[str, Schema] = {
    "X-AgentHub-Backend": text("The backend that answered, or whose answer was kept."),
    "X-AgentHub-Api-Mode": text("The kind of the adapter that it was asked through."),
    "X-AgentHub-Cache": choice("hit", "miss", "shared", "bypass", about="What the cache had to do with it."),
    "Server-Timing": text("Milliseconds spent in the hub and waiting for the upstream."),
}

_LEFT = {
    "limit": text("The requests that this client may send a minute, if it is limited."),
    "remaining": text("How many more it may send at present."),
}

RATES: Mapping[str, Mapping[str, Schema]] = {
    "ollama": {
        "RateLimit-Limit": _LEFT["limit"],
        "RateLimit-Remaining": _LEFT["remaining"],
        "RateLimit-Reset": text("Seconds until the oldest of the counted requests no longer counts."),
    },
    "openai": {
        "x-ratelimit-limit-requests": _LEFT["limit"],
        "x-ratelimit-remaining-requests": _LEFT["remaining"],
        "x-ratelimit-reset-requests": text(
            "How long until the oldest of the counted requests no longer counts.", examples=["1s", "1m0s"]
        ),
    },
}
"""What each answer to a client that the hub limits carries, by dialect; others see what their upstream says."""

RESPONSE_HEADERS: Mapping[str, Any] = {
    "X-Request-Id": {"required": True, "schema": text("The id of the request: the client's own or a fresh one.")},
    **{name: {"required": True, "schema": schema} for name, schema in _TOLD.items()},
    "X-AgentHub-Dropped": {
        "schema": text("The fields, separated by commas, that the backend's API had no place for and did not get."),
    },
    "X-AgentHub-Enhanced": {
        "schema": text(
            "By which `rule@version` the prompt was put better, or `no: ` and why not.", examples=["chat@1"]
        ),
    },
    "Retry-After": {"schema": text("Seconds until it is worth asking again; an upstream may also name a date.")},
    "WWW-Authenticate": {"required": True, "schema": choice("Bearer", about="How a key is shown.")},
    **{name: {"schema": schema} for rates in RATES.values() for name, schema in rates.items()},
    "x-should-retry": {"schema": choice("false", about="Tells the SDKs not to ask again by themselves.")},
}
"""As they stand in the document's components."""

SECURITY_SCHEMES: Mapping[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A client's key: `clients.NAME.api_key`."},
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same key; `Authorization` may then hold one for the backend, where that is configured.",
    },
}
"""How a client shows its key, as it stands in the document's components."""

TELLING = ("X-Request-Id", *_TOLD, "X-AgentHub-Dropped")
"""What an answer that was dispatched carries; any other has an X-Request-Id only."""


ENHANCES, ENHANCED = ("X-Enhance",), ("X-AgentHub-Enhanced",)
"""What a request with a prompt may carry, and the answer then."""


def make_parameters(api_modes: Sequence[str]) -> dict[str, Any]:
    """Return the header parameters of the document's components; ``api_modes`` are the adapters installed."""
    modes = dict.fromkeys((*api_modes, AUTO))
    mode = choice(*modes, about="The adapter to ask through, before whatever the settings say.")
    schemas = {**REQUEST_ID, **_WISHES, **_ENHANCE, "X-AgentHub-Api-Mode": mode}
    return {name: {"name": name, "in": "header", "schema": schema} for name, schema in schemas.items()}


def header_refs(names: Sequence[str]) -> dict[str, Any]:
    """Return the headers of a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def parameter_refs(asks: bool, hears: Sequence[str] = ()) -> list[Any]:
    """Return the header parameters of an operation; one that is not dispatched takes an id, and what it ``hears``."""
    names = [*REQUEST_ID, *(_WISHES if asks else ()), *(("X-AgentHub-Api-Mode",) if asks else ()), *hears]
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]
