"""The requests that the backend would get, exactly but for their secrets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import attrs

from agenthub.canonical import JSON
from agenthub.dispatch import CHANGING, ask_adapter
from agenthub.explaining.case import Case
from agenthub.explaining.rehearsing import rehearse
from agenthub.middleware import Backend
from agenthub.settings import BackendSettings
from agenthub.upstream.hiding import Hiding
from agenthub.upstream.rehearsal import Sending

_SECRET = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"})
MASK = "********"
_AFTERWARDS = "once that is done, since the backend then has other models"


def explain_upstream(case: Case) -> JSON:
    """Return what would be sent, and by whom it would be answered; where nothing is sent, what a miss would send."""
    backend, adapter = case.dispatch.backend, case.dispatch.adapter
    if backend is None or adapter is None or case.error is not None:
        return None
    request = case.dispatch.request
    rehearsal = rehearse(adapter, lambda adapter: ask_adapter(adapter, request))
    if rehearsal.error is not None:
        case.error = rehearsal.error
        return None
    requests = tell_sendings(rehearsal.sendings, backend)
    if request.operation in CHANGING:
        listing = rehearse(case.dispatcher.router.adapter(backend), lambda adapter: adapter.models())
        requests += [
            {**told, "is_certain": False, "about": _AFTERWARDS} for told in tell_sendings(listing.sendings, backend)
        ]
    return {
        "backend": backend.name,
        "api_mode": case.dispatch.api_mode,
        "is_sent": not case.is_settled,
        "requests": requests,
        "open_end": rehearsal.open_end or None,
    }


def tell_sendings(sendings: Sequence[Sending], backend: Backend) -> list[JSON]:
    """Return requests as the backend would get them, with stars in the place of what is secret."""
    return [{"backend": backend.name, **_told(masked(sending, backend.settings))} for sending in sendings]


def masked(sending: Sending, settings: BackendSettings) -> Sending:
    """Return the request with stars for its secrets: credentials, and each value of the setting ``headers``."""
    secret = _SECRET | {name.lower() for name in settings.headers}
    hiding = Hiding.of(settings)
    headers = tuple(
        (name, _stars(name, value) if name.lower() in secret else hiding.hide_text(value))
        for name, value in sending.headers
    )
    return attrs.evolve(sending, headers=headers, url=hiding.hide_text(sending.url))


def _stars(name: str, value: str) -> str:
    scheme, space, _ = value.partition(" ")
    is_scheme = name.lower().endswith("authorization") and space and scheme.lower() in ("bearer", "basic")
    return f"{scheme} {MASK}" if is_scheme else MASK


def _told(sending: Sending) -> JSON:
    told: dict[str, JSON] = {
        "method": sending.method,
        "url": sending.url,
        "headers": [list(header) for header in sending.headers],
        "is_certain": sending.is_certain,
    }
    if sending.body is None:
        return {**told, "body": None, "about": "the body is passed on as it comes in"}
    try:
        return {**told, "body": sending.body.decode("utf-8")}
    except UnicodeDecodeError:
        return {**told, "body": None, "body_base64": b64encode(sending.body).decode("ascii")}
