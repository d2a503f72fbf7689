"""What an answer says of itself in its headers."""

from __future__ import annotations

import time

from agenthub.canonical import Event, Started
from agenthub.middleware import Dispatch, field_names


def make_headers(dispatch: Dispatch, started: Event | None) -> dict[str, str]:
    """Return what the hub tells about a dispatch, and what the upstream may tell its client if it has ``started``."""
    headers = {
        "X-Request-Id": dispatch.caller.request_id,
        "X-AgentHub-Backend": dispatch.backend.name if dispatch.backend is not None else "",
        "X-AgentHub-Api-Mode": dispatch.api_mode,
        "X-AgentHub-Cache": dispatch.cache,
        "Server-Timing": _timing(dispatch),
    }
    if isinstance(started, Started) and started.headers:
        headers |= started.headers
    if dispatch.caller.reply_headers:
        headers |= dispatch.caller.reply_headers
    if dispatch.losses:
        headers["X-AgentHub-Dropped"] = ",".join(field_names(dispatch.losses))
    return headers


def _timing(dispatch: Dispatch) -> str:
    now = time.perf_counter()
    first = dispatch.first_event_at or now
    upstream = first - dispatch.asked_at if dispatch.asked_at is not None else 0.0
    total = now - dispatch.started_at
    return f"hub;dur={1000 * (total - upstream):.2f}, upstream;dur={1000 * upstream:.2f}"
