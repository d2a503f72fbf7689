"""Retry-After: how long an upstream that is busy asks to be left alone."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from agenthub.errors import UpstreamStatus

BUSY = frozenset({429, 503})
"""The statuses with which an upstream says that it may be asked later."""


def retry_after_s(failure: Exception) -> float | None:
    """Return how long the upstream asks to be left alone, in seconds; None where it does not say."""
    if not isinstance(failure, UpstreamStatus) or failure.status not in BUSY:
        return None
    told = {name.lower(): value.strip() for name, value in failure.headers.items()}
    try:
        if "retry-after-ms" in told:
            return max(0.0, float(told["retry-after-ms"]) / 1000)
        if "retry-after" not in told:
            return None
        text = told["retry-after"]
        return float(text) if text.isdigit() else max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
